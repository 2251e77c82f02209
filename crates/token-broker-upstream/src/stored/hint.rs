//! Why a user has no usable grant although the store has one: it is of another server or issuer.

use std::time::Duration;

use parking_lot::Mutex;
use token_broker_store::{Grant, GrantFilter, GrantKey, GrantStore};
use tower_token_broker::{audit::Trail, clock::Moment};

use super::{provider::Shared, refresh::bounded};

/// At most one hint per provider in this time, and no query of the store for another one.
const PAUSE: Duration = Duration::from_secs(30);

/// When a provider gave its last hint.
#[derive(Debug, Default)]
pub(super) struct LastHint(Mutex<Option<Moment>>);

impl LastHint {
    /// Returns whether a hint is due.
    fn is_due(&self, now: Moment) -> bool {
        self.0.lock().is_none_or(|last| now >= last.plus(PAUSE))
    }

    /// Returns whether a hint is due, and notes it.
    fn begin(&self, now: Moment) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| now >= last.plus(PAUSE));
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

// R502
impl<S: GrantStore> Shared<S> {
    /// Logs that the grant of this user is of an authorization server other than the configured
    /// one, or was connected for another host.
    pub(super) fn hint_at_issuer(&self, grant: &Grant, trail: &Trail) {
        if !self.last_hint.begin(self.clock.moment()) {
            return;
        }
        tracing::info!(
            request.id = %trail.request_id(),
            server.name = self.upstream.name(),
            grant.id = grant.id.as_str(),
            grant.issuer = &*grant.authorization_server,
            configured.issuer = self.server.issuer(),
            grant.upstream = grant.upstream.as_deref(),
            configured.upstream = self.upstream.origin().as_str(),
            "the user's grant is of another authorization server or for another host, and was not \
             used; the issuer or the host of this server may have been changed"
        );
    }

    /// Logs that the user has no grant for this server, but one for a server of another name at the
    /// same authorization server.
    pub(super) async fn hint_at_name(&self, key: &GrantKey, trail: &Trail) {
        if !self.last_hint.is_due(self.clock.moment()) {
            return;
        }
        let of_user = GrantFilter::all().user(key.user.clone());
        // The request is refused whether there is a hint or not.
        let Ok(page) = bounded(self.store.list(&of_user)).await else { return };
        let other = page.grants.iter().find(|grant| {
            grant.state.is_usable()
                && *grant.authorization_server == *self.server.issuer()
                && *grant.key.server != *self.upstream.name()
        });
        // Users without any grant do not delay the hint for one who has another.
        if let Some(other) = other.filter(|_| self.last_hint.begin(self.clock.moment())) {
            tracing::info!(
                request.id = %trail.request_id(),
                server.name = self.upstream.name(),
                grant.id = other.id.as_str(),
                grant.server = &*other.key.server,
                "the user has no grant for this server, but one for another name at the same \
                 authorization server; the server may have been renamed"
            );
        }
    }
}
