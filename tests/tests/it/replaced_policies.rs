//! A policy is replaced during requests: calls finish, everything else is judged again.

use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use token_broker_tests::{
    grpc::{FRAMED, client, frame, framed},
    harness::{Broker, CALL},
    upstream::{ScriptedBody, ScriptedServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower_token_broker::{
    principal::Scopes,
    scope_filter::{
        BoxPolicy, Call, Decision, Policy as _, PolicyExt as _, PolicyHandle, Rules, grpc,
        policy_fn, resources, tools,
    },
};

use crate::{
    records::{last_result, results, summary},
    streams::{
        LIST, RESULT, STREAMED_CALL, Streams, event, get_stream, listen, listen_message, post,
        progress, updated,
    },
};

fn everything() -> PolicyHandle {
    PolicyHandle::new(policy_fn(|_, _: &Call<'_>| Decision::allow()))
}

/// Allows everything, but the GET stream needs a scope.
fn with_scope_for_streams() -> BoxPolicy {
    BoxPolicy::new(policy_fn(|_, call| {
        if matches!(call, Call::Protocol { method: "GET" }) {
            return Decision::needs_scope(Scopes::parse("items:listen").unwrap());
        }
        Decision::allow()
    }))
}

#[tokio::test]
async fn an_open_get_stream_ends_before_its_next_event() {
    for (replacement, reason) in [
        (BoxPolicy::new(Rules::new()), Some("filter.method_denied")),
        (with_scope_for_streams(), Some("filter.insufficient_scope")),
        // The policy still allows the stream.
        (BoxPolicy::new(Rules::new().allow(tools(["other"]))), None),
    ] {
        let mut streams = Streams::start().await;
        let policy = everything();
        let broker = Broker::in_front_of(&streams.scripted).policy(policy.clone()).start().await;
        let mut stream = broker.open(&get_stream(&broker)).await;
        let feed = streams.opened().await;
        feed.send(&progress(1)).await;
        stream.until(&progress(1)).await;

        policy.replace(replacement);
        feed.send(&progress(2)).await;
        let expected = match reason {
            Some(_) => {
                // The upstream's stream ends, too.
                feed.closed().await;
                progress(1)
            }
            None => {
                stream.until(&progress(2)).await;
                drop(feed);
                progress(1) + &progress(2)
            }
        };
        let response = stream.rest().await;
        assert_eq!((response.status, response.text()), (200, expected.as_str()), "{reason:?}");
        assert!(response.raw.ends_with(b"0\r\n\r\n"), "{reason:?}: it ends cleanly: {response:?}");
        let result = last_result(&broker, 1).await;
        let outcome = if reason.is_some() { "cut" } else { "completed" };
        assert_eq!(summary(&result), (outcome, reason, 1, 1), "{result}");
        // The record names the policy that ended the stream.
        if reason == Some("filter.method_denied") {
            let ended_by = Rules::new().digest().unwrap().to_string();
            assert_eq!(result["policy_version"], ended_by.as_str(), "{result}");
        }
        broker.done().await;
    }
}

#[tokio::test]
async fn a_stream_allowed_again_before_its_next_event_continues() {
    let mut streams = Streams::start().await;
    let policy = everything();
    let broker = Broker::in_front_of(&streams.scripted).policy(policy.clone()).start().await;
    let mut stream = broker.open(&get_stream(&broker)).await;
    let feed = streams.opened().await;
    feed.send(&progress(1)).await;
    stream.until(&progress(1)).await;
    policy.replace(Rules::new());
    policy.replace(Rules::new().allow(tools(["get_*"])));
    feed.send(&progress(2)).await;
    stream.until(&progress(2)).await;
    drop(feed);
    assert_eq!(stream.rest().await.text(), progress(1) + &progress(2));
    assert_eq!(summary(&last_result(&broker, 1).await), ("completed", None, 1, 1));
    broker.done().await;
}

#[tokio::test]
async fn subscriptions_end_when_a_resource_is_denied() {
    let public = || Rules::new().allow(resources(["crm://public/*"]));
    let with_scope = || resources(["crm://private/*"]).with_scope("items:all");
    for (replacement, reason) in [
        (public(), Some("filter.resource_denied")),
        (public().allow(with_scope()), Some("filter.insufficient_scope")),
        (Rules::new(), Some("filter.method_denied")),
        (public().allow(resources(["crm://private/*"])), None),
    ] {
        let mut streams = Streams::start().await;
        let policy = everything();
        let broker = Broker::in_front_of(&streams.scripted).policy(policy.clone()).start().await;
        let uris = ["crm://public/1", "crm://private/1"];
        let mut stream = broker.open(&listen(&broker, &uris)).await;
        let feed = streams.opened().await;
        feed.send(&updated(uris[1])).await;
        stream.until(&updated(uris[1])).await;

        policy.replace(replacement);
        // Updates of resources that are still allowed are withheld, too: the stream has ended.
        feed.send(&updated(uris[0])).await;
        if reason.is_none() {
            stream.until(&updated(uris[0])).await;
        } else {
            feed.closed().await;
        }
        drop(feed);
        let response = stream.rest().await;
        assert_eq!(response.status, 200, "{reason:?}");
        assert_eq!(response.text().contains("public"), reason.is_none(), "{reason:?}");
        assert!(response.raw.ends_with(b"0\r\n\r\n"), "{reason:?}: it ends cleanly: {response:?}");
        let result = last_result(&broker, 1).await;
        let outcome = if reason.is_some() { "cut" } else { "completed" };
        assert_eq!(summary(&result), (outcome, reason, 1, 1), "{result}");
        // It cannot be opened again.
        if let Some(reason) = reason {
            let refused = broker.send(&listen(&broker, &uris)).await;
            assert_eq!(last_result(&broker, 2).await["reason"], reason, "{}", refused.text());
        }
        broker.done().await;
    }
}

fn tool_list(names: &[&str]) -> String {
    let tools: Vec<_> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(","))
}

#[tokio::test]
async fn n268_a_pending_list_is_judged_by_the_new_policy() {
    for media in ["application/json", "text/event-stream"] {
        let mut streams = Streams::of(media).await;
        let policy = everything();
        let broker = Broker::in_front_of(&streams.scripted).policy(policy.clone()).start().await;
        let mut open = broker.open(&post(&broker, LIST)).await;
        let feed = streams.opened().await;
        let list = tool_list(&["get_item", "delete_item"]);
        let is_json = media == "application/json";
        let text = if is_json { list } else { progress(1) + &event(&list) };
        // All but the end of the list has arrived.
        let (first, rest) = text.split_at(text.len() - 10);
        feed.send(first).await;
        if !is_json {
            open.until(&progress(1)).await;
        }
        policy.replace(Rules::new().allow(tools(["get_*"])));
        feed.send(rest).await;
        drop(feed);
        let response = open.rest().await;
        let visible = tool_list(&["get_item"]);
        let expected = if is_json { visible } else { progress(1) + &event(&visible) };
        assert_eq!((response.status, response.text()), (200, expected.as_str()), "{media}");
        let result = last_result(&broker, 1).await;
        assert_eq!(summary(&result), ("completed", None, 1, 1), "{media} {result}");
        broker.done().await;
    }
}

#[tokio::test]
async fn a_running_call_finishes_under_its_decision() {
    let mut streams = Streams::start().await;
    let policy =
        PolicyHandle::new(Rules::new().allow(tools(["*"])).allow(resources(["crm://secret/*"])));
    let broker = Broker::in_front_of(&streams.scripted).policy(policy.clone()).start().await;
    let mut call = broker.open(&post(&broker, STREAMED_CALL)).await;
    let feed = streams.opened().await;
    feed.send(&(progress(1) + &updated("crm://secret/1"))).await;
    call.until(&updated("crm://secret/1")).await;

    policy.replace(Rules::new());
    // Its own events pass; the others are judged by the new policy.
    feed.send(&updated("crm://secret/2")).await;
    feed.send(&progress(2)).await;
    call.until(&progress(2)).await;
    feed.send(&event(RESULT)).await;
    drop(feed);
    let response = call.rest().await;
    let expected = progress(1) + &updated("crm://secret/1") + &progress(2) + &event(RESULT);
    assert_eq!((response.status, response.text()), (200, expected.as_str()));
    assert!(!response.text().contains("secret/2"));

    // The next call is judged again, and causes no token request.
    let denied = broker.call_with(&[], CALL).await;
    assert_eq!(denied.json()["error"]["code"], -32602, "{}", denied.text());
    assert_eq!(streams.scripted.received().len(), 1);
    let results = results(&broker, 2).await;
    assert_eq!(summary(&results[0]), ("completed", None, 1, 1));
    assert_eq!(summary(&results[1]), ("refused", Some("filter.tool_denied"), 0, 0));
    broker.done().await;
}

#[tokio::test]
async fn a_composed_policy_is_checked_again() {
    let mut streams = Streams::start().await;
    let (ours, theirs) = (everything(), everything());
    let policy = ours.clone().and(theirs.clone());
    let broker = Broker::in_front_of(&streams.scripted).policy(policy).start().await;
    let mut stream = broker.open(&get_stream(&broker)).await;
    let feed = streams.opened().await;
    feed.send(&progress(1)).await;
    stream.until(&progress(1)).await;
    theirs.replace(Rules::new());
    feed.send(&progress(2)).await;
    assert_eq!(stream.rest().await.text(), progress(1));
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("cut", Some("filter.method_denied"), 1, 1));
    drop(ours);
    broker.done().await;
}

#[tokio::test]
async fn grpc_subscriptions_end_with_a_status_and_calls_continue() {
    let listen = listen_message(&["crm://public/1"]);
    let of_listen =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    let notice = |number: u32| {
        let params = format!(r#"{{"progress":{number}}}"#);
        let method = "notifications/progress";
        framed(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#))
    };
    let (subscription, watch) = (format!("{FRAMED}/Stream"), "/shop.v1.Orders/Watch".to_owned());
    for (path, fields, sent, is_cut) in
        [(subscription, &of_listen[..], framed(&listen), true), (watch, &[][..], frame(b""), false)]
    {
        let (feed, frames) = mpsc::channel::<Result<Frame<bytes::Bytes>, _>>(8);
        let frames = Mutex::new(Some(frames));
        let upstream = ScriptedServer::start(move |_| {
            let frames = frames.lock().take().expect("one stream");
            let body: ScriptedBody = StreamBody::new(ReceiverStream::new(frames)).boxed_unsync();
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        })
        .await;
        let policy = everything();
        let broker = Broker::in_front_of(&upstream).grpc().policy(policy.clone()).start().await;
        let request = broker.rpc_request(&path, fields, Full::from(sent).boxed_unsync());
        let send = async |bytes: Vec<u8>| drop(feed.send(Ok(Frame::data(bytes.into()))).await);
        send(notice(1)).await;
        let mut open = broker.open_reply(client().request(request).await.unwrap());
        assert_eq!(open.data().await, notice(1), "{path}");

        policy.replace(Rules::new().allow(grpc("shop.v1.Other", ["Get"])));
        send(notice(2)).await;
        if is_cut {
            feed.closed().await;
        } else {
            assert_eq!(open.data().await, notice(2));
            let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            drop(feed.send(Ok(Frame::trailers(trailers.into_iter().collect()))).await);
        }
        drop(feed);
        let rest = open.rest().await;
        assert_eq!((rest.broken, rest.messages().len()), (false, 0), "{path} {rest:?}");
        let result = last_result(&broker, 1).await;
        if is_cut {
            assert_eq!(rest.status(), Some(12), "{rest:?}");
            assert_eq!(summary(&result), ("cut", Some("filter.method_denied"), 1, 1), "{result}");
        } else {
            assert_eq!(rest.status(), Some(0), "{rest:?}");
            assert_eq!(summary(&result), ("completed", None, 1, 1), "{result}");
        }
        broker.done().await;
    }
}
