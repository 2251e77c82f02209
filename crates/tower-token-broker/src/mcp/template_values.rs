//! The values that a completion names for the variables of a URI template.

use std::{
    collections::{HashMap, hash_map::Entry},
    iter,
};

use super::completion::Argument;
use crate::{json::MemberName, refusal::Reason};

/// The argument whose value counts, where the argument to be completed and those of the context
/// have different values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preferred {
    Argument,
    Context,
    /// The one that has exactly the name of the variable.
    Exact,
}

/// The arguments, found by each name that some reader takes for theirs.
pub(super) struct TemplateValues<'a> {
    argument: Index<'a>,
    context: Index<'a>,
}

impl<'a> TemplateValues<'a> {
    pub(super) fn new(argument: Option<&'a Argument<'a>>, context: &'a [Argument<'a>]) -> Self {
        Self { argument: Index::of(argument), context: Index::of(context) }
    }

    /// Returns the value of a variable, if one is known.
    ///
    /// # Errors
    /// Several arguments of the context may be meant, and their values differ.
    pub(super) fn get(
        &self,
        variable: &str,
        preferred: Preferred,
    ) -> Result<Option<&'a str>, Reason> {
        let name = MemberName::of(variable);
        let [argument, context] = [&self.argument, &self.context].map(|index| index.get(&name));
        let (argument, context) = (argument?, context?);
        Ok(match preferred {
            Preferred::Argument => argument.or(context),
            Preferred::Context => context.or(argument),
            Preferred::Exact => {
                let exact = |index: &Index<'a>| index.exact.get(variable).copied();
                exact(&self.argument).or_else(|| exact(&self.context)).or(argument).or(context)
            }
        })
    }
}

/// Arguments by their names. Each argument is read once, and each variable is looked up in as many
/// places as its name has parts.
#[derive(Default)]
struct Index<'a> {
    exact: HashMap<&'a str, &'a str>,
    wholes: HashMap<String, Value<'a>>,
    /// Also by the names with which a name begins as a path.
    beginnings: HashMap<String, Value<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    One(&'a str),
    Several,
}

impl<'a> Index<'a> {
    fn of(arguments: impl IntoIterator<Item = &'a Argument<'a>>) -> Self {
        let mut index = Self::default();
        for (name, value) in arguments {
            index.exact.insert(name, value);
            let name = MemberName::of(name);
            add(&mut index.wholes, name.whole(), value);
            for beginning in name.beginnings() {
                add(&mut index.beginnings, beginning, value);
            }
        }
        index
    }

    /// Returns the value of the arguments that some reader takes for the one with this name.
    fn get(&self, name: &MemberName) -> Result<Option<&'a str>, Reason> {
        let longer = iter::once(self.beginnings.get(name.whole()));
        let shorter = name.beginnings().map(|beginning| self.wholes.get(beginning));
        let mut found = None;
        for value in longer.chain(shorter).flatten() {
            match (value, found) {
                // J428: each reader would take another of them.
                (Value::Several, _) => return Err(Reason::CaseVariant),
                (Value::One(value), Some(other)) if *value != other => {
                    return Err(Reason::CaseVariant);
                }
                (Value::One(value), _) => found = Some(*value),
            }
        }
        Ok(found)
    }
}

fn add<'a>(index: &mut HashMap<String, Value<'a>>, name: &str, value: &'a str) {
    match index.entry(name.to_owned()) {
        Entry::Vacant(entry) => {
            entry.insert(Value::One(value));
        }
        Entry::Occupied(mut entry) if *entry.get() != Value::One(value) => {
            entry.insert(Value::Several);
        }
        Entry::Occupied(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j428_a_variable_has_the_value_of_any_spelling() {
        let context: Vec<Argument<'_>> = [("o_wner", "x"), ("b.c", "y"), ("ｄ", "z")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let values = TemplateValues::new(None, &context);
        for (variable, value) in [
            ("owner", Some("x")),
            ("OWNER", Some("x")),
            ("owner.id", Some("x")),
            ("b", Some("y")),
            ("b[c]", Some("y")),
            ("b.c.d", Some("y")),
            ("D", Some("z")),
            ("c", None),
            ("", None),
        ] {
            assert_eq!(values.get(variable, Preferred::Exact), Ok(value), "J428 {variable}");
        }
    }

    #[test]
    fn j428_a_variable_with_several_values_is_refused() {
        let of = |context: [(&'static str, &'static str); 2], variable: &str| {
            let context = context.map(|(name, value)| (name.into(), value.into()));
            TemplateValues::new(None, &context)
                .get(variable, Preferred::Context)
                .map(|value| value.map(str::to_owned))
        };
        for (context, variable) in [
            ([("a", "x"), ("A", "y")], "a"),
            ([("a", "x"), ("a_", "y")], "A"),
            ([("a", "x"), ("a.b", "y")], "a"),
            ([("a", "x"), ("a.b", "y")], "a.b"),
            ([("a.b", "x"), ("a.c", "y")], "a"),
        ] {
            assert_eq!(of(context, variable), Err(Reason::CaseVariant), "J428 {context:?}");
        }
        assert_eq!(of([("a", "x"), ("A", "x")], "a"), Ok(Some("x".to_owned())));
        assert_eq!(of([("a", "x"), ("A", "y")], "b"), Ok(None));
        assert_eq!(of([("a.b", "x"), ("a.c", "y")], "a.b"), Ok(Some("x".to_owned())));
    }
}
