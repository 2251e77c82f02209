//! Limits of a request's headers and target, because not every server has its own, and methods that
//! no stack serves.

use http::{Method, Request};

use crate::refusal::Reason;

/// Largest number of headers.
const MOST_FIELDS: usize = 128;
/// Most bytes of all names and values.
const MOST_BYTES: usize = 64 * 1024;
/// Most bytes of path and query.
const MOST_TARGET_BYTES: usize = 16 * 1024;

/// Refuses a request over a limit, and `CONNECT`.
// M253: before any part of it is examined.
pub(super) fn admit<B>(request: &Request<B>) -> Result<(), Reason> {
    // N467: no revocation ends a tunnel.
    if request.method() == Method::CONNECT {
        return Err(Reason::HttpMethod);
    }
    let fields = request.headers();
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if fields.len() > MOST_FIELDS || bytes > MOST_BYTES || target > MOST_TARGET_BYTES {
        return Err(Reason::HeadersTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m253_a_head_over_a_limit_is_refused() {
        let with = |count: usize, length: usize| {
            let mut request = Request::get("/mcp");
            for number in 0..count {
                request = request.header(format!("x-{number:04}"), "v".repeat(length));
            }
            admit(&request.body(()).unwrap())
        };
        assert_eq!(with(MOST_FIELDS, 10), Ok(()));
        assert_eq!(with(MOST_FIELDS + 1, 10), Err(Reason::HeadersTooLarge));
        assert_eq!(with(1, MOST_BYTES - "x-0000".len()), Ok(()));
        assert_eq!(with(1, MOST_BYTES - "x-0000".len() + 1), Err(Reason::HeadersTooLarge));
        assert_eq!(with(4, MOST_BYTES / 4), Err(Reason::HeadersTooLarge), "all of them together");
        let to = |target: String| admit(&Request::get(target).body(()).unwrap());
        assert_eq!(to("/".repeat(MOST_TARGET_BYTES)), Ok(()));
        assert_eq!(
            to(format!("/?{}", "q".repeat(MOST_TARGET_BYTES - 1))),
            Err(Reason::HeadersTooLarge)
        );
    }
}
