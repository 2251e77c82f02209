//! What is at hand, who is waited for, who is told.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::sync::Cache;
use parking_lot::Mutex;
use token_broker_outbound::GuardedClient;
use tokio::sync::Semaphore;
use tower_token_broker::{
    audit::Trail,
    clock::Clock,
    exchange::{Credential, CredentialError, Upstream},
    principal::{GrantId, Principal, Scopes},
    tasks::Tasks,
};

use super::{
    Ask,
    attempt::{Attempt, Pause},
    slot::{AtHand, Slot, Token},
};
use crate::{
    authorization_server::AuthorizationServer,
    key::{Key, Parts},
    lifetime::{LONGEST_WAIT, MOST_AT_ONCE, MOST_ENTRIES, MOST_REFUSED},
    scopes,
    single_flight::{Flight, SingleFlight},
};

pub(crate) struct Requested<A>(Arc<Shared<A>>);

/// What nobody asked for in so long is forgotten: a token of that age has mostly ended.
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) struct Shared<A> {
    pub(crate) ask: A,
    pub(super) upstream: Upstream,
    pub(super) server: AuthorizationServer,
    pub(super) client: GuardedClient,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(super) slots: Cache<Key, Arc<Slot>>,
    flights: SingleFlight<(), Landed>,
    /// X03: how many requests may be under way at the token endpoint.
    pub(super) places: Semaphore,
    pub(super) pause: Mutex<Pause>,
    /// Of the last token that came; no two have one.
    pub(super) versions: AtomicU64,
}

/// What came of an attempt, for all who wait.
pub(super) type Landed = Result<Arc<Token>, CredentialError>;

/// What one caller wants.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) key: Key,
    /// The operator's scopes and the rule's: never the client's.
    pub(super) asked: Scopes,
    /// The rule's.
    pub(super) need: Scopes,
}

impl<A: Ask> Requested<A> {
    pub(crate) fn new(ask: A, upstream: Upstream, server: AuthorizationServer, client: GuardedClient) -> Self {
        Self(Arc::new(Shared {
            ask,
            upstream,
            server,
            client,
            clock: Clock::system(),
            tasks: Tasks::new(),
            slots: Cache::builder().max_capacity(MOST_ENTRIES).time_to_idle(IDLE).build(),
            flights: SingleFlight::new(),
            places: Semaphore::new(MOST_AT_ONCE),
            pause: Mutex::default(),
            versions: AtomicU64::new(0),
        }))
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Shared<A>)) -> Self {
        // It has no clones, and no attempt runs before it is finished: nobody else holds it.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            change(shared);
        }
        self
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    pub(crate) fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        match self.0.at_hand(&self.0.wanted(caller, need).key) {
            AtHand::Token { token, is_due: false } => covering(&token, need).ok(),
            AtHand::Token { .. } | AtHand::No(_) | AtHand::Nothing => None,
        }
    }

    pub(crate) async fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> Result<Credential, CredentialError> {
        let shared = &self.0;
        let wanted = shared.wanted(caller, need);
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let landed = async {
            for _ in 0..MOST_REFUSED {
                match shared.at_hand(&wanted.key) {
                    AtHand::Token { token, is_due } => {
                        if is_due {
                            // In the background: this caller and those after it go on with the old one.
                            drop(shared.join(&wanted, caller, trail));
                        }
                        return covering(&token, need);
                    }
                    AtHand::No(no) => return Err(no),
                    AtHand::Nothing => match shared.join(&wanted, caller, trail).landed().await {
                        // By somebody who was faster: look again.
                        Some(Ok(token)) if token.is_refused() => {}
                        Some(Ok(token)) => return covering(&token, need),
                        Some(Err(no)) => return Err(no),
                        None => break,
                    },
                }
            }
            Err(unavailable())
        };
        tokio::time::timeout(LONGEST_WAIT, landed).await.unwrap_or_else(|_| Err(unavailable()))
    }

    /// The version it names and no other: a hundred at once, or one that comes late, are one request.
    pub(crate) fn refused(&self, credential: &Credential) {
        let Some((grant, version)) = credential.grant() else { return };
        let Some(slot) = key_of(grant).and_then(|key| self.0.slots.get(&key)) else { return };
        let is_it = |token: &&Arc<Token>| token.credential.grant().is_some_and(|(_, held)| held == version);
        if let Some(token) = slot.token.as_ref().filter(is_it) {
            token.refuse();
        }
    }
}

