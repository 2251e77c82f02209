//! The names that a rule applies to.

use http::Method;

use super::{
    call::Call,
    digest::Encoder,
    pattern::{PathTemplate, Pattern},
};
use crate::{limits::Protocol, mcp::Listed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Tool,
    Resource,
    Prompt,
    Method,
    Rpc,
    Http,
}

#[derive(Clone, Debug)]
pub(super) enum Names {
    Patterns(Vec<Pattern>),
    #[cfg(feature = "grpc")]
    Rpc(Box<str>, Vec<Pattern>),
    Path(Method, PathTemplate),
}

/// How strictly names are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// For a denial, in addition to all readings: a trailing slash makes no difference.
    Wide,
    /// For a permission: exactly as written.
    AsWritten,
    /// For a permission of an ambiguous name: patterns do not match.
    Exact,
}

impl Names {
    #[inline]
    pub(super) fn include(&self, call: &Call<'_>, reading: Reading) -> bool {
        match (self, call) {
            (Self::Patterns(patterns), _) => call.name().is_some_and(|name| {
                patterns.iter().any(|pattern| match reading {
                    Reading::Wide | Reading::AsWritten => pattern.matches(name),
                    Reading::Exact => pattern.as_exact() == Some(name),
                })
            }),
            (Self::Path(method, template), Call::Http { method: other, path }) => {
                (*other == method
                    // J424: a server may ignore the case of a method.
                    || (reading == Reading::Wide
                        && method.as_str().eq_ignore_ascii_case(other.as_str())))
                    && match reading {
                        Reading::Wide => template.matches_but_for_a_slash(path),
                        Reading::AsWritten | Reading::Exact => template.matches(path),
                    }
            }
            #[cfg(feature = "grpc")]
            (Self::Rpc(service, methods), Call::Rpc { service: other, method }) => {
                **service == **other && methods.iter().any(|pattern| pattern.matches(method))
            }
            #[cfg(feature = "grpc")]
            (Self::Rpc(..), _) => false,
            (Self::Path(..), _) => false,
        }
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        let patterns = |encoder: &mut Encoder, patterns: &[Pattern]| {
            encoder.count(patterns.len());
            patterns.iter().for_each(|pattern| encoder.text(&pattern.to_text()));
        };
        match self {
            Self::Patterns(names) => {
                encoder.text("names");
                patterns(encoder, names);
            }
            #[cfg(feature = "grpc")]
            Self::Rpc(service, methods) => {
                encoder.text("rpc");
                encoder.text(service);
                patterns(encoder, methods);
            }
            Self::Path(method, template) => {
                encoder.text("path");
                encoder.text(method.as_str());
                template.encode(encoder);
            }
        }
    }

    /// Whether each of the other names is also here, or `*` is.
    pub(super) fn cover(&self, other: &Self) -> bool {
        let all = |here: &[Pattern], there: &[Pattern]| {
            there.iter().all(|name| {
                let covers = |pattern: &Pattern| pattern.is_star() || pattern == name;
                here.iter().any(covers)
            })
        };
        match (self, other) {
            (Self::Patterns(here), Self::Patterns(there)) => !there.is_empty() && all(here, there),
            #[cfg(feature = "grpc")]
            (Self::Rpc(service, here), Self::Rpc(of, there)) => service == of && all(here, there),
            (Self::Path(method, template), Self::Path(of, path)) => {
                method == of && template == path
            }
            _ => false,
        }
    }
}

impl Kind {
    /// Returns the kind of the rules that name this call.
    pub(super) const fn of(call: &Call<'_>) -> Option<Self> {
        match call {
            Call::Tool { .. } => Some(Self::Tool),
            Call::Resource { .. } => Some(Self::Resource),
            Call::Prompt { .. } => Some(Self::Prompt),
            Call::Method { .. } => Some(Self::Method),
            Call::Rpc { .. } => Some(Self::Rpc),
            Call::Http { .. } => Some(Self::Http),
            Call::List { .. } | Call::Protocol { .. } | Call::Response => None,
        }
    }

    /// Returns a word for the digest of the rules.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Method => "method",
            Self::Rpc => "rpc",
            Self::Http => "http",
        }
    }

    /// Whether a stack with this protocol judges calls of this kind.
    pub(super) const fn is_spoken_in(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Mcp => !matches!(self, Self::Rpc | Self::Http),
            Protocol::Http => matches!(self, Self::Http),
            #[cfg(feature = "grpc")]
            Protocol::Grpc(_) => !matches!(self, Self::Http),
        }
    }

    pub(super) const fn is_listed_as(self, of: Listed) -> bool {
        matches!(
            (self, of),
            (Self::Tool, Listed::Tools)
                | (Self::Prompt, Listed::Prompts)
                | (Self::Resource, Listed::Resources | Listed::ResourceTemplates)
        )
    }
}
