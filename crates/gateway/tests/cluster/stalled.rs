//! A Redis that takes calls and answers none: operators' questions are refused at once, and answered again with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use test_support::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::DEADLINE;
use crate::fleet::Fleet;
use crate::process::number;

/// `redis.reply_deadline_ms`, the default.
const REPLY_DEADLINE: Duration = Duration::from_secs(2);

/// The status of the answer, and how long it took.
async fn dead_letters(admin: SocketAddr) -> (String, Duration) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(b"GET /dead-letters HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    (text[9..12].to_owned(), begun.elapsed())
}

#[tokio::test]
async fn operators_wait_for_a_stalled_redis_a_few_times_and_not_each_time() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let admin = fleet.gateway(0).admin_addr();
    assert_eq!(dead_letters(admin).await.0, "200");
    redis.freeze();
    let open = || number(admin, "tidegate_breakers_open{calls=\"records\"}");
    let begun = Instant::now();
    while open() != Some(1.0) {
        assert!(begun.elapsed() < DEADLINE, "it is never found out");
        let (status, took) = dead_letters(admin).await;
        assert!(status == "503" && took >= REPLY_DEADLINE, "{status} after {took:?}");
    }
    // One of them may be the trial.
    let mut quick = 0;
    for _ in 0..5 {
        let (status, took) = dead_letters(admin).await;
        assert_eq!(status, "503");
        quick += u32::from(took < REPLY_DEADLINE);
    }
    assert!(quick >= 3, "{quick} of 5 were refused at once");
    redis.thaw();
    let back = Instant::now();
    while dead_letters(admin).await.0 != "200" {
        assert!(back.elapsed() < DEADLINE, "it answers, and is not asked");
    }
    assert_eq!(open(), Some(0.0));
}
