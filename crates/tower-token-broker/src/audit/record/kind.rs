//! The kinds of records.

use std::fmt;

/// The version of the schema, in each record that starts or continues a chain
/// (`docs/audit-schema.md`).
pub const SCHEMA_VERSION: u32 = 1;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal;)+) => {
        /// The kind of a record. Its members are listed in `docs/audit-schema.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum RecordKind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl RecordKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the word in the record.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the kind with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// The first record of a chain.
    Start = "start";
    /// A process continues a chain that exists.
    Open = "open";
    /// The log was closed in order.
    Close = "close";
    /// A request, job or token request that was open when its segment began.
    Carried = "carried";
    /// A credential is about to be set on an upstream request.
    Intent = "intent";
    /// A request is about to be sent to a token endpoint.
    TokenRequest = "token_request";
    /// The outcome of a request to a token endpoint.
    TokenResult = "token_result";
    /// The end of a request.
    Result = "result";
    /// The end of a background job.
    JobResult = "job_result";
    /// Something was revoked.
    Revoked = "revoked";
    /// A user was blocked.
    Blocked = "blocked";
    /// The block of a user was ended.
    Unblocked = "unblocked";
    /// A revoked grant may be used again.
    GrantRestored = "grant_restored";
    /// A sign-in, successful or failed.
    SignIn = "sign_in";
    /// A user signed out, of one browser or everywhere.
    SignOut = "sign_out";
    /// The password of a local account was set.
    PasswordChanged = "password_changed";
    /// The first local account was created.
    FirstAccount = "first_account";
    /// A user decided whether a client may act for them.
    Consent = "consent";
    /// The broker issued a token.
    TokenIssued = "token_issued";
    /// The broker issued an authorization code.
    CodeIssued = "code_issued";
    /// A client registered itself.
    ClientRegistered = "client_registered";
    /// A token family ended before its time.
    FamilyEnded = "family_ended";
    /// A key was published, to sign broker tokens later.
    KeyPublished = "key_published";
    /// A user connected an account at an upstream.
    Connected = "connected";
    /// A user's connection to an upstream was removed.
    Disconnected = "disconnected";
    /// The outcome of a revocation at the authorization server of an upstream.
    UpstreamRevocation = "upstream_revocation";
    /// An operator's command ran.
    Command = "command";
    /// A part of the configuration was read again.
    Reloaded = "reloaded";
    /// Segments of a chain are about to be removed from the folder.
    SegmentsRemoved = "segments_removed";
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<&str> for RecordKind {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_names_its_kind() {
        for kind in RecordKind::ALL {
            assert_eq!(RecordKind::from_word(kind.as_str()), Some(*kind));
        }
        assert_eq!(RecordKind::from_word("Start"), None);
    }
}
