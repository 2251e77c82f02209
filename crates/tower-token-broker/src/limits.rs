//! What a protected resource speaks, and the limits of size and time that its stack enforces.

use std::time::Duration;

/// What a protected resource speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// MCP over Streamable HTTP: each message is read and judged.
    #[default]
    Mcp,
    /// Any other HTTP: requests are judged by method and path, bodies are streamed.
    Http,
    /// gRPC: methods that carry MCP are judged by their messages, all others by service and method.
    #[cfg(feature = "grpc")]
    Grpc(GrpcOptions),
}

/// What a stack that speaks gRPC is told beside what all are.
#[cfg(feature = "grpc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct GrpcOptions {
    /// The most messages of one stream in each direction; a million by default.
    pub max_messages: u64,
}

#[cfg(feature = "grpc")]
impl Default for GrpcOptions {
    fn default() -> Self {
        Self { max_messages: 1_000_000 }
    }
}

#[cfg(feature = "grpc")]
impl GrpcOptions {
    /// Sets [`GrpcOptions::max_messages`].
    pub const fn max_messages(mut self, messages: u64) -> Self {
        self.max_messages = messages;
        self
    }
}

/// Limits of one stack. Every limit has a default; set what differs:
///
/// ```
/// use std::time::Duration;
/// use tower_token_broker::limits::Limits;
///
/// let limits = Limits::default().max_body(64 * 1024).body_timeout(Duration::from_secs(5));
/// assert_eq!((limits.max_body, limits.max_response), (65_536, 16 * 1024 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct Limits {
    /// The longest message of a request, in bytes; 1 MiB by default.
    pub max_body: usize,
    /// How long a message may take to arrive; 30 s by default.
    pub body_timeout: Duration,
    /// The longest JSON response, and the longest event of a stream, in bytes; 16 MiB by default.
    pub max_response: usize,
    /// How long a request waits for its credential; 30 s by default. Obtaining the credential
    /// continues regardless.
    pub credential_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            max_response: 16 * 1024 * 1024,
            credential_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Sets the longest message of a request, in bytes.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets how long a message may take to arrive.
    pub const fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Sets the longest JSON response, and the longest event of a stream, in bytes.
    pub const fn max_response(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// Sets how long a request waits for its credential.
    pub const fn credential_timeout(mut self, timeout: Duration) -> Self {
        self.credential_timeout = timeout;
        self
    }
}
