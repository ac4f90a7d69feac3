//! Messages of many records, both ways.

use crate::fleet::Fleet;

const SETTINGS: &str = "[limits]\nmessage_bytes_max = 4194304\noutbox_bytes_max = 33554432\n";

#[tokio::test]
async fn messages_above_a_mebibyte_arrive_whole_and_in_order() {
    let fleet = Fleet::start(1, None, SETTINGS);
    let mut reader = fleet.client(0, "reader").await;
    reader.subscribe("collection:42:*", None).await;
    let mut writer = fleet.client(0, "writer").await;
    let text = |n: usize| -> String { (0..1_200_000 * n).map(|i| char::from(b'a' + (i * n % 23) as u8)).collect() };
    for n in 1..=3 {
        let payload = text(n);
        writer
            .send_text(&format!(
                r#"{{"type":"publish","channel":"collection:42:ops","event":"m","payload":"{payload}"}}"#
            ))
            .await;
    }
    for n in 1..=3 {
        assert_eq!(writer.next().await["type"], "ack");
        let message = reader.expect("m").await;
        assert!(message["payload"].as_str() == Some(&text(n)), "message {n} is another");
    }
}
