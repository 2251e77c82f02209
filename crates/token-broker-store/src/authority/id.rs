//! IDs of clients, token families and browser sessions. None of them is a secret.

use std::{fmt, sync::Arc};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Creates an ID.
            pub fn new(id: &str) -> Self {
                Self(id.into())
            }

            /// Returns the ID.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// ID of a client (`client_id`, RFC 6749 §2.2), compared octet by octet. Cheap to clone.
    ClientId
}

id! {
    /// ID of a token family, unique in a store. Cheap to clone.
    FamilyId
}

id! {
    /// ID of a browser session, for records and for the codes that were issued in it. It is not
    /// the value of the cookie. Cheap to clone.
    SessionId
}
