//! Sentinels that say one thing each, and some that say nothing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::{Target, Topology};

/// A Sentinel in so many words; `None` never answers.
async fn sentinel(answer: Option<(u64, u16)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {
            let Some((epoch, port)) = answer else { continue };
            let asked = String::from_utf8_lossy(&buffer).to_ascii_uppercase();
            let text = match asked.contains("GET-MASTER-ADDR") {
                true => format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len()),
                false => format!("*2\r\n$12\r\nconfig-epoch\r\n${}\r\n{epoch}\r\n", epoch.to_string().len()),
            };
            stream.write_all(text.as_bytes()).await.unwrap();
            buffer.fill(0);
        }
    });
    address
}

async fn primary(answers: &[Option<(u64, u16)>]) -> Result<Node, SentinelError> {
    primary_within(answers, ANSWER_DEADLINE).await
}

async fn primary_within(answers: &[Option<(u64, u16)>], deadline: Duration) -> Result<Node, SentinelError> {
    let mut addresses = Vec::new();
    for answer in answers {
        addresses.push(sentinel(*answer).await);
    }
    let target = Target::parse(&format!("redis+sentinel://{}/main", addresses.join(","))).unwrap();
    let Topology::Sentinel(sentinels) = target.topology() else { panic!("they are Sentinels") };
    sentinels.primary_within(deadline).await
}

#[tokio::test]
async fn the_newest_answer_counts_wherever_it_stands() {
    for answers in [[(2, 7), (3, 8)], [(3, 8), (2, 7)]] {
        let found = primary(&answers.map(Some)).await.unwrap();
        assert_eq!(found.port, 8);
    }
}

#[tokio::test]
async fn a_majority_is_enough_and_one_answer_too_when_no_other_comes() {
    let mut took = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(primary(&[None, Some((1, 7)), Some((2, 8))]).await.unwrap().port, 8);
        took.push(started.elapsed());
    }
    // A busy machine may have been so long about one of them; whoever waits for the silent one always is.
    assert!(took.iter().any(|took| *took < ANSWER_DEADLINE), "nobody waited for the silent one: {took:?}");
    let (started, deadline) = (Instant::now(), ANSWER_DEADLINE * 20);
    assert_eq!(primary_within(&[None, Some((1, 7)), None], deadline).await.unwrap().port, 7);
    assert!(started.elapsed() < deadline / 2, "the others were waited for");
}

#[tokio::test]
async fn silence_is_said() {
    let told = timeout(ANSWER_DEADLINE * 10, primary(&[None, None])).await.expect("it is given up").unwrap_err();
    assert!(told.to_string().contains("no Sentinel answers"), "{told}");
}
