//! The stack of each protected server: rules, credential source and proxy, on a route of its own.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use token_broker_authority::{Authority, ProtectedServer, client::ConfiguredClient};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_sql::SqlStore;
use token_broker_upstream::{
    Assertion, AuthorizationServer, ClientAuthentication, ClientCredentials, ConnectServer,
    Connector, SignError, StaticSecret, StoredGrants, TokenExchange,
};
use tower_token_broker::{
    Broker, Secret,
    exchange::{BoxProvideCredential, ExchangeLayer, Upstream},
    principal::{Resource, Scopes},
    resource_metadata::ResourceMetadata,
    scope_filter::{PolicyHandle, Rules},
    stack::BrokerLayer,
};

use super::{
    GatewayError, connect, login, policy,
    routes::Stacks,
    tokens::{Verifier, origin, trial_issuer},
};
use crate::configuration::{self, Configuration, Credential, Network, Server, Tokens};

/// The parts that all servers of a gateway share.
pub(super) struct Shared {
    pub(super) broker: Broker,
    pub(super) grants: SqlStore,
    pub(super) verifier: Arc<Verifier>,
    /// The gateway's own authorization server, if users sign in there.
    pub(super) authority: Option<Authority<SqlStore>>,
    /// Connects accounts, and revokes the tokens of disconnected ones.
    pub(super) connector: Connector<SqlStore>,
    /// The policy of each server that there was, by its name and by where its requests go. It
    /// outlives a reload, so that open streams are judged by the new rules, and those to another
    /// upstream by none.
    pub(super) policies: HashMap<String, PolicyHandle>,
}

/// A server that is not on its route yet.
struct Prepared<'a> {
    server: &'a Server,
    rules: Rules,
    credential: BoxProvideCredential,
    proxy: Proxy,
    /// How users connect their accounts there.
    connect: Option<ConnectServer>,
}

/// The protected servers of one configuration.
pub(super) struct Servers {
    /// The stacks by their paths.
    pub(super) stacks: Stacks,
    /// The resources that are served.
    pub(super) resources: BTreeSet<Box<str>>,
    /// The new rules of each server, by its name.
    rules: HashMap<String, Rules>,
    layers: Vec<ServerLayer>,
    /// The servers at which users have accounts.
    connect: Vec<ConnectServer>,
    /// The servers and clients of the gateway's own authorization server.
    login: Option<(Vec<ProtectedServer>, Vec<ConfiguredClient>)>,
}

/// The layers of one server.
pub(super) type ServerLayer =
    BrokerLayer<Arc<Verifier>, PolicyHandle, ExchangeLayer<BoxProvideCredential>>;

impl Shared {
    /// Builds the stacks of all servers. Either all of them are built, or nothing has changed.
    /// Until [`Shared::apply`], existing servers keep their rules.
    pub(super) fn build(&mut self, configuration: &Configuration) -> Result<Servers, GatewayError> {
        // All that can fail comes first.
        let prepared: Vec<_> = configuration
            .servers
            .iter()
            .map(|server| self.prepare(configuration, server))
            .collect::<Result<_, _>>()?;
        let (mut stacks, mut resources) = (Stacks::new(), BTreeSet::new());
        let mut layers = Vec::new();
        for prepared in &prepared {
            let policy = self.policies.entry(target(prepared.server));
            let policy =
                policy.or_insert_with(|| PolicyHandle::new(prepared.rules.clone())).clone();
            for (resource, path) in names_of(configuration, prepared.server)? {
                let layer = self.layer(prepared, &policy, &resource)?;
                stacks.insert(path.into(), layer.layer(prepared.proxy.clone()));
                layers.push(layer);
                resources.insert(resource.as_str().into());
            }
        }
        let (mut rules, mut connect) = (HashMap::new(), Vec::new());
        for prepared in prepared {
            rules.insert(target(prepared.server), prepared.rules);
            connect.extend(prepared.connect);
        }
        let login = match &configuration.tokens {
            Tokens::Login(login) => {
                Some((login::protected(configuration, login)?, login.clients.clone()))
            }
            Tokens::Jwt { .. } | Tokens::Introspection { .. } | Tokens::Trial { .. } => None,
        };
        Ok(Servers { stacks, resources, rules, layers, connect, login })
    }

