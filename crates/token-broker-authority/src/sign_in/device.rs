//! Device cookies: the browsers in which a user has signed in before.

use std::time::Duration;

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderValue};
use token_broker_store::authority::{LocalAccount, UserName};
use tower_token_broker::clock::Timestamp;

use super::{
    browser_pages::Shared,
    cookie::{self, CookieKind},
};

/// A browser in which one user has signed in before. Only a valid cookie, which is sealed for the
/// name of that user, has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeviceId([u8; OCTETS]);

const OCTETS: usize = 16;
/// Purpose of the seal.
const PURPOSE: &str = "device of a user";
/// Time for which a cookie is valid. Each sign-in sets a new one.
const LIFETIME: Duration = Duration::from_secs(180 * 24 * 60 * 60);

impl DeviceId {
    #[cfg(test)]
    pub(super) const fn for_test(number: u8) -> Self {
        Self([number; OCTETS])
    }
}

impl<S, A> Shared<S, A> {
    /// Returns the device of a browser in which the user with this name has signed in.
    // S525: a cookie of another user is none, and no one else can make one.
    pub(super) fn device(&self, headers: &HeaderMap, name: &UserName) -> Option<DeviceId> {
        let sealed = cookie::read_text(&self.site, headers, CookieKind::Device)?;
        let keys = self.broker.sealing_keys();
        let opened = keys.open_state(PURPOSE, &[&self.issuer, name.as_key()], sealed)?;
        #[expect(clippy::disallowed_methods, reason = "no secret: a number and a time")]
        let (id, sealed_at) = opened.expose().split_first_chunk()?;
        let sealed_at = u64::from_be_bytes(sealed_at.try_into().ok()?);
        let ends = Timestamp::from_unix_seconds(sealed_at).plus(LIFETIME);
        (self.clock().now() < ends).then_some(DeviceId(*id))
    }

    /// Returns the cookie of the browser in which this user has just signed in.
    pub(super) fn device_cookie(&self, account: &LocalAccount) -> Option<HeaderValue> {
        let mut content = [0; OCTETS + 8];
        let (id, sealed_at) = content.split_at_mut(OCTETS);
        // Without random numbers, there is no cookie.
        rand::fill(id).ok()?;
        sealed_at.copy_from_slice(&self.clock().now().unix_seconds().to_be_bytes());
        let bound_to = [&*self.issuer, account.name.as_key()];
        let sealed = self.broker.sealing_keys().seal_state(PURPOSE, &bound_to, &content);
        cookie::set_text(&self.site, CookieKind::Device, &sealed, LIFETIME.as_secs())
    }
}
