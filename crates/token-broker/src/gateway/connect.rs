//! The accounts that users connect, as configured.

use std::time::Duration;

use token_broker_outbound::{Guard, GuardedClient};
use token_broker_sql::SqlStore;
use token_broker_upstream::{
    AuthorizationServer, ClientAuthentication, ConnectServer, Connector, ResourceParameter,
};
use tower_token_broker::principal::{Resource, Scopes};

use crate::configuration::{self, OAuth, OAuthClient, Server};

/// Returns how users connect their accounts at a server.
pub(super) fn server(
    server: &Server,
    oauth: &OAuth,
    resources: impl Iterator<Item = Resource>,
    guard: &Guard,
) -> Result<ConnectServer, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let client = GuardedClient::new(guard).map_err(|error| failed(&error))?;
    let mut connect = ConnectServer::new(&server.name, &server.upstream.to_string(), client)
        .map_err(|error| failed(&error))?
        .title(server.title.as_deref().unwrap_or(&server.name))
        .scopes(oauth.scopes.clone())
        .step_up_scopes(step_up_scopes(server))
        .resource_parameter(resource_parameter(&oauth.resource))
        .grant_ended_codes(oauth.grant_ended_codes.iter().map(String::as_str))
        .user_required_codes(oauth.user_required_codes.iter().map(String::as_str));
    connect = resources.fold(connect, ConnectServer::resource);
    let former = server.previous_names.iter();
    connect = former.fold(connect, |connect, name| connect.former_name(name));
    let origins = oauth.endpoint_origins.iter();
    connect = origins.fold(connect, |connect, origin| connect.endpoint_origin(origin));
    for (name, value) in &oauth.authorize_parameters {
        connect = connect.authorize_parameter(name, value).map_err(|error| failed(&error))?;
    }
    if let Some(issuer) = &oauth.issuer {
        connect = connect.issuer(issuer);
    }
    if let Some(pin) = &oauth.issuer_pin {
        connect = connect.issuer_pin(pin);
    }
    if let Some(pin) = &oauth.resource_pin {
        connect = connect.resource_pin(pin);
    }
    if let Some(endpoint) = &oauth.authorization_endpoint {
        connect = connect.authorization_endpoint(endpoint.clone());
    }
    if let Some(endpoint) = &oauth.token_endpoint {
        connect = connect.token_endpoint(endpoint.clone());
    }
    if let Some(endpoint) = &oauth.revocation_endpoint {
        connect = connect.revocation_endpoint(endpoint.clone());
    }
    if let Some(client) = &oauth.client {
        connect = connect.client(authentication(client));
    }
    if oauth.allows_unadvertised_pkce {
        connect = connect.dangerous_allow_unadvertised_pkce();
    }
    if oauth.omit_scope_on_refresh {
        connect = connect.omit_scope_on_refresh();
    }
    Ok(connect)
}

/// Returns the scopes that rules of a server need.
fn step_up_scopes(server: &Server) -> Scopes {
    let of_rules = server.allow.iter().filter_map(|rule| rule.upstream_scopes.as_deref());
    let parsed = of_rules.filter_map(|scopes| Scopes::parse(scopes).ok());
    parsed.fold(Scopes::none(), |all, scopes| all.union(&scopes))
}

/// Returns the authorization server of grants that were added by a command, if it is configured.
pub(super) fn fixed(oauth: &OAuth) -> Result<AuthorizationServer, String> {
    let (Some(issuer), Some(endpoint), Some(client)) =
        (&oauth.issuer, &oauth.token_endpoint, &oauth.client)
    else {
        return Err(
            "`issuer`, `token_endpoint` and `client_id` are required without `[login]`".to_owned()
        );
    };
    let mut at = AuthorizationServer::new(issuer, endpoint.clone(), authentication(client))
        .scopes(oauth.scopes.clone())
        .grant_ended_codes(oauth.grant_ended_codes.iter().map(String::as_str))
        .user_required_codes(oauth.user_required_codes.iter().map(String::as_str));
    if let configuration::ResourceParameter::Text(resource) = &oauth.resource {
        at = at.resource(resource);
    }
    Ok(if oauth.omit_scope_on_refresh { at.omit_scope_on_refresh() } else { at })
}

/// Removes connects that no one finished, now and then.
pub(super) async fn keep_clean(connector: Connector<SqlStore>) {
    const EVERY: Duration = Duration::from_secs(300);
    const AT_ONCE: usize = 1000;
    loop {
        tokio::time::sleep(EVERY).await;
        loop {
            match connector.remove_expired(AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "connects that have expired were not removed");
                    break;
                }
            }
        }
    }
}

fn authentication(client: &OAuthClient) -> ClientAuthentication {
    match &client.secret {
        None => ClientAuthentication::public(&client.id),
        Some(secret) if client.secret_in_form => {
            ClientAuthentication::post(&client.id, secret.clone())
        }
        Some(secret) => ClientAuthentication::basic(&client.id, secret.clone()),
    }
}

fn resource_parameter(parameter: &configuration::ResourceParameter) -> ResourceParameter {
    match parameter {
        configuration::ResourceParameter::Upstream => ResourceParameter::Upstream,
        configuration::ResourceParameter::Metadata => ResourceParameter::Metadata,
        configuration::ResourceParameter::Text(text) => {
            ResourceParameter::Text(text.as_str().into())
        }
        configuration::ResourceParameter::None => ResourceParameter::None,
    }
}
