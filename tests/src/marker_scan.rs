//! Searches output for secrets, in every form in which one may leak.
//!
//! Forms: plain, base64 and base64url at every alignment, hexadecimal, percent-encoded,
//! JSON-escaped, UTF-16, and all of these inside gzip. A scan that proves nothing fails: each
//! secret must have been in use, and there must be output to search.

use std::{collections::BTreeSet, io::Read as _};

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose};
use flate2::read::MultiGzDecoder;
use memchr::memmem;

/// Output to search, and secrets that it must not contain.
#[derive(Debug, Default)]
pub struct Scan {
    secrets: Vec<Secret>,
    sources: Vec<(String, Vec<u8>)>,
}

#[derive(Debug)]
struct Secret {
    name: String,
    bytes: Vec<u8>,
    in_play: bool,
}

impl Scan {
    /// Creates an empty scan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret.
    pub fn secret(&mut self, name: &str, secret: &str) -> &mut Self {
        self.secrets.push(Secret {
            name: name.to_owned(),
            bytes: secret.as_bytes().to_vec(),
            in_play: false,
        });
        self
    }

    /// Adds bytes received by the secrets' legitimate recipient. Secrets found in them, in any
    /// form, count as in use.
    pub fn received(&mut self, bytes: &[u8]) -> &mut Self {
        let views = views(bytes, 0);
        for secret in self.secrets.iter_mut().filter(|secret| !secret.in_play) {
            let encodings = encodings(&secret.bytes);
            let mut all = views.iter().flat_map(|(_, bytes)| {
                encodings.iter().map(move |(_, needle)| contains(bytes, needle))
            });
            secret.in_play = all.any(|is_in| is_in);
        }
        self
    }

    /// Adds output to search.
    pub fn source(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.sources.push((name.into(), bytes.into()));
        self
    }

