//! Writes the members of a record as printable ASCII.

use super::member::{Member, SHA256_SUFFIX};
use crate::{
    clock::Timestamp,
    hex,
    json::push_ascii_json_string,
    principal::{Actor, Principal, Scopes, User},
};

/// The longest text from outside that a record keeps, in bytes. A longer text is truncated, and the
/// SHA-256 of the whole text is recorded next to it.
pub const MAX_TEXT: usize = 256;

/// The longest text set by the operator that a record keeps, in bytes: as long as the longest
/// [`Scopes`](crate::principal::Scopes).
const MAX_SETTING: usize = 16 * 1024;
/// Links of an actor chain that a record keeps.
const MAX_ACTORS: usize = 16;

/// The members between `{"seq":…` and `,"prev":…`, each with a leading comma.
pub(in crate::audit) struct Line<'a>(pub(super) &'a mut Vec<u8>);

impl Line<'_> {
    fn name(&mut self, member: Member) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(member.name().as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// The SHA-256 of a whole text, next to the text that was truncated.
    fn sha256(&mut self, of: Member, sha256: &[u8; 32]) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(of.name().as_bytes());
        self.0.extend_from_slice(SHA256_SUFFIX.as_bytes());
        self.0.extend_from_slice(b"\":\"");
        hex::push(self.0, sha256);
        self.0.push(b'"');
    }

    pub(super) fn flag(&mut self, member: Member) {
        self.name(member);
        self.0.extend_from_slice(b"true");
    }

    pub(super) fn number(&mut self, member: Member, value: u64) {
        self.name(member);
        push_number(self.0, value);
    }

    pub(super) fn time(&mut self, member: Member, at: Timestamp) {
        self.name(member);
        self.0.push(b'"');
        self.0.extend_from_slice(&at.to_rfc_3339());
        self.0.push(b'"');
    }

    pub(super) fn hex(&mut self, member: Member, bytes: &[u8]) {
        self.name(member);
        self.0.push(b'"');
        hex::push(self.0, bytes);
        self.0.push(b'"');
    }

    /// A word from a closed list.
    pub(super) fn word(&mut self, member: Member, word: &'static str) {
        self.name(member);
        push_ascii_json_string(self.0, word);
    }

    /// A text that may come from outside.
    pub(super) fn text(&mut self, member: Member, value: &str) {
        self.shortened(member, &Shortened::new(value, MAX_TEXT));
    }

    /// A text set by the operator.
    pub(super) fn setting(&mut self, member: Member, value: &str) {
        self.shortened(member, &Shortened::new(value, MAX_SETTING));
    }

    /// A text that was shortened before.
    pub(super) fn shortened(&mut self, member: Member, value: &Shortened<impl AsRef<str>>) {
        self.name(member);
        push_ascii_json_string(self.0, value.text.as_ref());
        if let Some(sha256) = &value.sha256 {
            self.sha256(member, sha256);
        }
    }

    /// Scopes, separated by spaces. Sets that were combined may be longer than a setting.
    pub(super) fn scopes(&mut self, member: Member, scopes: &Scopes) {
        let length: usize = scopes.iter().map(|scope| scope.len() + 1).sum();
        if length > MAX_SETTING {
            let all: Vec<&str> = scopes.iter().collect();
            return self.setting(member, &all.join(" "));
        }
        self.name(member);
        self.0.push(b'"');
        for (position, token) in scopes.iter().enumerate() {
            if position > 0 {
                self.0.push(b' ');
            }
            // RFC 6749 §3.3 allows no character in a scope that would have to be escaped.
            self.0.extend_from_slice(token.as_bytes());
        }
        self.0.push(b'"');
    }

    pub(super) fn user(&mut self, user: &User) {
        self.text(Member::Issuer, user.issuer());
        self.text(Member::Subject, user.subject());
    }

    pub(super) fn principal(&mut self, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            // Written once per token, not once per record.
            self.0.extend_from_slice(principal.in_record(|principal| {
                let mut members = Vec::with_capacity(256);
                Line(&mut members).members_of(principal);
                members
            }));
        }
    }

    fn members_of(&mut self, principal: &Principal) {
        self.text(Member::Issuer, principal.issuer());
        self.text(Member::Subject, principal.subject());
        self.text(Member::Client, principal.client());
        self.text(Member::Token, principal.token_id());
        if let Some(family) = principal.family() {
            self.text(Member::Family, family);
        }
        if let Some(actor) = principal.actor() {
            self.actors(actor);
        }
    }

    /// The actor chain, the nearest link first. Objects rather than one text, so that no subject
    /// can imitate two links.
    fn actors(&mut self, nearest: &Actor) {
        let chain = || std::iter::successors(Some(nearest), |link| link.before());
        let links = chain().count();
        self.name(Member::Actors);
        push_actors(self.0, chain().take(MAX_ACTORS));
        if links > MAX_ACTORS {
            let mut whole = Vec::new();
            push_actors(&mut whole, chain());
            self.sha256(Member::Actors, &sha256(&whole));
        }
        self.number(Member::ActorLinks, links as u64);
    }
}

