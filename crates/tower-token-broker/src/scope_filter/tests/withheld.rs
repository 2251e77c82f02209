//! Events that cannot be judged, and the requests that they may respond to.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::scope_filter::events::SILENCE;

/// Returns the event that a client receives in place of its response.
pub(super) fn unreadable(id: &str) -> String {
    let message = "the response of the server cannot be read";
    format!(
        "data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32603,\
         \"message\":\"{message}\"}}}}\n\n"
    )
}

const WITHHELD: &str = ": withheld\n\n";
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_x"}}"#;
const RESPONSE: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// Sends a call, and returns the body of its response.
async fn body_of(events: &str) -> String {
    let outcome = send(layer(), post(CALL), super::events(events)).await;
    String::from_utf8(outcome.body.to_vec()).unwrap()
}

#[tokio::test]
async fn content_that_decides_nothing_passes() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for response in [
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"\ud83d"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"a","text":"b"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2,"\udc00":3}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":null,"error":{"code":1,"data":"\ud83d"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"a":"\ud83d","a":1}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":null,"prompts":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"get_x","d":"\ud83d","d":[1,1]}]}}"#,
        &format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":{deep}}}}}"#),
        &format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{{"name":"get_x","s":{deep}}}]}}}}"#
        ),
    ] {
        assert_eq!(body_of(&event(response)).await, event(response), "K501");
    }
}

#[tokio::test]
async fn k501_a_withheld_response_becomes_an_error() {
    for response in [
        // Truncated, invalid and ambiguous.
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[],"Tools":[{"name":"get_x"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[],"tool\u017f":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":{"0":{"name":"get_x"}}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"id":8,"result":{}}"#,
        // K502
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]},"error":{"code":1,"message":""}}"#,
        // K504
        r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
        r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":7,"error":{}}]"#,
        // Without an id, the error comes at the end of the stream.
        r#"{"result":{"tools":["#,
        "not JSON",
        "7",
        r#"{"jsonrpc":"2.0","id":8,"result":{}"#,
    ] {
        let expected = format!("{WITHHELD}{}", unreadable("7"));
        assert_eq!(body_of(&event(response)).await, expected, "K501, K502, K504 {response}");
    }
}

#[tokio::test]
async fn a_response_that_passes_needs_no_error() {
    for broken in ["not JSON", r#"{"jsonrpc":"2.0","id":8,"result":{"a"#, r#"{"id":7,"method":"#] {
        for spelled in [RESPONSE.to_owned(), RESPONSE.replace('7', "7.0")] {
            let expected = format!("{WITHHELD}{}", event(&spelled));
            let events = format!("{}{}", event(broken), event(&spelled));
            assert_eq!(body_of(&events).await, expected, "{broken}");
            let events = format!("{}{}", event(&spelled), event(broken));
            let expected = format!("{}{WITHHELD}", event(&spelled));
            assert_eq!(body_of(&events).await, expected, "{broken}");
        }
    }
    // Nothing was withheld: a stream that ends is the server's decision.
    assert_eq!(body_of(": hello\n\n").await, ": hello\n\n");
}

#[tokio::test(start_paused = true)]
async fn k501_silence_ends_the_wait() {
    let (chunks, stream) = mpsc::channel::<Bytes>(8);
    let stream = Arc::new(Mutex::new(Some(stream)));
    let inner = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let body = Streamed(stream.lock().take().expect("one request"));
        let response = Response::builder().header("content-type", "text/event-stream").body(body);
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let (trail, _terminal) = Trail::for_test(&LOG);
    let mut request = post(CALL).map(|body| Full::from(body.to_owned()));
    request.extensions_mut().insert(trail);
    request.extensions_mut().insert(caller("crm:read"));
    let mut body = layer().layer(inner).oneshot(request).await.unwrap().into_body();
    let mut next = async || {
        let frame = body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
        frame.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    // A batch of notifications is no response, and starts no time.
    let progress = r#"[{"jsonrpc":"2.0","method":"notifications/progress","params":{}}]"#;
    chunks.send(event(progress).into()).await.unwrap();
    assert_eq!(next().await.as_deref(), Some(WITHHELD));
    assert!(tokio::time::timeout(10 * SILENCE, next()).await.is_err(), "K501");
    chunks.send(event("not JSON").into()).await.unwrap();
    assert_eq!(next().await.as_deref(), Some(WITHHELD));
    // Each event begins the time again.
    for _ in 0..3 {
        let waited = tokio::time::timeout(SILENCE - Duration::from_millis(1), next()).await;
        assert!(waited.is_err(), "too early");
        chunks.send(": alive\n\n".into()).await.unwrap();
        assert_eq!(next().await.as_deref(), Some(": alive\n\n"));
    }
    assert_eq!(next().await, Some(unreadable("7")), "K501");
    assert_eq!(next().await, None, "the stream ends");
    assert!(chunks.send(Bytes::new()).await.is_ok(), "its body is dropped with the response");
}

/// A body whose chunks the test sends.
struct Streamed(mpsc::Receiver<Bytes>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}

/// Sends a request to a server that responds with this stream and the session ID `raw`. Returns
/// the status, the session ID, and the body.
async fn streamed(
    request: &str,
    status: u16,
    media_type: &'static str,
    stream: mpsc::Receiver<Bytes>,
) -> (u16, Option<String>, Bytes) {
    let stream = Arc::new(Mutex::new(Some(stream)));
    let inner = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let body = Streamed(stream.lock().take().expect("one request"));
        let response = Response::builder().status(status).header("content-type", media_type);
        let response = response.header("mcp-session-id", "raw").body(body).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    let (trail, _terminal) = Trail::for_test(&LOG);
    let mut request = post(request).map(|body| Full::from(body.to_owned()));
    request.extensions_mut().insert(trail);
    request.extensions_mut().insert(caller("crm:read"));
    let response = layer().layer(inner).oneshot(request).await.unwrap();
    let session = response.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().into());
    let status = response.status().as_u16();
    (status, session, response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test(start_paused = true)]
async fn k506_an_error_page_without_end_passes_as_its_status() {
    for media_type in ["text/html", "application/json"] {
        let (chunks, stream) = mpsc::channel::<Bytes>(8);
        chunks.send("{\"a\":".into()).await.unwrap();
        let (status, _, body) = streamed(CALL, 404, media_type, stream).await;
        assert_eq!(status, 404, "K506 {media_type}");
        assert!(body.starts_with(br#"{"jsonrpc":"2.0","id":7,"error":"#), "K506 {body:?}");
        drop(chunks);
    }
}

#[tokio::test]
async fn k507_an_initialize_without_a_response_begins_no_session() {
    let request = r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{
        "protocolVersion":"2025-06-18","capabilities":{},
        "clientInfo":{"name":"a","version":"1"}}}"#;
    let (chunks, stream) = mpsc::channel::<Bytes>(8);
    let response = r#"{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-06-18"}}"#;
    chunks.send(response.into()).await.unwrap();
    drop(chunks);
    let (status, session, _) = streamed(request, 200, "application/json", stream).await;
    assert_eq!((status, session.is_some_and(|id| id != "raw")), (200, true), "the control");

    let (chunks, stream) = mpsc::channel::<Bytes>(8);
    drop(chunks);
    let (status, session, _) = streamed(request, 200, "application/json", stream).await;
    assert_eq!((status, session), (502, None), "K507");
}
