//! Decodes documents that were sent with a content coding, although none was requested.

use std::io::{ErrorKind, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

use crate::error::FetchError;

/// Largest number of codings of one document. More are a bomb, not a mistake.
const MOST_CODINGS: usize = 3;

/// Removes the content codings of a document, and returns what could be decoded of it, and whether
/// that is all. Without the field, a document that begins as gzip does is decoded, too: no JSON
/// text begins so.
// X10: each step is decoded within the limit of the body.
pub(crate) fn decode(
    headers: &mut HeaderMap,
    body: Bytes,
    limit: usize,
) -> (Bytes, Result<(), FetchError>) {
    let Some(codings) = codings_of(headers, &body) else {
        return (Bytes::new(), Err(FetchError::ContentCoding));
    };
    if codings.is_empty() || body.is_empty() {
        return (body, Ok(()));
    }
    let (mut decoded, mut ended) = (body, Ok(()));
    for coding in codings.iter().rev() {
        let (text, end) = match coding.as_str() {
            // A body that is not coded although the field states it.
            "gzip" | "x-gzip" if !is_gzip(&decoded) => continue,
            "gzip" | "x-gzip" => read(MultiGzDecoder::new(&*decoded), limit),
            // RFC 9110 §8.4.1.2 means zlib; some servers send raw deflate.
            "deflate" => match read(ZlibDecoder::new(&*decoded), limit) {
                (text, Err(FetchError::ContentCoding)) if text.is_empty() => {
                    read(DeflateDecoder::new(&*decoded), limit)
                }
                read => read,
            },
            _ => (Bytes::new(), Err(FetchError::ContentCoding)),
        };
        decoded = text;
        ended = ended.and(end);
    }
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    (decoded, ended)
}

/// Returns the names of the codings, in the order in which they were applied; `None` if there are
/// too many.
fn codings_of(headers: &HeaderMap, body: &[u8]) -> Option<Vec<String>> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let names = value.to_str().ok()?.split(',').map(|name| name.trim().to_ascii_lowercase());
        codings.extend(names.filter(|name| !name.is_empty() && name != "identity"));
    }
    if codings.is_empty() && is_gzip(body) {
        codings.push("gzip".to_owned());
    }
    (codings.len() <= MOST_CODINGS).then_some(codings)
}

fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(b"\x1f\x8b")
}

/// Reads at most one byte more than the limit, and returns what was read, also if it ends early.
fn read(decoder: impl Read, limit: usize) -> (Bytes, Result<(), FetchError>) {
    let mut decoded = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(one_more).read_to_end(&mut decoded) {
        Ok(_) if decoded.len() > limit => (Bytes::new(), Err(FetchError::TooLarge)),
        Ok(_) => (decoded.into(), Ok(())),
        // What is missing was to follow. After any other error, the text may be another one.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            (decoded.into(), Err(FetchError::ContentCoding))
        }
        Err(_) => (Bytes::new(), Err(FetchError::ContentCoding)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use http::HeaderValue;

    use super::*;

    const LIMIT: usize = 1 << 20;
    const PLAIN: &[u8] = br#"{"refresh_token":"rt-2"}"#;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(codings: &[&'static str], body: Vec<u8>) -> Result<Bytes, FetchError> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let (decoded, ended) = decode(&mut headers, body.into(), LIMIT);
        ended.map(|()| decoded)
    }

    #[test]
    fn what_is_decoded_of_a_document_that_ends_early_is_returned() {
        let coded = gzip(PLAIN);
        let mut headers = HeaderMap::new();
        // Without its last byte, which belongs to the length at the end.
        let cut = Bytes::copy_from_slice(&coded[..coded.len() - 1]);
        let (decoded, ended) = decode(&mut headers, cut, LIMIT);
        assert_eq!((&*decoded, ended), (PLAIN, Err(FetchError::ContentCoding)));
        let mut wrong = coded;
        *wrong.last_mut().unwrap() ^= 1;
        let (decoded, ended) = decode(&mut headers, wrong.into(), LIMIT);
        assert_eq!((&*decoded, ended), (&b""[..], Err(FetchError::ContentCoding)));
        let bomb = gzip(&vec![0; LIMIT + 1]).into();
        let (decoded, ended) = decode(&mut headers, bomb, LIMIT);
        assert_eq!((&*decoded, ended), (&b""[..], Err(FetchError::TooLarge)));
    }

    #[test]
    fn a_coding_that_was_not_requested_is_decoded() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(PLAIN).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(PLAIN).unwrap();
        let members = [gzip(&PLAIN[..9]), gzip(&PLAIN[9..])].concat();
        for (codings, body) in [
            (&["gzip"][..], gzip(PLAIN)),
            (&["x-gzip"], gzip(PLAIN)),
            (&[" GZIP "], gzip(PLAIN)),
            (&[], gzip(PLAIN)),
            (&["identity"], gzip(PLAIN)),
            (&["gzip"], members),
            (&["gzip, gzip"], gzip(&gzip(PLAIN))),
            (&["gzip", "gzip"], gzip(&gzip(PLAIN))),
            (&["deflate"], zlib.finish().unwrap()),
            (&["deflate"], raw.finish().unwrap()),
            (&["gzip"], PLAIN.to_vec()),
            (&[], PLAIN.to_vec()),
            (&["identity"], PLAIN.to_vec()),
        ] {
            assert_eq!(decoded(codings, body).unwrap(), PLAIN, "{codings:?}");
        }
        assert_eq!(decoded(&["gzip"], Vec::new()).unwrap(), "", "a response without content");
    }

    #[test]
    fn x10_a_small_document_does_not_become_a_huge_one() {
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < LIMIT);
        assert_eq!(decoded(&["gzip"], bomb.clone()), Err(FetchError::TooLarge), "X10");
        assert_eq!(decoded(&[], bomb.clone()), Err(FetchError::TooLarge), "X10");
        assert_eq!(decoded(&["gzip, gzip"], gzip(&bomb)), Err(FetchError::TooLarge), "X10");
        assert_eq!(decoded(&["gzip"], gzip(&vec![b' '; LIMIT])).unwrap().len(), LIMIT);
        let most = "gzip, gzip, gzip, gzip";
        assert_eq!(decoded(&[most], gzip(PLAIN)), Err(FetchError::ContentCoding), "X10");
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        let whole = gzip(PLAIN);
        for length in 2..whole.len() {
            let read = decoded(&["gzip"], whole[..length].to_vec());
            assert_eq!(read, Err(FetchError::ContentCoding), "{length}");
        }
        for coding in ["br", "zstd", "compress", "gzip, br", "unknown"] {
            assert_eq!(decoded(&[coding], whole.clone()), Err(FetchError::ContentCoding));
        }
    }
}
