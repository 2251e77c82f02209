//! The members of an object of a server that decide.

use crate::json::{JsonError, is_same_as_any};

/// The members of one object that decide. Each may occur once, and in one spelling: readers that
/// ignore case, such as Go's, may take another one for it.
#[derive(Debug)]
pub(crate) struct Decisive<const N: usize> {
    names: [&'static str; N],
    seen: [bool; N],
}

impl<const N: usize> Decisive<N> {
    pub(crate) const fn new(names: [&'static str; N]) -> Self {
        Self { names, seen: [false; N] }
    }

    /// Returns the member that this name is, or `None` if it decides nothing.
    ///
    /// # Errors
    /// The member occurs twice, or in another spelling.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<&'static str>, JsonError> {
        for (known, seen) in self.names.into_iter().zip(&mut self.seen) {
            if known == name {
                return if std::mem::replace(seen, true) {
                    Err(JsonError::DuplicateMember)
                } else {
                    Ok(Some(known))
                };
            }
        }
        let may_be_one = self.names.iter().any(|known| may_be(name, known));
        if may_be_one && is_same_as_any(name, &self.names) {
            return Err(JsonError::DuplicateMember);
        }
        Ok(None)
    }
}

/// Excludes most names cheaply: no spelling is shorter than the name itself, and one of the same
/// length differs in case only.
fn may_be(name: &str, known: &str) -> bool {
    name.len() > known.len() && !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        || name.eq_ignore_ascii_case(known)
        || (name.len() == known.len() && !name.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_occurs_once_in_one_spelling() {
        let mut members = Decisive::new(["tools", "resourceTemplates"]);
        assert_eq!(members.find("content"), Ok(None));
        assert_eq!(members.find("tools"), Ok(Some("tools")));
        assert_eq!(members.find("toolset"), Ok(None));
        assert_eq!(members.find("tool"), Ok(None));
        for twice in [
            "tools",
            "Tools",
            "TOOLS",
            "tool\u{17f}",
            "to_ols",
            "tools ",
            "tools\0",
            "resource_templates",
            "resource-Templates",
            "ResourceTemplates",
            "re\u{17f}ourceTemplates",
            "ｔｏｏｌｓ",
        ] {
            assert_eq!(members.find(twice), Err(JsonError::DuplicateMember), "{twice:?}");
        }
        assert_eq!(members.find("resourceTemplates"), Ok(Some("resourceTemplates")));
    }
}
