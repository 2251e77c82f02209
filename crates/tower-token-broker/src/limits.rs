//! The protocol of a protected resource, and the limits of size and time that its stack enforces.

use std::time::Duration;

/// The longest name, path or URI whose readings are compared, in bytes.
pub(crate) const LONGEST_NAME: usize = 16 << 10;
/// The most bytes that are read or written while the readings of one name are found, or while one
/// template is expanded. A text of a kilobyte with several readings takes about a tenth of it.
pub(crate) const MOST_NAME_BYTES: usize = 128 << 10;

/// The protocol of a protected resource.
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

/// Options of a stack for gRPC.
#[cfg(feature = "grpc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct GrpcOptions {
    /// Largest number of messages of one stream in each direction; a million by default.
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

/// Limits of one stack. Each has a default.
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
    /// Longest message of a request, in bytes; 1 MiB by default.
    pub max_body: usize,
    /// Longest time for a message to arrive; 30 s by default.
    pub body_timeout: Duration,
    /// Longest JSON response, and longest event of a stream, in bytes; 16 MiB by default.
    pub max_response: usize,
    /// Longest time that a request waits for its credential; 30 s by default. The provider may
    /// continue its work after that.
    pub credential_timeout: Duration,
    /// Longest time that a streamed request body is sent after its response has ended; 10 s by
    /// default. Then it is cut, and recorded as `upload_cut`. In gRPC it is cut at once.
    pub upload_grace: Duration,
    /// Longest time between two frames of a streamed request body, whether the client or the
    /// upstream delays it; 60 s by default. Then it is cut.
    /// For gRPC there is no such limit.
    pub upload_idle_timeout: Duration,
    /// Longest time that the verification of a token takes; 15 s by default. That is longer than
    /// a fetch of remote keys, which has its own timeout.
    pub verify_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            max_response: 16 * 1024 * 1024,
            credential_timeout: Duration::from_secs(30),
            upload_grace: Duration::from_secs(10),
            upload_idle_timeout: Duration::from_secs(60),
            verify_timeout: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// Sets [`Limits::max_body`].
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets [`Limits::body_timeout`].
    pub const fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Sets [`Limits::max_response`].
    pub const fn max_response(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// Sets [`Limits::verify_timeout`].
    pub const fn verify_timeout(mut self, timeout: Duration) -> Self {
        self.verify_timeout = timeout;
        self
    }

    /// Sets [`Limits::credential_timeout`].
    pub const fn credential_timeout(mut self, timeout: Duration) -> Self {
        self.credential_timeout = timeout;
        self
    }

    /// Sets [`Limits::upload_grace`].
    pub const fn upload_grace(mut self, grace: Duration) -> Self {
        self.upload_grace = grace;
        self
    }

    /// Sets [`Limits::upload_idle_timeout`].
    pub const fn upload_idle_timeout(mut self, timeout: Duration) -> Self {
        self.upload_idle_timeout = timeout;
        self
    }
}
