//! Placeholders in place of secrets.

/// Placeholders of examples and templates, without the characters between letters.
const PLACEHOLDERS: &[&str] = &[
    "changeit",
    "changeme",
    "default",
    "dummy",
    "example",
    "fixme",
    "foobar",
    "insert",
    "letmein",
    "none",
    "null",
    "passw0rd",
    "password",
    "placeholder",
    "replaceme",
    "secret",
    "test",
    "todo",
    "token",
    "undefined",
];

/// Returns whether a secret is a placeholder, such as `changeme`, `<your-token>` or `xxxxxxxx`.
// T324, O283: a default secret is known to everyone.
pub(super) fn is_placeholder(secret: &[u8]) -> bool {
    let plain: Vec<u8> = secret
        .iter()
        .filter(|octet| octet.is_ascii_alphanumeric())
        .map(u8::to_ascii_lowercase)
        .collect();
    let Some(first) = plain.first() else { return true };
    let without_digits = || plain.iter().rev().skip_while(|octet| octet.is_ascii_digit()).count();
    let word = plain.get(..without_digits()).unwrap_or_default();
    let is_known = PLACEHOLDERS.iter().any(|known| known.as_bytes() == word);
    let is_for_you = secret.starts_with(b"<") && secret.ends_with(b">")
        || plain.starts_with(b"your")
        || plain.starts_with(b"changethis")
        || plain.starts_with(b"changeme");
    is_known || is_for_you || plain.iter().all(|octet| octet == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t324_placeholders_are_found() {
        for text in [
            "changeme",
            "Change-Me!",
            "change_me_please",
            "password123",
            "<your token>",
            "<x9f2>",
            "YOUR_API_KEY",
            "your-client-secret-here",
            "xxxxxxxxxxxxxxxx",
            "0000000000000000",
            "************",
            "TODO",
            "secret",
        ] {
            assert!(is_placeholder(text.as_bytes()), "T324 {text}");
        }
        for text in ["9f86d081884c7d65", "youth-is-wasted", "tokenizer-8c1f", "secretary-of-state"]
        {
            assert_eq!(is_placeholder(text.as_bytes()), text.starts_with("your"), "T324 {text}");
        }
    }
}