    /// Puts the new rules into effect, also for open streams, and serves the new metadata. Servers
    /// that are gone allow nothing.
    pub(super) fn apply(&self, servers: &Servers) {
        for (name, policy) in &self.policies {
            policy.replace(servers.rules.get(name).cloned().unwrap_or_default());
        }
        servers.layers.iter().for_each(BrokerLayer::publish_metadata);
        self.connector.replace_servers(servers.connect.iter().cloned());
        if let (Some(authority), Some((protected, clients))) = (&self.authority, &servers.login) {
            authority.replace_servers(protected.clone());
            authority.replace_clients(clients.clone());
        }
    }

    fn prepare<'a>(
        &self,
        configuration: &Configuration,
        server: &'a Server,
    ) -> Result<Prepared<'a>, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Server {
            name: server.name.clone(),
            error: error.to_string(),
        };
        let guard = guard(&server.network).map_err(|error| failed(&error))?;
        let rules = policy::rules(server).map_err(|error| failed(&error))?;
        let proxy = Proxy::new(&guard).map_err(|error| failed(&error))?;
        let connect = match &server.credential {
            Credential::OAuth(oauth) => {
                let names = names_of(configuration, server)?;
                let names = names.into_iter().map(|(resource, _)| resource);
                Some(
                    connect::server(server, oauth, names, &guard)
                        .map_err(|error| failed(&error))?,
                )
            }
            Credential::Static { .. }
            | Credential::ClientCredentials(_)
            | Credential::TokenExchange(_) => None,
        };
        let credential = self.credential(configuration, server, (&guard, connect.as_ref()))?;
        Ok(Prepared { server, rules, credential, proxy, connect })
    }

    fn credential(
        &self,
        configuration: &Configuration,
        server: &Server,
        (guard, connect): (&Guard, Option<&ConnectServer>),
    ) -> Result<BoxProvideCredential, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Server {
            name: server.name.clone(),
            error: error.to_string(),
        };
        let upstream = Upstream::parse(&server.name, &server.upstream.to_string())
            .map_err(|error| failed(&error))?;
        let client = || GuardedClient::new(guard).map_err(|error| failed(&error));
        let broker = &self.broker;
        Ok(match &server.credential {
            Credential::Static { secret, header, scopes } => {
                let mut source = StaticSecret::new(secret.clone(), upstream)
                    .map_err(|error| failed(&error))?
                    .scopes(scopes.clone());
                if let Some(header) = header {
                    source = source.in_header(header.clone());
                }
                BoxProvideCredential::new(source)
            }
            Credential::OAuth(oauth) => BoxProvideCredential::new(match connect {
                // Without pages, grants come from a command.
                Some(connect) if self.authority.is_some() => {
                    StoredGrants::connected(broker, upstream, &self.connector, connect)
                }
                Some(_) | None => {
                    let at = connect::fixed(oauth).map_err(|error| failed(&error))?;
                    StoredGrants::new(broker, self.grants.clone(), upstream, at, client()?)
                }
            }),
            Credential::ClientCredentials(at) => BoxProvideCredential::new(ClientCredentials::new(
                broker,
                upstream,
                authorization_server(at),
                client()?,
            )),
            Credential::TokenExchange(at) => {
                let name = origin(&configuration.public_url);
                let sign = signer(configuration, self.authority.clone())?;
                BoxProvideCredential::new(TokenExchange::new(
                    broker,
                    Assertion::of_caller(&name, sign),
                    upstream,
                    authorization_server(at),
                    client()?,
                ))
            }
        })
    }

    fn layer(
        &self,
        prepared: &Prepared<'_>,
        policy: &PolicyHandle,
        resource: &Resource,
    ) -> Result<ServerLayer, GatewayError> {
        let Prepared { server, credential, .. } = prepared;
        let mut metadata = ResourceMetadata::new().scopes(scopes_of(server));
        metadata = metadata.name(server.title.as_deref().unwrap_or(&server.name));
        self.broker
            .protect(resource.as_str())
            .metadata(metadata)
            .publish_metadata_later()
            .authenticate(Arc::clone(&self.verifier))
            .scope_filter(policy.clone())
            .exchange(credential.clone())
            .build()
            .map_err(|error| GatewayError::Server {
                name: server.name.clone(),
                error: error.to_string(),
            })
    }
}