fn push_actors<'a>(array: &mut Vec<u8>, chain: impl Iterator<Item = &'a Actor>) {
    array.push(b'[');
    for (position, link) in chain.enumerate() {
        if position > 0 {
            array.push(b',');
        }
        let members_at = array.len();
        Line(array).user(link.user());
        // An object's first member has no comma before it.
        if let Some(comma) = array.get_mut(members_at) {
            *comma = b'{';
        }
        array.push(b'}');
    }
    array.push(b']');
}

/// A text as a record keeps it: with the SHA-256 of the whole if it was truncated. Two long texts
/// with the same beginning stay different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortened<T> {
    text: T,
    sha256: Option<[u8; 32]>,
}

impl<'a> Shortened<&'a str> {
    pub(super) fn new(text: &'a str, longest: usize) -> Self {
        if text.len() <= longest {
            return Self { text, sha256: None };
        }
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
        let start = text.get(..end.unwrap_or_default()).unwrap_or_default();
        Self { text: start, sha256: Some(sha256(text.as_bytes())) }
    }

    pub(super) fn to_owned(&self) -> Shortened<Box<str>> {
        Shortened { text: self.text.into(), sha256: self.sha256 }
    }
}

impl Shortened<Box<str>> {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

pub(super) fn push_number(to: &mut Vec<u8>, mut value: u64) {
    // A u64 has at most 20 digits.
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        first = place;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.extend_from_slice(digits.get(first..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut text = Vec::new();
        write(&mut Line(&mut text));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 255, 65_536, u64::MAX] {
            assert_eq!(
                written(|line| line.number(Member::Seq, value)),
                format!(",\"seq\":{value}")
            );
        }
    }

    #[test]
    fn truncated_text_has_the_hash_of_the_whole() {
        let whole = format!("{}\u{e9}", "x".repeat(MAX_TEXT - 1));
        let hash = hex::Hex(&sha256(whole.as_bytes())).to_string();
        let start = "x".repeat(MAX_TEXT - 1);
        assert_eq!(
            written(|line| line.text(Member::Name, &whole)),
            format!(",\"name\":\"{start}\",\"name_sha256\":\"{hash}\"")
        );
        let longest = "x".repeat(MAX_TEXT);
        assert_eq!(
            written(|line| line.text(Member::Name, &longest)),
            format!(",\"name\":\"{longest}\"")
        );
    }

    #[test]
    fn long_texts_with_one_beginning_stay_different() {
        let (one, other) = ("x".repeat(400) + "1", "x".repeat(400) + "2");
        let start = "y".repeat(MAX_SETTING);
        let written = |end: &str| {
            let whole = format!("{start}{end}");
            written(|line| {
                line.text(Member::Name, &whole);
                line.setting(Member::Resource, &whole);
            })
        };
        assert_ne!(written(&one), written(&other));
    }

    #[test]
    fn a_long_actor_chain_has_its_length_and_hash() {
        let chain = |links: usize| {
            let nearest = (0..links).fold(None, |before, number| {
                Some(Actor::new(User::new("https://i.example", format!("agent {number}")), before))
            });
            written(|line| line.actors(&nearest.unwrap()))
        };
        assert!(!chain(MAX_ACTORS).contains("actors_sha256"));
        let long = chain(MAX_ACTORS + 4);
        assert!(long.contains(",\"actors_sha256\":\"") && long.ends_with(",\"actor_links\":20"));
        assert_ne!(long, chain(MAX_ACTORS + 5).replace(":21", ":20"));
    }

    #[test]
    fn combined_scopes_are_truncated_like_settings() {
        let scopes = |letter: &str| {
            let all: Vec<_> = (0..1000).map(|number| format!("{letter}{number:011}")).collect();
            Scopes::parse(&all.join(" ")).unwrap()
        };
        let both = scopes("a").union(&scopes("b"));
        let text = written(|line| line.scopes(Member::Scopes, &both));
        assert!(text.len() < MAX_SETTING + 200 && text.contains(",\"scopes_sha256\":\""));
    }
}