impl<A: Ask> Shared<A> {
    fn wanted(&self, caller: &Principal, need: &Scopes) -> Wanted {
        let asked = self.server.operator_scopes().union(need);
        let parts = Parts::of(A::NAME).part(self.upstream.name()).part(self.upstream.origin().as_str());
        let parts = self.server.key(parts).list(asked.iter());
        Wanted { key: self.ask.key(caller, parts).key(), asked, need: need.clone() }
    }

    fn at_hand(&self, key: &Key) -> AtHand {
        self.slots.get(key).map_or(AtHand::Nothing, |slot| slot.at_hand(self.clock.now()))
    }

    /// One at a time for each key: joins the attempt that is under way, or begins it in a task of its own.
    fn join(self: &Arc<Self>, wanted: &Wanted, caller: &Principal, trail: &Trail) -> Flight<(), Landed> {
        self.flights.join(wanted.key, &(), &self.tasks, A::NAME, || {
            let (shared, wanted, caller, trail) = (Arc::clone(self), wanted.clone(), caller.clone(), trail.clone());
            async move { Attempt::new(&shared, &wanted, &caller, &trail).run().await }
        })
    }
}

/// How the audit and a revoke name what is got under this key; the same in each process.
pub(super) fn grant_of(key: &Key) -> GrantId {
    GrantId::new(&URL_SAFE_NO_PAD.encode(key))
}

fn key_of(grant: &GrantId) -> Option<Key> {
    URL_SAFE_NO_PAD.decode(grant.as_str()).ok()?.try_into().ok()
}

fn covering(token: &Token, need: &Scopes) -> Result<Credential, CredentialError> {
    let missing = scopes::missing(need, token.credential.scopes());
    if missing.is_empty() {
        return Ok(token.credential.clone());
    }
    Err(CredentialError::ScopeRequired { missing, connect_url: None })
}

impl<A: fmt::Debug> fmt::Debug for Requested<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requested")
            .field("ask", &self.0.ask)
            .field("upstream", &self.0.upstream)
            .field("server", &self.0.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use token_broker_outbound::Guard;
    use tower_token_broker::{
        audit::AuditLog,
        clock::Timestamp,
        principal::{Resource, TokenTimes, User, Verified},
    };

    use super::*;
    use crate::{
        ClientAuthentication,
        authorization_server::{Denial, Tokens},
        endpoint::{Endpoint, Reply},
    };

    struct Anything;

    impl Ask for Anything {
        const NAME: &'static str = "anything";

        fn key(&self, _: &Principal, parts: Parts) -> Parts {
            parts
        }

        async fn request(
            &self,
            server: &AuthorizationServer,
            _: &Principal,
            asked: &Scopes,
            now: Timestamp,
        ) -> Result<Request<Bytes>, CredentialError> {
            Ok(server.client_credentials_request(asked, now).unwrap())
        }

        fn accepts(&self, _: &Tokens) -> bool {
            true
        }

        fn denied(&self, _: Denial, _: &Scopes) -> CredentialError {
            CredentialError::RefusedByPolicy
        }
    }

    #[tokio::test]
    async fn g149_who_comes_to_the_flight_when_it_has_landed_asks_nobody() {
        for (reply, lands) in [
            (r#"{"access_token":"at","token_type":"Bearer"}"#, Ok(1)),
            (r#"{"error":"invalid_target"}"#, Err(CredentialError::RefusedByPolicy)),
        ] {
            let status = if lands.is_ok() { 200 } else { 400 };
            let endpoint = Endpoint::start(move |_| Reply::Says(status, "", reply.to_owned())).await;
            let client = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
            let authentication = ClientAuthentication::public("broker");
            let server = AuthorizationServer::new("https://i", endpoint.url.parse().unwrap(), authentication);
            let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
            let requested = Requested::new(Anything, upstream, server, client);
            let issued_at = requested.0.clock.now();
            let times = TokenTimes { id: "t", issued_at, expires_at: issued_at };
            let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
            let caller =
                Principal::for_test(&Verified::vouch(User::new("https://i", "ana"), "client", resource, times));
            let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
            let wanted = requested.0.wanted(&caller, &Scopes::none());
            for _ in 0..2 {
                // Past the look at what is at hand: as if that had been before the other's landing.
                let landed = requested.0.join(&wanted, &caller, &trail).landed().await.unwrap();
                assert_eq!(landed.map(|token| token.credential.grant().unwrap().1), lands, "G149");
            }
            assert_eq!(endpoint.posts().len(), 1, "G149");
        }
    }
}
