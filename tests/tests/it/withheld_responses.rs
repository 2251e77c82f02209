//! Responses of a server that cannot be judged: the client gets an error, and the record a reason.

use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedServer, events, json},
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get"}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
const BOTH: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]},"error":{"code":1}}"#;
const SPELLED: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[],"Tools":[{"name":"delete"}]}}"#;

#[tokio::test]
async fn k501_an_event_that_cannot_be_judged_has_its_error_and_its_record() {
    for (message, event, reason) in [
        (CALL, r#"{"jsonrpc":"2.0","id":7,"result":{"te"#, "filter.response_unreadable"),
        (CALL, "no JSON", "filter.response_unreadable"),
        (LIST, BOTH, "filter.response_unreadable"),
        (LIST, SPELLED, "filter.response_unreadable"),
        (CALL, r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#, "filter.batch"),
    ] {
        let upstream = ScriptedServer::start(move |_| events(&[event])).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let response = broker.call_with(&[], message).await;
        assert_eq!(response.status, 200, "K501");
        let text = response.text();
        assert!(text.contains(": withheld\n\ndata: "), "K501 {event}: {text}");
        assert!(text.contains(r#""id":7,"error":{"code":-32603"#), "K501 {event}: {text}");
        let records = broker.expect_records(1).await;
        let end = records.iter().find(|record| record["count"] == 1).unwrap();
        assert_eq!((&end["outcome"], &end["reason"]), (&"cut".into(), &reason.into()), "{end}");
        broker.done().await;
    }
}

#[tokio::test]
async fn k501_a_response_that_passes_is_complete_and_has_the_reason() {
    let done = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"\ud83d"}]}}"#;
    let upstream = ScriptedServer::start(move |_| events(&["no JSON", done])).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let response = broker.call_with(&[], CALL).await;
    assert!(response.text().contains(done), "K501 {}", response.text());
    assert!(!response.text().contains("-32603"), "K501 {}", response.text());
    let records = broker.expect_records(1).await;
    let end = records.iter().find(|record| record["count"] == 1).unwrap();
    let expected = (&"completed".into(), &"filter.response_unreadable".into());
    assert_eq!((&end["outcome"], &end["reason"]), expected, "{end}");
    broker.done().await;
}

#[tokio::test]
async fn k502_a_json_response_that_cannot_be_judged_is_an_error() {
    for (body, reason) in [
        (BOTH, "filter.response_unreadable"),
        (SPELLED, "filter.response_unreadable"),
        (r#"[{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}]"#, "filter.batch"),
        ("{", "filter.response_unreadable"),
    ] {
        let upstream = ScriptedServer::start(move |_| json(body)).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let response = broker.call_with(&[], LIST).await;
        let said = response.json();
        let expected = (502, &7.into(), &(-32603).into());
        assert_eq!((response.status, &said["id"], &said["error"]["code"]), expected, "K502 {body}");
        let records = broker.expect_records(1).await;
        let end = records.iter().find(|record| record["count"] == 1).unwrap();
        assert_eq!((&end["outcome"], &end["reason"]), (&"refused".into(), &reason.into()), "{end}");
        broker.done().await;
    }
}

#[tokio::test]
async fn k503_an_ambiguous_entry_is_removed() {
    let list = |entries: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{entries}],"x":"\ud83d"}}}}"#)
    };
    let body = list(
        r#"{"name":"a"},{"name":"b","Name":"x"},{"NAME":"x","name":"c"},{"name":"d","name":"x"},
        {"name":"e","na_me":"x"},{"name":"f","title":"T","title":"U","i":{"Name":1}},{"name":null},
        {"name":"\ud83d"},{"name":"g","annotations":null}"#,
    );
    let expected = list(concat!(
        r#"{"name":"a"},{"name":"f","title":"T","title":"U","i":{"Name":1}},"#,
        r#"{"name":"g","annotations":null}"#
    ));
    for in_events in [false, true] {
        let sent = body.replace('\n', " ");
        let upstream =
            ScriptedServer::start(move |_| if in_events { events(&[&sent]) } else { json(&sent) })
                .await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let response = broker.call_with(&[], LIST).await;
        assert!(response.text().contains(&expected), "K503 {}", response.text());
        broker.done().await;
    }
}
