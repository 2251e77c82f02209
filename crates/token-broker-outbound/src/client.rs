//! Guarded HTTP client: fetches one document of bounded size, such as keys, metadata, or the
//! response of a token endpoint.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use tower_service::Service;

use crate::{
    content_coding,
    error::{FetchError, OutboundError, Sent},
    guard::Guard,
    resolve::GuardedResolver,
    tls, user_agent,
};

/// HTTP client that fetches whole documents: a `tower::Service` from a request to a response that
/// was read to its end. Cheap to clone.
///
/// It has no redirects, cookies, referer, proxy from the environment or retries. It requests no
/// content coding; a document that comes with gzip or deflate anyway is decoded within the limit.
/// Without a `User-Agent` of yours it sends `token-broker/VERSION`.
///
/// # Limits
/// 10 s to connect ([`Guard::connect_timeout`]), 10 s in total, 1 MiB of body ([`FetchLimits`]).
///
/// # Cancellation
/// The connection is closed or the stream reset. The peer may have received the request.
#[derive(Clone)]
pub struct GuardedClient {
    guard: Guard,
    client: reqwest::Client,
    limits: FetchLimits,
}

/// Limits of one fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct FetchLimits {
    /// Time from the call to the last byte; 10 s by default.
    pub total: Duration,
    /// Size of the response body in bytes; 1 MiB by default.
    pub body: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { total: Duration::from_secs(10), body: 1024 * 1024 }
    }
}

impl FetchLimits {
    /// Sets the total time.
    pub const fn total(mut self, bound: Duration) -> Self {
        self.total = bound;
        self
    }

    /// Sets the size of the response body, in bytes.
    pub const fn body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }
}

impl GuardedClient {
    /// Creates a client that obeys this guard.
    ///
    /// # Errors
    /// TLS cannot be configured, for example because of an invalid root certificate.
    pub fn new(guard: &Guard) -> Result<Self, OutboundError> {
        Self::with_limits(guard, FetchLimits::default())
    }

    /// Creates a client with other limits.
    ///
    /// # Errors
    /// As [`GuardedClient::new`].
    pub fn with_limits(guard: &Guard, limits: FetchLimits) -> Result<Self, OutboundError> {
        let config = tls::client_config(guard)?;
        #[expect(clippy::disallowed_methods, reason = "the outbound client")]
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(GuardedResolver(guard.clone()))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(guard.connect_bound())
            .timeout(limits.total)
            .http2_max_header_list_size(64 * 1024)
            .build()
            .map_err(|error| OutboundError::Tls(error.to_string()))?;
        Ok(Self { guard: guard.clone(), client, limits })
    }

    /// Returns the guard.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// See [`FetchError`]. Any status of the peer other than a redirect is a response, not an
    /// error. If it is not a success, and its body is too large, cannot be decoded or is not
    /// complete in time, the response has an empty body.
    ///
    /// # Cancellation
    /// As for the type.
    pub async fn fetch(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let Fetched { mut response, incomplete } =
            self.fetch_within(request, self.limits.total).await?;
        match incomplete {
            None => {}
            Some(error) if response.status().is_success() => return Err(error),
            // X511: the status is known, whatever the body is.
            Some(_) => *response.body_mut() = Bytes::new(),
        }
        Ok(response)
    }

    /// Fetches a document within this time, and at most that of [`FetchLimits::total`], and returns
    /// also one that is not complete, as far as it arrived. A timeout around
    /// [`GuardedClient::fetch`] would lose it.
    ///
    /// # Errors
    /// See [`FetchError`]: there was no status, or it was a redirect.
    ///
    /// # Cancellation
    /// As for the type.
    pub async fn fetch_within(
        &self,
        request: Request<Bytes>,
        bound: Duration,
    ) -> Result<Fetched, FetchError> {
        let (parts, body) = request.into_parts();
        let mut outgoing = reqwest::Request::new(parts.method, self.guard.check_uri(&parts.uri)?);
        *outgoing.headers_mut() = parts.headers;
        outgoing.headers_mut().remove(header::HOST);
        user_agent::set_if_absent(outgoing.headers_mut());
        *outgoing.body_mut() = Some(body.into());
        *outgoing.timeout_mut() = Some(bound.min(self.limits.total));
        let mut incoming = self.client.execute(outgoing).await.map_err(|error| failed(&error))?;
        // C067: a redirect is never followed.
        if incoming.status().is_redirection() {
            return Err(FetchError::Redirect);
        }
        let (read, ended) = read(&mut incoming, self.limits.body).await;
        let mut headers = std::mem::take(incoming.headers_mut());
        let (body, decoded) = content_coding::decode(&mut headers, read, self.limits.body);
        let incomplete = ended.and(decoded).err();
        if incomplete.is_some() {
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
        }
        let mut response = Response::new(body);
        *response.status_mut() = incoming.status();
        *response.headers_mut() = headers;
        Ok(Fetched { response, incomplete })
    }
}

/// A response, and whether its body arrived as a whole. `Debug` does not print the body.
#[non_exhaustive]
#[must_use = "a body may be incomplete"]
pub struct Fetched {
    /// The response. Of a body that cannot be decoded it has nothing.
    pub response: Response<Bytes>,
    /// Why the body is not complete, or not decoded.
    pub incomplete: Option<FetchError>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("status", &self.response.status())
            .field("incomplete", &self.incomplete)
            .finish_non_exhaustive()
    }
}

/// Reads a body of at most `limit` bytes, and returns what arrived of it, and whether it ended.
async fn read(incoming: &mut reqwest::Response, limit: usize) -> (Bytes, Result<(), FetchError>) {
    if incoming
        .content_length()
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit))
    {
        return (Bytes::new(), Err(FetchError::TooLarge));
    }
    let mut read = BytesMut::new();
    loop {
        match incoming.chunk().await {
            Ok(Some(chunk)) if read.len().saturating_add(chunk.len()) > limit => {
                return (read.freeze(), Err(FetchError::TooLarge));
            }
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => return (read.freeze(), Ok(())),
            Err(error) => return (read.freeze(), Err(failed(&error))),
        }
    }
}

impl Service<Request<Bytes>> for GuardedClient {
    type Response = Response<Bytes>;
    type Error = FetchError;
    type Future = FetchFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FetchError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> FetchFuture {
        let client = self.clone();
        FetchFuture(Box::pin(async move { client.fetch(request).await }))
    }
}

impl fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedClient")
            .field("guard", &self.guard)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The future of [`GuardedClient`].
#[must_use = "nothing is fetched until it is polled"]
pub struct FetchFuture(Pin<Box<dyn Future<Output = Result<Response<Bytes>, FetchError>> + Send>>);

impl Future for FetchFuture {
    type Output = Result<Response<Bytes>, FetchError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for FetchFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FetchFuture")
    }
}

fn failed(error: &reqwest::Error) -> FetchError {
    let found = FetchError::of_client(error, error.is_connect());
    if !error.is_timeout() {
        return found;
    }
    if matches!(found, FetchError::NotReached(_)) {
        FetchError::Timeout(Sent::No)
    } else if found == FetchError::BrokenOff {
        FetchError::Timeout(Sent::Maybe)
    } else {
        found
    }
}
