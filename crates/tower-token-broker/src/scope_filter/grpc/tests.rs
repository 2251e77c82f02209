//! A call gets the same decision, for the same reason, over HTTP and over gRPC.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    audit::{AuditLog, Trail},
    body::RequestBody,
    grpc::{frame::framed, framed_mcp, protobuf::Writer},
    json::Value,
    principal::Scopes,
    refusal::{Reason, Refused},
    scope_filter::{
        Judged, Rules, ScopeFilterLayer, methods, prompts, resources, tests::caller, tools,
    },
};

/// A call that can be sent in each form.
#[derive(Clone, Debug)]
struct SampleCall {
    method: &'static str,
    name: String,
    number: i32,
    new: bool,
}

const META: &str = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

impl SampleCall {
    fn version(&self) -> &'static str {
        if self.new { "2026-07-28" } else { "2025-11-25" }
    }

    fn meta(&self) -> &'static str {
        if self.new { META } else { "" }
    }

    fn message(&self) -> String {
        let name = serde_json::Value::from(self.name.as_str());
        let params = match self.method {
            "tools/call" => format!(r#""name":{name},"arguments":{{"n":{}}}"#, self.number),
            "prompts/get" => format!(r#""name":{name}"#),
            "resources/read" => format!(r#""uri":{name}"#),
            "completion/complete" => {
                let argument = format!(r#"{{"name":"n","value":"{}"}}"#, self.number);
                format!(r#""ref":{{"type":"ref/prompt","name":{name}}},"argument":{argument}"#)
            }
            _ => r#""x":1"#.to_owned(),
        };
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{}","params":{{{params}{}}}}}"#,
            self.method,
            self.meta()
        )
    }

    fn mirrored<B>(&self, mut request: Request<B>) -> Request<B> {
        let fields = request.headers_mut();
        fields.insert("mcp-protocol-version", self.version().parse().unwrap());
        fields.insert("mcp-method", self.method.parse().unwrap());
        if matches!(self.method, "tools/call" | "prompts/get" | "resources/read") {
            let name = format!("=?base64?{}?=", STANDARD.encode(&self.name));
            fields.insert("mcp-name", name.parse().unwrap());
        }
        request
    }

    fn over_http(&self) -> Request<Bytes> {
        let request = Request::post("/mcp").header("content-type", "application/json");
        self.mirrored(request.body(self.message().into()).unwrap())
    }

    fn in_frame(&self) -> Request<Bytes> {
        let request = Request::post("/token_broker.mcp.v1.Mcp/Call")
            .header("content-type", "application/grpc");
        self.mirrored(request.body(framed(&framed_mcp::encode(self.message().as_bytes()))).unwrap())
    }

    /// Encodes the call in Google's mapping, if that has the method.
    fn in_types(&self) -> Option<Request<Bytes>> {
        let name = self.name.as_bytes();
        let (method, message) = match self.method {
            "tools/call" => {
                let number = [&[0x11][..], &f64::from(self.number).to_le_bytes()].concat();
                let member = Writer::default().bytes(1, b"n").bytes(2, &number).finish();
                let arguments = Writer::default().bytes(1, &member).finish();
                let request = Writer::default().bytes(1, name).bytes(2, &arguments).finish();
                ("CallTool", Writer::default().bytes(2, &request).finish())
            }
            "prompts/get" => ("GetPrompt", Writer::default().bytes(2, name).finish()),
            "resources/read" => ("ReadResource", Writer::default().bytes(2, name).finish()),
            "completion/complete" => {
                let prompt = Writer::default().bytes(1, name).finish();
                let value = self.number.to_string();
                let argument = Writer::default().bytes(1, b"n").bytes(2, value.as_bytes()).finish();
                ("Complete", Writer::default().bytes(3, &prompt).bytes(4, &argument).finish())
            }
            "tools/list" => ("ListTools", vec![]),
            "prompts/list" => ("ListPrompts", vec![]),
            "resources/list" => ("ListResources", vec![]),
            "resources/templates/list" => ("ListResourceTemplates", vec![]),
            _ => return None,
        };
        let path = format!("/model_context_protocol.Mcp/{method}");
        let request = Request::post(path).header("content-type", "application/grpc+proto");
        Some(request.body(framed(&message)).unwrap())
    }
}

/// The result of a call: the reason of its refusal, or the operation and the scopes with which it
/// was forwarded.
#[derive(Debug, PartialEq)]
struct Outcome {
    refused: Option<Reason>,
    passed: Option<(String, Option<String>, Scopes)>,
}

async fn decide(layer: ScopeFilterLayer<Rules>, scopes: &str, request: Request<Bytes>) -> Outcome {
    let (log, _) = AuditLog::in_memory();
    let (trail, _terminal) = Trail::for_test(&log);
    let mut request = request.map(Full::new);
    request.extensions_mut().insert(trail);
    request.extensions_mut().insert(caller(scopes));
    let passed = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&passed);
    let is_grpc = crate::grpc::metadata::is_grpc(request.headers());
    let inner = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let judged = request.extensions().get::<Judged>().unwrap();
        let (method, name) =
            (judged.operation().method().to_owned(), judged.operation().name().map(str::to_owned));
        *seen.lock() = Some((method, name, judged.upstream_scopes().clone()));
        let content_type = if is_grpc { "application/grpc" } else { "application/json" };
        let response =
            Response::builder().header("content-type", content_type).header("grpc-status", "0");
        async move { Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).unwrap()) }
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let refused = Refused::of(&response).map(Refused::reason);
    response.into_body().collect().await.unwrap();
    let passed = passed.lock().take();
    Outcome { refused, passed }
}