    /// Runs the scan.
    ///
    /// # Errors
    /// Returns one line for each secret found in a source, for each secret that was never in use,
    /// and if there is no output.
    pub fn run(&self) -> Result<(), Vec<String>> {
        // L0: no secret in any output, in any form.
        let mut found = Vec::new();
        if self.secrets.is_empty() || self.sources.iter().all(|(_, bytes)| bytes.is_empty()) {
            found.push("there is nothing to look for, or nothing to look through".to_owned());
        }
        for secret in self.secrets.iter().filter(|secret| !secret.in_play) {
            found.push(format!("{} was never in play", secret.name));
        }
        let needles: Vec<_> = self
            .secrets
            .iter()
            .flat_map(|secret| {
                encodings(&secret.bytes)
                    .into_iter()
                    .map(move |(form, needle)| (secret, form, needle))
            })
            .filter(|(_, _, needle)| !needle.is_empty())
            .collect();
        // One pass for all: a test has many tokens, and a long log at trace level.
        let all = AhoCorasick::new(needles.iter().map(|(_, _, needle)| needle));
        let all = all.map_err(|error| vec![format!("too many secrets: {error}")])?;
        for (source, bytes) in &self.sources {
            for (view, bytes) in views(bytes, 2) {
                let here: BTreeSet<usize> = all
                    .find_overlapping_iter(&bytes)
                    .map(|found| found.pattern().as_usize())
                    .collect();
                found.extend(here.into_iter().filter_map(|index| needles.get(index)).map(
                    |(secret, form, _)| format!("{} is in {source}, {form}{view}", secret.name),
                ));
            }
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}

/// Returns the bytes, their decoded forms, and the same of everything that inflates from them.
fn views(bytes: &[u8], layers: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut views = vec![
        ("", bytes.to_vec()),
        (", percent-encoded", percent_decoded(bytes)),
        (", JSON-escaped", json_unescaped(bytes)),
    ];
    if layers > 0 {
        for at in memmem::find_iter(bytes, &[0x1f, 0x8b, 0x08]).take(64) {
            let mut inflated = Vec::new();
            // Data that inflates before an error is searched, too.
            let inflating =
                MultiGzDecoder::new(&bytes[at..]).take(16 << 20).read_to_end(&mut inflated);
            if inflating.is_ok() || !inflated.is_empty() {
                let inside = self::views(&inflated, layers - 1);
                views.extend(inside.into_iter().map(|(_, bytes)| (", inside gzip", bytes)));
            }
        }
    }
    views
}

fn encodings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text: String = secret.iter().map(|byte| char::from(*byte)).collect();
    let mut forms = vec![
        ("plain", secret.to_vec()),
        ("in hexadecimal", hex.to_uppercase().into_bytes()),
        ("in hexadecimal", hex.into_bytes()),
        ("in UTF-16LE", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("in UTF-16BE", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ];
    for skip in 0..3 {
        let padded = [vec![0; skip], secret.to_vec()].concat();
        for (form, engine) in [
            ("in base64", &general_purpose::STANDARD_NO_PAD),
            ("in base64url", &general_purpose::URL_SAFE_NO_PAD),
        ] {
            let coded = engine.encode(&padded).into_bytes();
            forms.push((form, coded[(skip * 8).div_ceil(6)..padded.len() * 8 / 6].to_vec()));
        }
    }
    forms
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    unescaped(bytes, b"%", 2)
}

fn json_unescaped(bytes: &[u8]) -> Vec<u8> {
    let without_u = unescaped(bytes, b"\\u", 4);
    let mut plain = Vec::with_capacity(without_u.len());
    let mut rest = without_u.as_slice();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        plain.extend_from_slice(before);
        if !matches!(escape.get(1), Some(b'/' | b'"' | b'\\')) {
            plain.push(b'\\');
        }
        rest = &escape[1..];
    }
    plain.extend_from_slice(rest);
    plain
}

/// Replaces each `prefix` and its hexadecimal digits by the byte.
fn unescaped(bytes: &[u8], prefix: &[u8], digits: usize) -> Vec<u8> {
    let finder = memmem::Finder::new(prefix);
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = finder.find(rest) {
        let (before, escape) = rest.split_at(at);
        plain.extend_from_slice(before);
        let code = escape
            .get(prefix.len()..prefix.len() + digits)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| u16::from_str_radix(text, 16).ok())
            .and_then(|code| u8::try_from(code).ok());
        let length = match code {
            Some(code) => {
                plain.push(code);
                prefix.len() + digits
            }
            None => {
                plain.push(escape[0]);
                1
            }
        };
        rest = &escape[length..];
    }
    plain.extend_from_slice(rest);
    plain
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SECRET: &str = "tbm-7Qx/kP+2_vN9";

    fn scan_of(source: &[u8]) -> Result<(), Vec<String>> {
        let mut scan = Scan::new();
        scan.secret("the token", SECRET)
            .received(format!("Bearer {SECRET}").as_bytes())
            .source("the response", source);
        scan.run()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_secret_is_found_in_each_form() {
        let bytes = SECRET.as_bytes();
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json: String =
            SECRET.bytes().map(|byte| format!("\\u{:04X}", u32::from(byte))).collect();
        let mut planted: Vec<(&str, Vec<u8>)> = vec![
            ("plain", bytes.to_vec()),
            ("percent", percent.into_bytes()),
            ("percent in part", SECRET.replace('/', "%2F").replace('+', "%2b").into_bytes()),
            ("JSON", json.into_bytes()),
            ("JSON in part", SECRET.replace('/', "\\/").into_bytes()),
            (
                "hex",
                SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
            ),
            (
                "HEX",
                SECRET.bytes().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes(),
            ),
            ("UTF-16LE", SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("UTF-16BE", SECRET.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            ("gzip", gzip(bytes)),
            ("gzip of base64", gzip(general_purpose::STANDARD.encode(bytes).as_bytes())),
        ];
        for before in ["", "a", "ab"] {
            planted.push((
                "base64",
                general_purpose::STANDARD.encode(format!("{before}{SECRET}!")).into_bytes(),
            ));
            planted.push((
                "base64url",
                general_purpose::URL_SAFE_NO_PAD.encode(format!("{before}{SECRET}!")).into_bytes(),
            ));
        }
        for (form, planted) in planted {
            let around = [b"before ".as_slice(), &planted, b" after"].concat();
            assert!(scan_of(&around).is_err(), "{form}");
        }
    }

    #[test]
    fn innocent_text_is_not_found() {
        for innocent in [
            b"tbm- and 7Qx/kP+2".as_slice(),
            b"%7",
            b"\\u00",
            &gzip(b"nothing"),
            b"\x1f\x8b\x08 broken",
        ] {
            assert_eq!(scan_of(innocent), Ok(()));
        }
    }

    #[test]
    fn a_scan_without_evidence_fails() {
        let mut never_in_play = Scan::new();
        never_in_play.secret("the token", SECRET).received(b"another").source("the response", "x");
        assert_eq!(never_in_play.run(), Err(vec!["the token was never in play".to_owned()]));
        let mut nothing_to_look_through = Scan::new();
        nothing_to_look_through
            .secret("the token", SECRET)
            .received(SECRET.as_bytes())
            .source("the response", "");
        assert!(nothing_to_look_through.run().is_err());
    }
}
