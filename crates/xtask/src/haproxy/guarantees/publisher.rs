//! What publishers are answered, and whether the answer is true.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::UNKEPT;
use crate::failure::Failure;
use crate::haproxy::client::Client;
use crate::haproxy::{Trial, expect, passed};

/// The first ping is sent within the first interval (30 s) and must be answered within 10 s. HAProxy would disconnect
/// after 90 s of silence.
const NOTICED_WITHIN: Duration = Duration::from_secs(45);
/// An instance detects a hanging Redis after 3 s. The rest is time for a busy machine.
const LEARNED_WITHIN: Duration = Duration::from_secs(10);

impl Trial {
    pub(super) fn acknowledges_what_it_has_stored(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:durable:ops";
        let mut hearing = self.client(2, "alice", None)?;
        let before = hearing.subscribe(CHANNEL, None)?["position"].as_str().unwrap_or_default().to_owned();
        let mut publisher = self.client(1, "publisher", None)?;
        publisher.publish(CHANNEL, 0..1)?;
        hearing.numbers(0..1)?;
        let mut later = self.client(3, "alice", None)?;
        later.subscribe(CHANNEL, Some(&before))?;
        later.numbers(0..1)?;
        passed("what is acknowledged as durable reaches who is there and who comes later")
    }

    pub(super) fn acknowledges_what_is_not_kept(&mut self) -> Result<(), Failure> {
        let mut hearing = self.client(2, "alice", None)?;
        hearing.subscribe(UNKEPT, None)?;
        let ack = self.client(1, "publisher", None)?.publish_one(UNKEPT, &0.into())?;
        expect(ack["payload"]["level"] == "published", || format!("of a family that keeps nothing: {ack}"))?;
        hearing.numbers(0..1)?;
        passed("what a family does not keep is said to be published, and reaches who is there")
    }

    /// Two publishers publish on two instances. All subscribers receive the same order.
    pub(super) fn keeps_one_order_for_all(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:order:ops";
        const EACH: u64 = 50;
        let mut hearing = (1..=3).map(|n| self.client(n, "alice", None)).collect::<Result<Vec<_>, _>>()?;
        for client in &mut hearing {
            client.subscribe(CHANNEL, None)?;
        }
        let mut publishers = [self.client(1, "publisher", None)?, self.client(2, "publisher", None)?];
        thread::scope(|scope| {
            let publishing: Vec<_> = (0..)
                .zip(&mut publishers)
                .map(|(n, publisher)| scope.spawn(move || publisher.publish(CHANNEL, n * EACH..(n + 1) * EACH)))
                .collect();
            publishing.into_iter().try_for_each(|publishing| publishing.join().expect("it does not panic"))
        })?;
        let mut orders = Vec::new();
        for client in &mut hearing {
            let received = (0..2 * EACH).map(|_| client.receive_frame("n").map(|message| message["payload"].clone()));
            orders.push(received.collect::<Result<Vec<_>, _>>()?);
        }
        expect(orders[1..].iter().all(|order| *order == orders[0]), || format!("three orders: {orders:?}"))?;
        passed("clients of three instances heard two publishers in one order")
    }

    /// Redis hangs. The outcome of messages that were already sent is unknown. A publish that cannot continue without
    /// Redis is refused. What others publish in the meantime arrives when Redis is back.
    pub(super) fn says_what_it_does_not_know_while_redis_hangs(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:hung:ops";
        let mut hearing = self.client(2, "alice", None)?;
        hearing.subscribe(CHANNEL, None)?;
        let mut publisher = self.client(1, "publisher", None)?;
        self.signal_member("-STOP", "redis")?;
        let answers = hang(&mut hearing, &mut publisher);
        let outside = self.tidegate(&["publish", "--type", "n", CHANNEL, "0"]);
        let outside = outside.env("TIDEGATE_REDIS_REPLY_DEADLINE_MS", "30000");
        let outside = thread::spawn(move || outside.run());
        // Redis must continue, whatever the check found.
        self.signal_member("-CONT", "redis")?;
        answers?;
        outside.join().expect("it does not panic")?;
        let (mut is_back, mut has_come) = (false, false);
        while !(is_back && has_come) {
            let frame = hearing.next()?;
            is_back |= frame["type"] == "degraded" && frame["payload"]["degraded"] == false;
            has_come |= frame["type"] == "n" && frame["payload"] == 0;
            expect(frame["type"] != "gap", || format!("nothing was lost, and a client is told {frame}"))?;
        }
        passed("while Redis hung publishers were told `unknown` and `unavailable`, and then all came")
    }

    /// A client behind HAProxy answers no ping. HAProxy would disconnect it later.
    pub(super) fn notices_a_client_that_vanished(&mut self) -> Result<(), Failure> {
        let mut silent = self.client(1, "vanished", None)?;
        silent.socket.fall_silent();
        let began = Instant::now();
        let code = silent.socket.receive_close(NOTICED_WITHIN).map_err(Failure::during("waiting for 4001"))?;
        expect(code == 4001, || format!("a client that answers no ping is closed with {code}"))?;
        passed(&format!("a client that answers no ping was closed after {:.0} s", began.elapsed().as_secs_f64()))
    }
}

/// Called directly after Redis began to hang.
fn hang(hearing: &mut Client, publisher: &mut Client) -> Result<(), Failure> {
    let code = |answer: Value| answer["payload"]["code"].as_str().unwrap_or_default().to_owned();
    let unknown = code(publisher.publish_one("collection:hung:unknown", &0.into())?);
    expect(unknown == "unknown", || format!("a publish without an answer is told {unknown:?}"))?;
    hearing.receive_frame("degraded")?;
    // The client's own instance may detect it a moment later.
    let began = Instant::now();
    while code(publisher.publish_one("system:hung", &0.into())?) != "unavailable" {
        expect(began.elapsed() < LEARNED_WITHIN, || "a publish that Redis alone may take is not refused".into())?;
    }
    Ok(())
}
