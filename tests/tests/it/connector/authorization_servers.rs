//! Authorization servers that announce, change and move: whose client, whose endpoints, whose
//! tokens.

use super::*;

#[tokio::test]
async fn e529_the_operators_client_is_used_at_its_issuer_only() {
    let (ours, other) = (AccountServer::start().await, AccountServer::start().await);
    // The server announces whatever authorization server it likes.
    other.change(|other| other.resource = json!({"authorization_servers": [ours.server.url("")]}));
    let story = Story::with([server("mail", &other).client(client())]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.client_issuer" }, "E529");
    assert!(ours.log().is_empty() && other.log().is_empty(), "E529");
    // A pin does not help: the server chooses where its metadata is.
    let pinned = server("mail", &other).client(client()).issuer_pin(&ours.server.url(""));
    story.connector.replace_servers([pinned]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.client_issuer" }, "E529");
    // At the issuer that the operator set, it is used.
    let fixed = server("mail", &ours).client(client()).issuer(&ours.server.url(""));
    story.connector.replace_servers([fixed]);
    ours.change(|ours| ours.revocation = 503);
    story.connect("mail", &ours).await.unwrap();
    story.disconnect("mail").await;
    until("E529", || revoked(&ours) == 1).await;
    // Another issuer since: its server gets no secret and no token of the first one.
    let moved = server("mail", &other).client(client()).issuer(&other.server.url(""));
    story.connector.replace_servers([moved]);
    other.change(|other| other.resource = json!({}));
    ours.change(|ours| ours.revocation = 200);
    story.later();
    story.connector.revoke_due().await.unwrap();
    assert_eq!((revoked(&ours), other.log()), (1, vec![]), "E529");
    // Back again: nothing was given up.
    let fixed = server("mail", &ours).client(client()).issuer(&ours.server.url(""));
    story.connector.replace_servers([fixed]);
    story.later();
    until("E529", || revoked(&ours) == 3).await;
}

#[tokio::test]
async fn e530_each_server_has_a_client_document_with_its_own_redirect_uri() {
    let mail = AccountServer::start().await;
    mail.change(|mail| mail.metadata = json!({"client_id_metadata_document_supported": true}));
    let story = Story::at("https://broker.example/");
    story.connector.replace_servers([
        server("mail", &mail).former_name("post"),
        server("crm", &AccountServer::start().await),
    ]);
    let document = |name: &str| -> serde_json::Value {
        story.connector.client_document(name).unwrap().parse().unwrap()
    };
    for name in ["mail", "crm", "post"] {
        let (base, document) = (format!("https://broker.example/connect/{name}"), document(name));
        assert_eq!(document["client_id"], format!("{base}/client-metadata.json"), "E530");
        assert_eq!(document["redirect_uris"], json!([format!("{base}/callback")]), "E530");
    }
    assert_eq!(story.connector.client_document("other"), None, "E530");
    let request = AuthorizeRequest::of(&story.begin("mail").await.unwrap());
    let url = "https://broker.example/connect/mail/client-metadata.json";
    assert_eq!(request.get("client_id"), url, "E530");
    assert_eq!(Story::with([server("mail", &mail)]).connector.client_document("mail"), None);
}

#[tokio::test]
async fn e531_endpoints_of_the_operator_are_of_its_issuer_only() {
    let (first, second) = (AccountServer::start().await, AccountServer::start().await);
    let story = Story::with([server("mail", &first)]);
    first.change(|first| first.revocation = 503);
    story.connect("mail", &first).await.unwrap();
    let url = |at: &AccountServer, path: &str| at.server.url(path).parse().unwrap();
    let moved = server("mail", &first)
        .issuer(&second.server.url(""))
        .authorization_endpoint(url(&second, "/authorize"))
        .token_endpoint(url(&second, "/token"))
        .revocation_endpoint(url(&second, "/revoke"));
    story.connector.replace_servers([moved.clone()]);
    let grants = story.grants(&moved, &first.server.url("/mcp"));
    let refused = story.credential(&grants).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E531");
    first.change(|first| first.revocation = 200);
    story.disconnect("mail").await;
    until("E531", || revoked(&first) == 2).await;
    assert!(second.log().is_empty(), "E531 {:?}", second.log());
}

#[tokio::test]
async fn c072_a_pinned_issuer_is_the_only_one() {
    let mail = AccountServer::start().await;
    let pinned = server("mail", &mail).issuer_pin("https://accounts.example");
    let story = Story::with([pinned]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.issuer_mismatch" }, "C072");
    mail.change(|mail| mail.metadata = json!({"issuer": "https://accounts.example"}));
    story.clock.advance(Duration::from_secs(60));
    // Endpoints at the place of the metadata are not at the origin of the pinned issuer.
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.endpoint_origin" }, "C072");
    let pinned = server("mail", &mail).issuer_pin("https://accounts.example");
    story.connector.replace_servers([pinned.endpoint_origin(&mail.server.url(""))]);
    story.begin("mail").await.unwrap();
}

#[tokio::test]
async fn e532_the_tokens_of_a_server_do_not_follow_its_name_to_another_host() {
    let (first, second) = (AccountServer::start().await, AccountServer::start().await);
    let here = server("mail", &first);
    let story = Story::with([here.clone()]);
    story.connect("mail", &first).await.unwrap();
    let grants = story.grants(&here, &first.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "E532");
    // The name is that of another host now.
    let moved = server("mail", &second);
    story.connector.replace_servers([moved.clone()]);
    let grants = story.grants(&moved, &second.server.url("/mcp"));
    let refused = story.credential(&grants).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E532");
    assert_eq!(story.state("mail").await, ConnectionState::EndedByServer, "E532");
    // Nor does a source that was built before the change.
    let before = story.grants(&here, &first.server.url("/mcp"));
    let refused = story.credential(&before).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E532");
    // The operator names the issuer: users agreed to it, and the host is the operator's decision.
    let moved = server("mail", &second).issuer(&first.server.url(""));
    story.connector.replace_servers([moved.clone()]);
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "E532");
    let grants = story.grants(&moved, &second.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "E532");
    // The first host again: no user had to connect again.
    story.connector.replace_servers([server("mail", &first)]);
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "E532");
}

#[tokio::test]
async fn n536_a_server_that_refuses_a_token_is_asked_for_its_authorization_server_again() {
    let (mail, next) = (AccountServer::start().await, AccountServer::start().await);
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    story.connect("mail", &mail).await.unwrap();
    let issuers = json!({"authorization_servers": [next.server.url("")]});
    mail.change(|mail| mail.resource = issuers);
    story.connect("mail", &mail).await.unwrap();
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    let credential = story.credential(&grants).await.unwrap();
    grants.refused(&UpstreamRefusal::new(&credential)).await;
    let location = story.begin("mail").await.unwrap();
    assert!(location.starts_with(&next.server.url("/authorize")), "N536 {location}");
    assert_eq!(next.log(), ["register"], "N536");
}

#[tokio::test]
async fn c075_the_metadata_of_a_host_names_the_host() {
    let mail = AccountServer::start().await;
    let root = mail.server.url("/.well-known/oauth-protected-resource");
    mail.change(|mail| mail.challenge = Some(root));
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    assert_eq!(AuthorizeRequest::of(&location).get("resource"), mail.server.url(""), "C075");
    story.come_back("mail", &mail.agree(&location)).await.unwrap();
    // A refresh names the same resource, and does not depend on the metadata.
    mail.change(|mail| mail.challenge = Some("http://169.254.169.254/".to_owned()));
    story.clock.advance(Duration::from_secs(4000));
    let grants = story.grants(&server("mail", &mail), &mail.server.url("/mcp"));
    story.credential(&grants).await.unwrap();
    let received = mail.server.received();
    let refresh =
        received.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
    let refresh = refresh.filter(|body| body.contains("grant_type=refresh_token")).last().unwrap();
    let resource =
        url::form_urlencoded::parse(refresh.as_bytes()).find(|(name, _)| name == "resource");
    assert_eq!(resource.unwrap().1, mail.server.url(""), "C075");
    // At the place of the path, only the server itself.
    let host = json!({"resource": mail.server.url("")});
    mail.change(|mail| (mail.challenge, mail.resource) = (None, host));
    let story = Story::with([server("mail", &mail)]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "prm.resource_mismatch" }, "C075");
}

