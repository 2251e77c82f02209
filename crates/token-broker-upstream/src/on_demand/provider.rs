//! Serves cached tokens, and coordinates requests for new ones.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::sync::Cache;
use parking_lot::Mutex;
use token_broker_outbound::GuardedClient;
use tower_token_broker::{
    Broker,
    audit::Trail,
    clock::Clock,
    exchange::{Credential, CredentialError, CredentialRequest, Upstream},
    principal::{GrantId, Principal, Scopes},
    tasks::Tasks,
};

use super::{
    RequestToken,
    attempt::Attempt,
    cache_entry::{CacheEntry, Lookup, Token},
    server_pause::ServerPause,
};
use crate::{
    authorization_server::AuthorizationServer,
    cache_key::{Key, Parts},
    lifetime::{LONGEST_WAIT, MOST_ENTRIES, MOST_REFUSED},
    places::Places,
    scopes,
    single_flight::{Flight, SingleFlight},
};

pub(crate) struct OnDemand<A>(Arc<Shared<A>>);

/// Entries that were not used for this time are removed; most of their tokens have ended.
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) struct Shared<A> {
    pub(crate) requester: A,
    pub(super) upstream: Upstream,
    pub(super) server: AuthorizationServer,
    pub(super) client: GuardedClient,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(super) entries: Cache<Key, Arc<CacheEntry>>,
    flights: SingleFlight<(), Landed>,
    pub(super) places: Places,
    pub(super) pause: Mutex<ServerPause>,
    /// Version of the last token. Each token has its own.
    pub(super) versions: AtomicU64,
}

/// Outcome of an attempt, for all callers that wait for it.
pub(super) type Landed = Result<Arc<Token>, CredentialError>;

/// Token that a caller needs.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) key: Key,
    /// Scopes to request: the operator's and those of the rule, never the client's.
    pub(super) requested: Scopes,
    /// Scopes of the rule.
    pub(super) need: Scopes,
}

