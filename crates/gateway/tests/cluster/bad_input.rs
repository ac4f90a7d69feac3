//! Bad input over a real socket: an answer that helps, the connection goes on where it can, nobody else notices.

use futures_util::future::join_all;

use crate::client::Client;
use crate::fleet::Fleet;

#[tokio::test]
async fn every_bad_frame_is_answered_by_a_code_and_a_sentence() {
    let fleet = Fleet::start(1, None, "");
    let mut bystander = fleet.client(0, "bystander").await;
    bystander.subscribe("system:news", None).await;
    let mut client = fleet.client(0, "clumsy").await;
    let cases = [
        ("{", "malformed"),
        ("[]", "malformed"),
        (r#"{"type":"dance","correlation_id":"7"}"#, "unknown_type"),
        (r#"{"type":"subscribe","chanel":"system:news","correlation_id":"7"}"#, "invalid_field"),
        (r#"{"type":"subscribe","channel":7,"correlation_id":"7"}"#, "invalid_field"),
        (r#"{"type":"subscribe","channel":"no such family","correlation_id":"7"}"#, "invalid_channel"),
        (r#"{"type":"subscribe","channel":"collection:*","correlation_id":"7"}"#, "invalid_channel"),
        (r#"{"type":"subscribe","channel":"user:somebody:else","correlation_id":"7"}"#, "forbidden"),
        (r#"{"type":"subscribe","channel":"user:somebody:*","correlation_id":"7"}"#, "forbidden"),
        (r#"{"type":"publish","channel":"user:somebody:else","correlation_id":"7"}"#, "forbidden"),
        (r#"{"type":"refresh","payload":{"token":"x.y.z"},"correlation_id":"7"}"#, "unauthenticated"),
    ];
    for (frame, code) in cases {
        client.send_text(frame).await;
        let error = client.expect("error").await;
        assert_eq!(error["payload"]["code"], code, "{frame}: {error}");
        assert!(error["payload"]["message"].as_str().unwrap().len() > 15, "a sentence that helps: {error}");
        if frame.contains("correlation_id") {
            assert_eq!(error["correlation_id"], "7", "{frame}");
        }
    }
    assert_eq!(client.publish("system:news", 1).await["type"], "ack", "the connection goes on");
    assert_eq!(bystander.messages(1).await.0, [1]);
}

#[tokio::test]
async fn tokens_that_are_no_good_are_refused_in_words_a_browser_sees() {
    let fleet = Fleet::start(1, None, "");
    let address = fleet.gateway(0).listen_addr();
    let good = fleet.token("acme", "alice", &[]);
    let tampered = format!("{}x", good);
    let cases = [("/ws", tampered.as_str(), "unauthenticated", 4500), ("/ws/globex", &good, "wrong_identity", 4501)];
    let refused = cases.map(|(path, token, code, close)| async move {
        // In the upgrade, and in the first frame.
        let mut at_upgrade = Client::connect(address, path, Some(token)).await;
        let mut in_hello = Client::connect(address, path, None).await;
        in_hello.send_text(&format!(r#"{{"type":"hello","payload":{{"token":"{token}"}}}}"#)).await;
        for client in [&mut at_upgrade, &mut in_hello] {
            assert_eq!(client.expect("error").await["payload"]["code"], code);
            assert_eq!(client.expect("bye").await["payload"]["reconnect"], false);
            assert_eq!(client.expect("close").await["code"], close);
        }
    });
    join_all(refused).await;
    let mut nobody = Client::connect(address, "/ws", None).await;
    nobody.send_text(r#"{"type":"subscribe","channel":"system:news"}"#).await;
    assert_eq!(nobody.expect("error").await["payload"]["code"], "unauthenticated");
    let hello =
        format!(r#"{{"type":"hello","payload":{{"token":"{good}","channels":[{{"channel":"user:alice:*"}}]}}}}"#);
    nobody.send_text(&hello).await;
    assert_eq!(nobody.expect("welcome").await["payload"]["user"], "alice");
    nobody.expect("subscribed").await;
}

#[tokio::test]
async fn a_message_above_the_limit_closes_its_sender_alone() {
    let settings = "[limits]\nmessage_bytes_max = 1024\noutbox_bytes_max = 65536\n";
    let fleet = Fleet::start(1, None, settings);
    let mut bystander = fleet.client(0, "bystander").await;
    let mut client = fleet.client(0, "loud").await;
    let filler = "x".repeat(2_000);
    client.send_text(&format!(r#"{{"type":"publish","channel":"system:news","payload":"{filler}"}}"#)).await;
    assert_eq!(client.expect("error").await["payload"]["code"], "too_big");
    client.expect("bye").await;
    assert_eq!(client.expect("close").await["code"], 1009);
    assert_eq!(bystander.publish("system:news", 1).await["type"], "ack");
}
