//! Context of a sealed value: the associated data to which it is bound.

/// Context of a sealed value: its purpose, and where it is stored. It is authenticated and not
/// stored: a value opens only in the context in which it was sealed.
///
/// Each part is preceded by its length, so that no two lists of parts are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "does nothing unless a value is sealed in it"]
pub struct SealingContext(Vec<u8>);

/// Version of the formats in this module. Another format has another number.
pub(super) const FORMAT: u8 = 1;

impl SealingContext {
    /// Creates a context of this purpose.
    pub fn new(purpose: &str) -> Self {
        // O273: the version is authenticated, so no value can claim another one.
        Self(Vec::with_capacity(256)).part(&[FORMAT]).text(purpose)
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        self.part(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(self, number: u64) -> Self {
        self.part(&number.to_be_bytes())
    }

    /// Adds octets.
    pub fn part(mut self, part: &[u8]) -> Self {
        self.0.extend((part.len() as u64).to_be_bytes());
        self.0.extend(part);
        self
    }

    /// Returns the associated data.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_lists_of_parts_are_equal() {
        let context = || SealingContext::new("p");
        let contexts = [
            context(),
            context().text(""),
            context().text("").text(""),
            context().text("ab").text("c"),
            context().text("a").text("bc"),
            context().text("abc"),
            context().text("\0\0\0\0\0\0\0\0"),
            context().number(0).number(0),
            context().text("\0\0\0\0\0\0\0\u{1}"),
            context().number(2),
            SealingContext::new("pa").text("b").text("c"),
            SealingContext::new(""),
        ];
        let distinct: HashSet<_> = contexts.iter().map(SealingContext::as_bytes).collect();
        assert_eq!(distinct.len(), contexts.len());
    }
}
