//! Optional members that are `null` count as absent, in messages of clients and of servers.

use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedServer, json},
};

use crate::streams::RESULT;

/// Returns a message with these members after its version.
fn message(members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0",{members}}}"#)
}

#[tokio::test]
async fn j430_null_members_of_a_request_are_absent() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let passed = [
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":null}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":null,"_meta":null}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","uri":null,"requestState":null}"#,
        r#""id":1,"method":"prompts/get","params":{"name":"hi","arguments" : null }"#,
        r#""id":1,"method":"tools/list","params":null"#,
        r#""id":1,"method":"ping","params":null,"result":null,"error":null"#,
        r#""id":1,"method":"resources/read","params":{"uri":"a:b","name":null}"#,
        r#""id":1,"method":"tools/list","params":{"_meta":{"progressToken":null}}"#,
        r#""id":1,"method":"completion/complete","params":{"context":null,"ref":{"type":
            "ref/prompt","name":"hi","title":null},"argument":{"name":"a","value":"b"}}"#,
        r#""method":"notifications/initialized","params":null"#,
    ]
    .map(message);
    for text in &passed {
        let response = broker.call_with(&[], text).await;
        assert!(response.status < 300, "J430 {text}: {}", response.text());
    }
    let received: Vec<_> = upstream.received().iter().map(|request| request.body.clone()).collect();
    assert_eq!(received, passed, "J430: byte for byte");

    for refused in [
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":[]}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":"null"}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":0}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":false}"#,
        r#""id":1,"method":"tools/call","params":[]"#,
        r#""id":1,"method":"tools/call","params":"x""#,
        r#""id":1,"method":"tools/call","params":0"#,
        // What is required is missing.
        r#""id":1,"method":"tools/call","params":{"name":null}"#,
        r#""id":1,"method":"tools/call","params":null"#,
        r#""id":1,"method":"resources/read","params":{"uri":null}"#,
        r#""id":1,"method":"completion/complete","params":{"ref":null}"#,
        r#""id":1,"method":null"#,
        r#""id":1,"result":null"#,
        r#""id":null,"method":"ping""#,
        // Null is a value where a member occurs twice, or in another spelling.
        r#""id":1,"method":"tools/call","params":{"name":"get","arguments":null,"arguments":{}}"#,
        r#""id":1,"method":"tools/call","params":{"name":"get","Arguments":null}"#,
        r#""id":1,"method":"ping","Params":null"#,
        r#""id":1,"method":"ping","params":nul"#,
    ] {
        let response = broker.call_with(&[], &message(refused)).await;
        assert_eq!(response.status, 400, "J430 {refused}");
    }
    let unversioned = broker.call_with(&[], r#"{"jsonrpc":null,"id":1,"method":"ping"}"#).await;
    assert_eq!(unversioned.status, 400, "J430");
    assert_eq!(upstream.received().len(), passed.len());
    broker.done().await;
}

#[tokio::test]
async fn j430_null_members_of_a_response_are_absent() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"nextCursor":null},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resources":null,"cacheScope":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":null,"result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":-32000,"message":"no"}}"#,
    ] {
        let upstream = ScriptedServer::start(move |_| json(body)).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let response = broker.call_with(&[], &message(r#""id":1,"method":"tools/list""#)).await;
        assert_eq!((response.status, response.text()), (200, body), "J430");
        broker.done().await;
    }
}