#[tokio::test]
async fn a_server_of_the_newer_revision_only_is_found_by_its_challenge() {
    let mail = AccountServer::start().await;
    mail.change(|mail| mail.is_without_initialize = true);
    // Only the challenge names this place.
    let root = mail.server.url("/.well-known/oauth-protected-resource");
    mail.change(|mail| mail.challenge = Some(root));
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    assert_eq!(AuthorizeRequest::of(&location).get("resource"), mail.server.url(""));
}

#[tokio::test]
async fn endpoints_without_their_issuer_are_refused() {
    let mail = AccountServer::start().await;
    let endpoint = mail.server.url("/token").parse().unwrap();
    let story = Story::with([server("mail", &mail).token_endpoint(endpoint)]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.endpoint_issuer" });
}

/// A resolver whose address changes.
#[derive(Clone)]
struct Changing(Arc<parking_lot::Mutex<IpAddr>>);

impl Resolve for Changing {
    fn resolve(
        &self,
        _: &str,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        let address = *self.0.lock();
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn x31_a_name_that_leads_to_a_private_address_later_costs_no_grant() {
    let mail = AccountServer::start().await;
    let base = mail.server.url("").replace("127.0.0.1", "mail.example");
    let at = |path: &str| format!("{base}{path}");
    mail.change(|mail| {
        mail.challenge = Some(at("/.well-known/oauth-protected-resource/mcp"));
        mail.resource = json!({"resource": at("/mcp"), "authorization_servers": [base]});
        mail.metadata = json!({
            "issuer": base, "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"), "registration_endpoint": at("/register"),
            "revocation_endpoint": at("/revoke"),
            "authorization_response_iss_parameter_supported": false,
        });
    });
    let address = Changing(Arc::new(parking_lot::Mutex::new([127, 0, 0, 1].into())));
    let host = base.strip_prefix("http://").unwrap();
    let guard = Guard::new().allow_loopback(host).with_resolver(address.clone());
    // Connections that are idle for an hour are closed: each time, a client without any.
    let here = || {
        let client = GuardedClient::new(&guard).unwrap();
        let server = ConnectServer::new("mail", &at("/mcp"), client).unwrap();
        server.scopes(Scopes::parse("mail:read").unwrap())
    };
    let story = Story::with([here()]);
    let callback = mail.agree(&story.begin("mail").await.unwrap());
    let callback = callback.split_once("&iss=").unwrap().0;
    story.come_back("mail", callback).await.unwrap();
    let served = mail.log();
    for private in [[10, 0, 0, 7], [169, 254, 169, 254], [192, 168, 1, 1]] {
        *address.0.lock() = private.into();
        story.clock.advance(Duration::from_secs(4000));
        story.connector.replace_servers([here()]);
        let grants = story.grants(&here(), &at("/mcp"));
        let refused = story.credential(&grants).await.unwrap_err();
        assert!(matches!(refused, CredentialError::Unavailable { .. }), "X31 {refused:?}");
        let refused = story.begin("mail").await;
        assert!(refused.is_err(), "X31 {refused:?}");
        assert_eq!(story.state("mail").await, ConnectionState::Connected, "X31");
    }
    assert_eq!(mail.log(), served, "X31: nothing reached a server");
    *address.0.lock() = [127, 0, 0, 1].into();
    story.later();
    story.connector.replace_servers([here()]);
    let grants = story.grants(&here(), &at("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "X31");
}
