//! CORS (Fetch Standard, "CORS protocol"): pages of the allowed origins may send requests and read
//! the responses.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::host_and_origin::at_most_one;

/// The allowed origin whose page sent a request.
#[derive(Clone, Debug)]
pub(super) struct Page(HeaderValue);

impl Page {
    /// Holds an origin that was admitted.
    pub(super) const fn admitted(origin: HeaderValue) -> Self {
        Self(origin)
    }

    /// Lets the page read a response, with all of its headers. Without
    /// `Access-Control-Allow-Credentials`: the browser sends no cookies and no certificate.
    pub(super) fn may_read(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    }
}

/// Returns the response to the preflight of a page that was admitted; `None` for any other request.
/// A preflight has no token: browsers send it without one.
// A500
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Response<Bytes>> {
    let headers = request.headers();
    if *request.method() != Method::OPTIONS
        || !headers.contains_key(header::ORIGIN)
        || headers.contains_key(header::AUTHORIZATION)
    {
        return None;
    }
    let method = at_most_one(headers, &header::ACCESS_CONTROL_REQUEST_METHOD).ok()??;
    let is_sent_by_pages = Method::from_bytes(method.as_bytes())
        .is_ok_and(|method| !matches!(method, Method::CONNECT | Method::TRACE));
    if !is_sent_by_pages {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = response.headers_mut();
    // The request itself is judged when it comes, as any other.
    allowed.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(names) = requested_headers(headers) {
        allowed.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    allowed.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    let vary = "access-control-request-method, access-control-request-headers";
    allowed.append(header::VARY, HeaderValue::from_static(vary));
    Some(response)
}

/// Returns the list of headers that the page will send, if it is a list of names.
fn requested_headers(headers: &HeaderMap) -> Option<&HeaderValue> {
    let names = at_most_one(headers, &header::ACCESS_CONTROL_REQUEST_HEADERS).ok()??;
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    names.as_bytes().split(|byte| *byte == b',').all(is_name).then_some(names)
}

/// Seconds for which a browser may keep the response to a preflight; browsers cap it at two hours.
const MAX_AGE: &str = "7200";

#[cfg(test)]
mod tests {
    use super::*;

    fn options(fields: &[(&str, &str)]) -> Request<()> {
        let request = Request::options("/mcp");
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap()
    }

    #[test]
    fn a500_a_preflight_allows_what_the_page_will_send() {
        let names = "authorization,content-type,mcp-protocol-version, mcp-param-region";
        let response = preflight(&options(&[
            ("origin", "https://inspector.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", names),
        ]))
        .unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "A500");
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, names),
            (header::ACCESS_CONTROL_MAX_AGE, "7200"),
        ] {
            assert_eq!(response.headers()[&name], value, "A500 {name}");
        }
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a500_other_requests_are_no_preflight() {
        let origin = ("origin", "https://inspector.example");
        let method = ("access-control-request-method", "POST");
        for fields in [
            &[origin][..],
            &[method],
            &[origin, method, ("authorization", "Bearer x")],
            &[origin, method, ("access-control-request-method", "GET")],
            &[origin, ("access-control-request-method", "TRACE")],
            &[origin, ("access-control-request-method", "CONNECT")],
            &[origin, ("access-control-request-method", "")],
            &[origin, ("access-control-request-method", "GET, POST")],
        ] {
            assert!(preflight(&options(fields)).is_none(), "A500 {fields:?}");
        }
        let mut post = options(&[origin, method]);
        *post.method_mut() = Method::POST;
        assert!(preflight(&post).is_none(), "A500");
    }

    #[test]
    fn a500_a_list_that_is_no_list_of_names_is_not_echoed() {
        for names in ["a b", "a,", "", "a\u{e9}", "a: b", "a\"b"] {
            let fields = [
                ("origin", "https://inspector.example"),
                ("access-control-request-method", "GET"),
                ("access-control-request-headers", names),
            ];
            let response = preflight(&options(&fields)).unwrap();
            let allowed = response.headers().get(header::ACCESS_CONTROL_ALLOW_HEADERS);
            assert_eq!(allowed, None, "A500 {names:?}");
        }
    }
}