/// Returns what signs assertions about users of the gateway's own issuer.
fn signer(
    configuration: &Configuration,
    authority: Option<Authority<SqlStore>>,
) -> Result<impl Fn(&str) -> Result<Secret, SignError> + use<>, GatewayError> {
    let trial = match authority {
        Some(_) => None,
        None => Some(trial_issuer(configuration)?),
    };
    Ok(move |claims: &str| {
        let signed = match (&authority, &trial) {
            (Some(authority), _) => authority.sign_jwt(claims),
            (None, Some(issuer)) => issuer.sign_jwt(claims),
            (None, None) => return Err(SignError),
        };
        signed.map_err(|_| SignError)
    })
}

/// Returns what identifies a server and where its requests go. Secrets are not part of it.
fn target(server: &Server) -> String {
    let Server { name, previous_names, upstream, network, credential, .. } = server;
    format!("{name} {previous_names:?} {upstream} {network:?} {credential:?}")
}

/// Returns the resources of a server with their paths: that of its name, and of each former name.
pub(super) fn names_of(
    configuration: &Configuration,
    server: &Server,
) -> Result<Vec<(Resource, String)>, GatewayError> {
    let origin = origin(&configuration.public_url);
    let names = std::iter::once(&server.name).chain(&server.previous_names);
    let of = |name: &String| {
        let path = format!("/{name}/mcp");
        let resource = Resource::parse(&format!("{origin}{path}")).map_err(|error| {
            GatewayError::Server { name: name.clone(), error: error.to_string() }
        })?;
        Ok((resource, path))
    };
    names.map(of).collect()
}

/// Returns the scopes that the rules of a server name.
pub(crate) fn scopes_of(server: &Server) -> Scopes {
    let texts = server.allow.iter().filter_map(|rule| rule.scope.as_deref());
    let all: BTreeSet<_> = texts.flat_map(str::split_whitespace).collect();
    let all: Vec<_> = all.into_iter().collect();
    Scopes::parse(&all.join(" ")).unwrap_or_else(|_| Scopes::none())
}

fn authorization_server(at: &configuration::AuthorizationServer) -> AuthorizationServer {
    let client = match &at.client_secret {
        None => ClientAuthentication::public(&at.client_id),
        Some(secret) if at.secret_in_form => {
            ClientAuthentication::post(&at.client_id, secret.clone())
        }
        Some(secret) => ClientAuthentication::basic(&at.client_id, secret.clone()),
    };
    let mut server = AuthorizationServer::new(&at.issuer, at.token_endpoint.clone(), client)
        .scopes(at.scopes.clone());
    if let Some(resource) = &at.resource {
        server = server.resource(resource);
    }
    if let Some(audience) = &at.audience {
        server = server.audience(audience);
    }
    server
}

/// Returns the client for the identity provider.
pub(super) fn client(configuration: &Configuration) -> Result<GuardedClient, GatewayError> {
    let guard = guard(&configuration.tokens_network).map_err(GatewayError::Tokens)?;
    GuardedClient::new(&guard).map_err(|error| GatewayError::Tokens(error.to_string()))
}

/// Returns the guard of a server's connections.
pub(super) fn guard(network: &Network) -> Result<Guard, String> {
    let mut guard = Guard::new();
    for host in &network.loopback_hosts {
        guard = guard.allow_loopback(host);
    }
    for host in &network.private_hosts {
        guard = guard.allow_private_host(host);
    }
    for (host, port) in &network.plain_http {
        guard = guard.dangerous_allow_http(host, *port);
    }
    for file in &network.trusted_roots {
        for certificate in certificates(file)? {
            guard = guard.trust_root(certificate.to_vec());
        }
    }
    Ok(guard)
}

/// Reads the certificates of a PEM file.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("{}: {why}", file.display());
    let pem = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("no certificate in PEM form".to_owned())),
        false => Ok(certificates),
    }
}