#[tokio::test]
async fn only_a_post_is_a_call() {
    let sample = SampleCall { method: "tools/call", name: "a".into(), number: 1, new: false };
    for in_frame in [true, false] {
        let mut request = if in_frame { sample.in_frame() } else { sample.in_types().unwrap() };
        *request.method_mut() = http::Method::PUT;
        let outcome = decide(
            ScopeFilterLayer::for_test_of_grpc(Rules::new().allow(tools(["a"]))),
            "",
            request,
        )
        .await;
        assert_eq!((outcome.refused, outcome.passed), (Some(Reason::HttpMethod), None));
    }
}

#[tokio::test]
async fn a_completion_for_a_template_is_judged_as_a_resource() {
    let complete = |uri: &str| {
        let message = Writer::default()
            .bytes(2, &Writer::default().bytes(1, uri.as_bytes()).finish())
            .finish();
        let request = Request::post("/model_context_protocol.Mcp/Complete")
            .header("content-type", "application/grpc");
        request.body(framed(&message)).unwrap()
    };
    let layer =
        || ScopeFilterLayer::for_test_of_grpc(Rules::new().allow(resources(["crm://public/*"])));
    let passed = decide(layer(), "", complete("crm://public/{id}")).await.passed.unwrap();
    assert_eq!(
        (passed.0.as_str(), passed.1.as_deref()),
        ("completion/complete", Some("crm://public/{id}"))
    );
    assert_eq!(
        decide(layer(), "", complete("crm://secret/{id}")).await.refused,
        Some(Reason::ResourceDenied)
    );
}

#[tokio::test]
async fn j428_a_completion_is_judged_by_its_values() {
    let complete = |value: &str| {
        let template = Writer::default().bytes(1, b"crm://{team}/{id}").finish();
        let argument = Writer::default().bytes(1, b"team").bytes(2, value.as_bytes()).finish();
        let message = Writer::default().bytes(2, &template).bytes(4, &argument).finish();
        let request = Request::post("/model_context_protocol.Mcp/Complete")
            .header("content-type", "application/grpc");
        request.body(framed(&message)).unwrap()
    };
    let rules = Rules::new().allow(resources(["crm:*"])).deny(resources(["crm://hr/*"]));
    let decide = async |value| {
        decide(ScopeFilterLayer::for_test_of_grpc(rules.clone()), "", complete(value)).await
    };
    assert!(decide("sales").await.passed.is_some());
    for value in ["hr", "HR", "x/../hr"] {
        assert_eq!(decide(value).await.refused, Some(Reason::ResourceDenied), "J428 {value}");
    }
}

fn policy() -> impl Strategy<Value = Rules> {
    let pattern = prop::sample::select(&["*", "a*", "*b", "ab", "é*", "", "a"][..]);
    let scope = prop::sample::select(&["", "r", "r w"][..]);
    let rule = (0..5_usize, pattern, scope, any::<bool>(), any::<bool>());
    prop::collection::vec((rule, any::<bool>()), 0..6).prop_map(|rules| {
        rules.into_iter().fold(
            Rules::new(),
            |all, ((kind, pattern, scope, only_even, upstream), allows)| {
                let rule = match kind {
                    0 | 1 => tools([pattern]),
                    2 => prompts([pattern]),
                    3 => resources([pattern]),
                    _ => methods([pattern]),
                };
                let rule = if scope.is_empty() { rule } else { rule.with_scope(scope) };
                let rule = if upstream { rule.with_upstream_scopes("u") } else { rule };
                let even = |arguments: Value<'_>| {
                    arguments.get("n").is_some_and(|n| {
                        n.raw().trim_matches(['-', '"']).bytes().last().unwrap_or(b'1') % 2 == 0
                    })
                };
                let rule = if only_even && kind < 3 { rule.when(even) } else { rule };
                if allows { all.allow(rule) } else { all.deny(rule) }
            },
        )
    })
}

fn sample() -> impl Strategy<Value = SampleCall> {
    let methods = [
        "tools/call",
        "tools/call",
        "prompts/get",
        "resources/read",
        "completion/complete",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "ping",
        "logging/setLevel",
        "server/discover",
    ];
    let name = prop_oneof!["[abé]{1,3}", "[ -~]{1,6}"];
    (prop::sample::select(methods.to_vec()), name, any::<i32>(), any::<bool>())
        .prop_map(|(method, name, number, new)| SampleCall { method, name, number, new })
}

proptest! {
    #[test]
    fn one_call_gets_one_decision_in_each_form(
        rules in policy(),
        sample in sample(),
        scopes in prop::sample::select(&["", "r", "r w"][..]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let of_http = ScopeFilterLayer::for_test(rules.clone());
            let of_grpc = ScopeFilterLayer::for_test_of_grpc(rules);
            let over_http = decide(of_http, scopes, sample.over_http()).await;
            prop_assert!(over_http.refused.is_some() != over_http.passed.is_some());
            let in_frame = decide(of_grpc.clone(), scopes, sample.in_frame()).await;
            prop_assert_eq!(&in_frame, &over_http);
            if let Some(request) = sample.in_types() {
                let in_types = decide(of_grpc, scopes, request).await;
                prop_assert_eq!(&in_types, &over_http);
            }
            Ok(())
        })?;
    }
}
