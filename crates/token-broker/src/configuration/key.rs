//! Values of a document with their positions.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_spanned::Spanned;
use tower_token_broker::Secret;

/// A value and the position of its first octet.
#[derive(Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: usize,
}

/// The value of a key that may be missing.
pub(crate) struct Key<T>(Option<Located<T>>);

/// A secret in a variable. It is never in the file.
#[derive(Clone)]
pub(crate) struct SecretText(pub(crate) Secret);

impl<T> Key<T> {
    pub(crate) const fn as_located(&self) -> Option<&Located<T>> {
        self.0.as_ref()
    }

    pub(crate) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|located| &located.value)
    }

    pub(crate) fn at(&self) -> Option<usize> {
        self.0.as_ref().map(|located| located.at)
    }

    pub(crate) const fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl<T> Key<Vec<T>> {
    /// Returns the elements, none if the key is missing.
    pub(crate) fn elements(&self) -> &[T] {
        self.value().map_or(&[], Vec::as_slice)
    }
}

impl<T> Default for Key<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let at = spanned.span().start;
        Ok(Self { value: spanned.into_inner(), at })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Located::deserialize(deserializer).map(|located| Self(Some(located)))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::from_text(text)))
    }
}

/// In the schema, a value is what it contains.
macro_rules! is_schema_of {
    ($outer:ty, $inner:ty $(, $parameter:ident)?) => {
        impl$(<$parameter: JsonSchema>)? JsonSchema for $outer {
            fn inline_schema() -> bool {
                <$inner>::inline_schema()
            }

            fn schema_name() -> Cow<'static, str> {
                <$inner>::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$inner>::json_schema(generator)
            }
        }
    };
}

is_schema_of!(Located<T>, T, T);
is_schema_of!(Key<T>, T, T);
is_schema_of!(SecretText, String);
