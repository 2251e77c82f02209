//! The request that is sent to the upstream.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request, uri};
use http_body::Body;

use super::{
    context::RequestContext, credential::Upstream, layer::Shared, provide::ProvideCredential,
};
#[cfg(feature = "grpc")]
use crate::grpc::metadata as grpc;
use crate::{
    body::RequestBody,
    header_rules,
    refusal::{Reason, Refusal},
    scope_filter::JudgedBody,
};

/// The request to the upstream. It is built again for each attempt.
pub(super) struct Outgoing<'a, P> {
    pub(super) shared: &'a Shared<P>,
    pub(super) context: &'a RequestContext,
    pub(super) parts: &'a request::Parts,
    method: &'a Method,
    uri: Uri,
}

impl<'a, P: ProvideCredential> Outgoing<'a, P> {
    /// Builds method and URI; refuses a request without a valid target before it needs a
    /// credential.
    pub(super) fn build(
        shared: &'a Shared<P>,
        context: &'a RequestContext,
        parts: &'a request::Parts,
    ) -> Result<Self, Refusal> {
        let upstream = shared.provider.upstream();
        // J207: method and path are those that were judged, even if a layer in between changed
        // them.
        let (method, uri) = match context.judged.body() {
            // The handler chose the path; the origin is compared when the credential is applied.
            _ if context.by_handler => (&parts.method, Some(parts.uri.clone())),
            JudgedBody::Http(method, uri) => {
                let path = plain_path(upstream, &shared.mount_path, uri);
                (method, path.and_then(|path| upstream.uri_with(path)))
            }
            JudgedBody::Bytes(_) => (&Method::POST, Some(upstream.uri().clone())),
            JudgedBody::Nothing => (&parts.method, Some(upstream.uri().clone())),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => {
                let path = plain_path(upstream, "", &Uri::from(rpc.path.clone()));
                (&Method::POST, path.and_then(|path| upstream.uri_with(path)))
            }
        };
        let uri = uri.ok_or_else(|| Refusal::new(Reason::RequestDenied))?;
        Ok(Self { shared, context, parts, method, uri })
    }

    pub(super) fn request<B: Body<Data = Bytes>>(
        &self,
        body: RequestBody<B>,
    ) -> Request<RequestBody<B>> {
        let length = body.size_hint().exact();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers();
        // J213: framing describes the body that is sent, and is never copied from the client.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        request.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(length) = length.filter(|length| *length > 0 || *self.method == Method::POST) {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // For inner services, such as a handler or a trace. The proxy sends none of it.
        *request.extensions_mut() = self.parts.extensions.clone();
        request
    }

    fn headers(&self) -> HeaderMap {
        let (forwarded, from) = (&self.shared.forwarded, &self.parts.headers);
        let mut headers = match self.context.judged.body() {
            _ if self.context.by_handler => from.clone(),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => {
                let mut headers = forwarded.of_grpc_request(from);
                if let Some(deadline) = rpc.deadline {
                    // The rest of the client's time.
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    headers.insert(grpc::TIMEOUT, grpc::timeout_value(left));
                }
                headers
            }
            JudgedBody::Bytes(_) | JudgedBody::Nothing => forwarded.of_request(from),
            JudgedBody::Http(..) => {
                let mut headers = forwarded.of_request(from);
                header_rules::forward_in_http(from, &mut headers);
                headers
            }
        };
        if !self.context.by_handler {
            self.context.judged.headers().write(&mut headers);
        }
        headers.insert(header::HOST, self.shared.provider.upstream().host().clone());
        // I191: the guard and the filter must be able to read the response.
        header_rules::set_in_request(&mut headers);
        headers
    }
}

/// Returns the path of the upstream followed by the judged path without the mount path. Queries are
/// never merged, because two readers could find different values in the result.
fn plain_path(upstream: &Upstream, mount_path: &str, uri: &Uri) -> Option<uri::PathAndQuery> {
    let rest = match uri.path().strip_prefix(mount_path) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => return None,
    };
    let query = match (upstream.query(), uri.query()) {
        (Some(_), Some(_)) => return None,
        (query, None) | (None, query) => query,
    };
    let base = upstream.path().trim_end_matches('/');
    let mut path = format!("{base}{rest}");
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path.parse().ok()
}