impl<A: RequestToken> OnDemand<A> {
    pub(crate) fn new(
        broker: &Broker,
        requester: A,
        upstream: Upstream,
        server: AuthorizationServer,
        client: GuardedClient,
    ) -> Self {
        Self(Arc::new(Shared {
            places: server.places(),
            requester,
            upstream,
            server,
            client,
            clock: broker.clock().clone(),
            tasks: broker.tasks().clone(),
            entries: Cache::builder().max_capacity(MOST_ENTRIES).time_to_idle(IDLE).build(),
            flights: SingleFlight::new(),
            pause: Mutex::default(),
            versions: AtomicU64::new(0),
        }))
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Shared<A>)) -> Self {
        // There are no clones yet, and no attempt runs before the provider is built.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            change(shared);
        }
        self
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    pub(crate) fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        match self.0.lookup(&self.0.wanted(request).key) {
            Lookup::Token { token, is_due: false } => covering(&token, request.scopes).ok(),
            Lookup::Token { .. } | Lookup::Failed(_) | Lookup::Absent => None,
        }
    }

    pub(crate) async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        let CredentialRequest { caller, scopes: need, trail, .. } = *request;
        let shared = &self.0;
        let wanted = shared.wanted(request);
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let landed = async {
            for _ in 0..MOST_REFUSED {
                match shared.lookup(&wanted.key) {
                    Lookup::Token { token, is_due } => {
                        if is_due {
                            // In the background. Callers use the current token meanwhile.
                            drop(shared.join(&wanted, caller, trail));
                        }
                        return covering(&token, need);
                    }
                    Lookup::Failed(no) => return Err(no),
                    Lookup::Absent => match shared.join(&wanted, caller, trail).landed().await {
                        // Refused by the upstream meanwhile: look again.
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

    /// Marks only the version that was refused: a hundred concurrent refusals, or a late one, cause
    /// one request.
    pub(crate) fn refused(&self, credential: &Credential) {
        let Some((grant, version)) = credential.grant() else { return };
        let Some(entry) = key_of(grant).and_then(|key| self.0.entries.get(&key)) else { return };
        let is_it =
            |token: &&Arc<Token>| token.credential.grant().is_some_and(|(_, held)| held == version);
        if let Some(token) = entry.token.as_ref().filter(is_it) {
            token.refuse(credential.was_accepted());
        }
    }
}

impl<A: RequestToken> Shared<A> {
    fn wanted(&self, request: &CredentialRequest<'_>) -> Wanted {
        let CredentialRequest { caller, account, scopes: need, .. } = *request;
        let requested = self.server.operator_scopes().union(need);
        let parts = Parts::of(A::GRANT_TYPE.as_str())
            .part(self.upstream.name())
            .part(self.upstream.origin().as_str());
        let parts = self.server.key(parts).list(requested.iter());
        Wanted {
            key: self.requester.key(caller, account, parts).key(),
            requested,
            need: need.clone(),
        }
    }

    fn lookup(&self, key: &Key) -> Lookup {
        self.entries.get(key).map_or(Lookup::Absent, |entry| entry.lookup(self.clock.read()))
    }

    /// Joins the attempt for a key that is in progress, or begins one in an owned task.
    fn join(
        self: &Arc<Self>,
        wanted: &Wanted,
        caller: &Principal,
        trail: &Trail,
    ) -> Flight<(), Landed> {
        self.flights.join(wanted.key, &(), &self.tasks, A::GRANT_TYPE.as_str(), || {
            let (shared, wanted, caller, trail) =
                (Arc::clone(self), wanted.clone(), caller.clone(), trail.clone());
            async move { Attempt::new(&shared, &wanted, &caller, &trail).run().await }
        })
    }
}

/// Returns the grant ID of the tokens under this key, for audit and revocation. It is the same in
/// each process.
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
    Err(CredentialError::ScopeRequired { missing })
}

impl<A: fmt::Debug> fmt::Debug for OnDemand<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("requester", &self.0.requester)
            .field("upstream", &self.0.upstream)
            .field("server", &self.0.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use token_broker_outbound::Guard;
    use tower_token_broker::{
        audit::{GrantType, InMemory},
        clock::Timestamp,
        test_util,
    };

    use super::*;
    use crate::{
        ClientAuthentication,
        authorization_server::{Denial, Tokens},
        on_demand::TokenRequest,
        test_endpoint::{Endpoint, Reply},
    };

    struct Anything;

    impl RequestToken for Anything {
        const GRANT_TYPE: GrantType = GrantType::ClientCredentials;
        const IS_PER_USER: bool = false;

        fn key(&self, _: &Principal, _: Option<&str>, parts: Parts) -> Parts {
            parts
        }

        async fn request(
            &self,
            server: &AuthorizationServer,
            _: &Principal,
            requested: &Scopes,
            now: Timestamp,
        ) -> Result<TokenRequest, CredentialError> {
            let request = server.client_credentials_request(requested, now).unwrap();
            Ok(TokenRequest { request, sent: Vec::new() })
        }

        fn accepts(&self, _: &Tokens) -> bool {
            true
        }

        fn denied(&self, _: Denial, _: &Scopes) -> CredentialError {
            CredentialError::RefusedByPolicy
        }
    }

    #[tokio::test]
    async fn g149_a_late_caller_sends_no_second_request() {
        for (reply, lands) in [
            (r#"{"access_token":"at","token_type":"Bearer"}"#, Ok(1)),
            (r#"{"error":"invalid_target"}"#, Err(CredentialError::RefusedByPolicy)),
        ] {
            let status = if lands.is_ok() { 200 } else { 400 };
            let endpoint =
                Endpoint::start(move |_| Reply::Says(status, "", reply.to_owned())).await;
            let client = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
            let authentication = ClientAuthentication::public("broker");
            let server = AuthorizationServer::new(
                "https://i",
                endpoint.url.parse().unwrap(),
                authentication,
            );
            let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
            let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
            let requested = OnDemand::new(&broker, Anything, upstream, server, client);
            let (caller, none) = (test_util::caller("ana"), Scopes::none());
            let operation = test_util::TestCall::tool("get_item", "{}").operation();
            let (trail, _) = Trail::for_test(broker.audit_log());
            let request = CredentialRequest::new(&caller, &none, &operation, &trail);
            let wanted = requested.0.wanted(&request);
            for _ in 0..2 {
                // The cache is not looked at, as if that had happened before the first landed.
                let landed = requested.0.join(&wanted, &caller, &trail).landed().await.unwrap();
                assert_eq!(landed.map(|token| token.credential.grant().unwrap().1), lands, "G149");
            }
            assert_eq!(endpoint.posts().len(), 1, "G149");
        }
    }
}
