//! Snapshots of each reason in each dialect.

use std::{convert::Infallible, fmt::Write as _};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::Dialect;
use crate::{
    audit::{AuditLayer, AuditLog},
    mcp::Revision,
    principal::{Resource, Scopes},
    refusal::{Reason, Refusal},
};

fn said(response: &Response<Bytes>) -> String {
    let mut text = response.status().as_u16().to_string();
    for name in ["www-authenticate", "retry-after", "allow"] {
        if let Some(value) = response.headers().get(name) {
            write!(text, "\n    {name}: {}", value.to_str().unwrap()).unwrap();
        }
    }
    assert_eq!(response.headers()["cache-control"], "no-store");
    write!(text, "\n    {}", std::str::from_utf8(response.body()).unwrap()).unwrap();
    text
}

fn refusal(reason: Reason) -> Refusal {
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let refusal =
        Refusal::new(reason).at(&resource).connect_at("https://broker.example.com/connect/1");
    if reason == Reason::InsufficientScope {
        refusal.needing(Scopes::parse("crm:read crm:write").unwrap())
    } else if reason == Reason::UnsupportedVersion {
        refusal.requested(b"2099-01-01")
    } else {
        refusal
    }
}

#[test]
fn each_reason_is_rendered_in_each_dialect() {
    let id = Some(Bytes::from_static(b"7"));
    let request = |accept: &str| Request::post("/").header("accept", accept).body(()).unwrap();
    let http = Dialect::of(&request("application/json"));
    let mcp = Dialect::of(&request("application/json, text/event-stream"));
    let mut all = String::new();
    for reason in Reason::ALL {
        let refusal = refusal(*reason);
        writeln!(all, "{}", reason.code()).unwrap();
        for (name, dialect) in [
            ("http", http.clone()),
            ("mcp 2025-11-25", mcp.clone().mcp(Revision::V2025_11_25, id.clone(), false)),
            ("mcp 2026-07-28", mcp.clone().mcp(Revision::V2026_07_28, id.clone(), false)),
        ] {
            writeln!(all, "  {name}: {}", said(&dialect.render(&refusal))).unwrap();
        }
    }
    insta::assert_snapshot!("each_reason_in_each_dialect", all);
}

#[test]
fn connect_is_rendered_for_each_client() {
    let mcp =
        Dialect::of(&Request::get("/").header("accept", "text/event-stream").body(()).unwrap());
    let id = Some(Bytes::from_static(b"\"a\""));
    let say = |revision, id: Option<Bytes>, can| {
        said(&mcp.clone().mcp(revision, id, can).render(&refusal(Reason::ConnectRequired)))
    };
    let mut all = String::new();
    for (what, revision, id, can) in [
        ("2026-07-28 with URL elicitation", Revision::V2026_07_28, id.clone(), true),
        ("2026-07-28 without", Revision::V2026_07_28, id.clone(), false),
        ("2025-11-25 with URL elicitation", Revision::V2025_11_25, id.clone(), true),
        ("2025-11-25 without", Revision::V2025_11_25, id, false),
        ("a notification", Revision::V2025_11_25, None, false),
    ] {
        writeln!(all, "{what}: {}", say(revision, id, can)).unwrap();
    }
    insta::assert_snapshot!("connect_required", all);
}

#[test]
fn all_token_errors_have_one_text() {
    let http = Dialect::of(&Request::get("/").body(()).unwrap());
    let texts: std::collections::BTreeSet<_> = Reason::ALL
        .iter()
        .filter(|reason| {
            reason.code().starts_with("jwt.")
                || matches!(
                    reason,
                    Reason::Revoked
                        | Reason::Blocked
                        | Reason::UnknownToken
                        | Reason::WrongResource
                )
        })
        .map(|reason| said(&http.render(&refusal(*reason))))
        .collect();
    assert_eq!(texts.len(), 1, "{texts:#?}");
}

#[tokio::test]
async fn only_the_audit_layer_determines_the_dialect() {
    let event_stream = |accept: &str| Request::get("/").header("accept", accept).body(()).unwrap();
    let (log, _) = AuditLog::in_memory();
    let inner = service_fn(async |mut request: Request<()>| {
        // The headers that inner services see make no difference.
        request.headers_mut().clear();
        assert!(Dialect::of(&request).is_mcp());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let mut forged = event_stream("text/event-stream");
    let plain = Dialect::of(&event_stream("text/plain"));
    assert!(!plain.is_mcp());
    forged.extensions_mut().insert(plain);
    AuditLayer::for_test(&log).layer(inner).oneshot(forged).await.unwrap();
}

#[cfg(feature = "grpc")]
mod in_grpc {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

    use super::*;
    use crate::refusal::ResponseKind;

    fn dialect(service: &str) -> Dialect {
        let request =
            Request::post(format!("/{service}/Call")).header("content-type", "application/grpc");
        Dialect::of(&request.body(()).unwrap())
    }

    fn said(response: &Response<Bytes>) -> String {
        assert!(response.body().is_empty());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut text = String::new();
        for name in ["grpc-status", "grpc-message", "mcp-error-code", "grpc-accept-encoding"] {
            if let Some(value) = response.headers().get(name) {
                write!(text, "\n    {name}: {}", value.to_str().unwrap()).unwrap();
            }
        }
        let details =
            STANDARD_NO_PAD.decode(&response.headers()["grpc-status-details-bin"]).unwrap();
        write!(text, "\n    details: {}", details.escape_ascii()).unwrap();
        text
    }

    #[test]
    fn each_reason_is_rendered_as_a_status() {
        let mcp = dialect("token_broker.mcp.v1.Mcp");
        let mut all = String::new();
        for reason in Reason::ALL {
            writeln!(all, "{}{}", reason.code(), said(&mcp.render(&refusal(*reason)))).unwrap();
        }
        insta::assert_snapshot!("each_reason_in_grpc", all);
    }

    #[test]
    fn only_mcp_services_have_an_mcp_error_code() {
        let response = dialect("shop.v1.Orders").render(&refusal(Reason::RpcDenied));
        assert!(!response.headers().contains_key("mcp-error-code"));
        let response = dialect("model_context_protocol.Mcp").render(&refusal(Reason::ToolDenied));
        assert_eq!(response.headers()["mcp-error-code"], "-32602");
    }

    #[test]
    fn all_causes_of_a_kind_have_the_same_bytes() {
        let mcp = dialect("model_context_protocol.Mcp");
        for kind in [ResponseKind::InvalidToken, ResponseKind::UnknownItem] {
            let of_kind = Reason::ALL.iter().filter(|reason| reason.response_kind() == kind);
            let said: std::collections::BTreeSet<_> =
                of_kind.map(|reason| said(&mcp.render(&refusal(*reason)))).collect();
            assert_eq!(said.len(), 1, "{kind:?} {said:#?}");
        }
    }
}
