//! The end of a token: it is announced, there is a grace for a new one, and then the connection is closed.

use serde_json::{Value, json};
use test_support::token;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::receiver::{Kept, Transport};

/// An expired token leaves time for a message, and not more than a test can wait.
const SETTINGS: &str = "auth.leeway_s = 0\nauth.expiry_grace_ms = 2000\n";

fn token_for(seconds: i64) -> String {
    token::sign(&json!({
        "sub": "alice", "tenant": "acme", "exp": token::expiry(seconds),
        "subscribe": ["system:*"], "publish": ["system:*"],
    }))
}

fn code(frame: &Value) -> &str {
    frame["payload"]["code"].as_str().unwrap_or_default()
}

over_both_transports!(a_client_is_told_that_its_token_has_expired_and_closed_after_the_grace);

async fn a_client_is_told_that_its_token_has_expired_and_closed_after_the_grace(transport: Transport) {
    let fleet = Fleet::start(1, None, SETTINGS);
    let kept = Kept::nothing(transport, &token_for(3), &["system:news"]);
    let mut alice = kept.connect(fleet.gateway(0).listen_addr()).await;
    let welcome = alice.expect("welcome").await;
    let expires_in_ms = welcome["payload"]["expires_in_ms"].as_u64().unwrap();
    assert!(expires_in_ms <= 3_000, "{welcome}");
    alice.until_subscribed().await;
    let told = alice.expect("error").await;
    assert_eq!(code(&told), "token_expired");
    let how = if transport == Transport::WebSocket { "send a refresh" } else { "come back" };
    assert!(told["payload"]["message"].as_str().unwrap().contains(how), "{told}");
    let mut publisher = fleet.client(0, "publisher").await;
    publisher.publish("system:news", 1).await;
    assert_eq!(alice.messages(1).await, [1], "it still receives");
    assert_eq!(code(&alice.expect("error").await), "token_expired");
    let bye = alice.expect("bye").await;
    assert_eq!((&bye["payload"]["code"], &bye["payload"]["reconnect"]), (&json!(4002), &json!(true)));
}

#[tokio::test]
async fn a_new_token_within_the_grace_goes_on() {
    let fleet = Fleet::start(1, None, SETTINGS);
    let mut alice = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token_for(2))).await;
    alice.expect("welcome").await;
    alice.subscribe("system:news", None).await;
    assert_eq!(code(&alice.expect("error").await), "token_expired");
    assert_eq!(code(&alice.publish("system:news", 1).await), "token_expired");
    let refresh = json!({ "type": "refresh", "payload": { "token": token_for(3_600) } });
    alice.send_text(&refresh.to_string()).await;
    let refreshed = alice.expect("refreshed").await;
    assert!(refreshed["payload"]["expires_in_ms"].as_u64().unwrap() > 3_590_000, "{refreshed}");
    assert_eq!(alice.publish("system:news", 2).await["type"], "ack");
    assert_eq!(alice.messages(1).await.0, [2]);
}
