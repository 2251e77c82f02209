//! Tests of client metadata.

use token_broker_store::authority::{ApplicationType, ClientAuthMethod, ClientKeys};
use tower_token_broker::principal::Scopes;

use super::{RedirectUriError, metadata::*};

fn read(text: &str) -> Result<ClientMetadata, MetadataError> {
    parse(text.as_bytes()).and_then(ClientMetadata::read)
}

fn with(members: &str) -> Result<ClientMetadata, MetadataError> {
    read(&format!(r#"{{"redirect_uris":["http://127.0.0.1/cb"]{members}}}"#))
}

#[test]
fn what_sdks_send_is_accepted() {
    let read = with(
        r#","client_name":"Claude Code","grant_types":["authorization_code","refresh_token"],
        "response_types":["code"],"token_endpoint_auth_method":"none",
        "application_type":"native","scope":"crm:read x","contacts":["a@b.example"],
        "logo_uri":null,"software_id":"1","software_version":"2""#,
    )
    .unwrap();
    assert_eq!(read.name.as_deref(), Some("Claude Code"));
    assert_eq!(read.auth_method, Some(ClientAuthMethod::None));
    assert_eq!(read.application_type, Some(ApplicationType::Native));
    assert_eq!(read.scopes, Some(Scopes::parse("crm:read x").unwrap()));
    let least = with("").unwrap();
    assert!(least.name.is_none() && least.auth_method.is_none() && least.keys.is_none());
}

#[test]
fn f145_f146_metadata_that_cannot_be_used_is_refused() {
    let many = vec![r#""https://a.example/cb""#; 10_000].join(",");
    for (text, is_about_uris) in [
        ("[]".to_owned(), false),
        ("{".to_owned(), false),
        ("{}".to_owned(), true),
        (r#"{"redirect_uris":"https://a.example/cb"}"#.to_owned(), false),
        (r#"{"redirect_uris":[1]}"#.to_owned(), false),
        (r#"{"redirect_uris":[]}"#.to_owned(), true),
        (r#"{"redirect_uris":["javascript:alert(1)"]}"#.to_owned(), true),
        (r#"{"redirect_uris":["https://*.evil/"]}"#.to_owned(), true),
        (r#"{"redirect_uris":["http://a.example/"]}"#.to_owned(), true),
        (r#"{"redirect_uris":["http://127.0.0.1/"],"application_type":"web"}"#.to_owned(), true),
        (
            r#"{"redirect_uris":["https://a.example/"],"redirect_uris":["https://b.example/"]}"#
                .to_owned(),
            false,
        ),
        (format!(r#"{{"redirect_uris":[{many}]}}"#), false),
    ] {
        let error = read(&text).unwrap_err();
        let is_uri = matches!(error, MetadataError::RedirectUri(_));
        assert_eq!(is_uri, is_about_uris, "F145 F146 {error:?}");
    }
    let many = vec![r#""https://a.example/cb""#; 33].join(",");
    assert_eq!(
        read(&format!(r#"{{"redirect_uris":[{many}]}}"#)).unwrap_err(),
        MetadataError::RedirectUri(RedirectUriError::Count)
    );
}

#[test]
fn f146_members_with_a_wrong_value_are_refused() {
    let long = "x".repeat(1025);
    for members in [
        r#","client_name":1"#.to_owned(),
        format!(r#","client_name":"{long}""#),
        r#","client_name":"a\u0000b""#.to_owned(),
        r#","client_name":"a\u0085b""#.to_owned(),
        r#","other":{"a":["x\ny"]}"#.replace("\\n", "\\u000a"),
        r#","token_endpoint_auth_method":"client_secret_jwt""#.to_owned(),
        r#","token_endpoint_auth_method":["none"]"#.to_owned(),
        r#","token_endpoint_auth_method":"private_key_jwt""#.to_owned(),
        r#","grant_types":["client_credentials"]"#.to_owned(),
        r#","response_types":["token"]"#.to_owned(),
        r#","application_type":"desktop""#.to_owned(),
        r#","scope":"a\"b""#.to_owned(),
        r#","jwks":{"keys":[]}"#.to_owned(),
        r#","jwks":{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned(),
        r#","jwks_uri":"http://a.example/jwks""#.to_owned(),
        r#","jwks_uri":"https://127.0.0.1/jwks""#.to_owned(),
        r#","jwks_uri":"https://[::1]/jwks""#.to_owned(),
        r#","jwks_uri":"https://2130706433/jwks""#.to_owned(),
        r#","jwks_uri":"https://0x7f.1/jwks""#.to_owned(),
        r#","jwks_uri":"https://localhost/jwks""#.to_owned(),
        r#","jwks_uri":"https://metadata.google.internal/jwks""#.to_owned(),
        r#","jwks_uri":"https://a@b.example/jwks""#.to_owned(),
        r#","jwks":{"keys":[]},"jwks_uri":"https://a.example/jwks""#.to_owned(),
    ] {
        let error = with(&members).unwrap_err();
        assert!(matches!(error, MetadataError::Metadata(_)), "F146 {members} {error:?}");
    }
    let read =
        with(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://a.example/k""#);
    assert_eq!(read.unwrap().keys, Some(ClientKeys::Uri("https://a.example/k".into())));
}
