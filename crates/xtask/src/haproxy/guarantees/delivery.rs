//! What clients receive after a fault: clients with positions, and clients that stay connected.

use std::io::{self, BufRead as _, BufReader, Lines, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::Process;

use super::{FAMILIES, MEMBERS};
use crate::failure::Failure;
use crate::haproxy::{Trial, eventually, expect, passed};

/// The rows of a dead instance are removed after this time (`registry.reap_ms` and a heartbeat), with time for a busy
/// machine.
const REAPED_WITHIN: Duration = Duration::from_secs(20);
/// Messages of this size and number exceed all buffers between gateway and client, and the outbox of the client.
const LARGE_BYTES: usize = 500_000;
const LARGE: u64 = 60;
/// The subscribers' connections are closed at most this many times, until one message is published while they are
/// closed.
const CUTS_MAX: u64 = 50;

impl Trial {
    /// Gateway2 is killed. It served a client with a position, a client that kept nothing, and a member that another
    /// client watches.
    pub(super) fn goes_on_without_a_killed_instance(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:killed:ops";
        let mut publisher = self.client(1, "publisher", None)?;
        let mut positioned = self.client(2, "positioned", None)?;
        positioned.subscribe(CHANNEL, None)?;
        let mut forgetful = self.client(2, "forgetful", None)?;
        forgetful.subscribe(CHANNEL, None)?;
        publisher.publish(CHANNEL, 0..5)?;
        let position = positioned.numbers(0..5)?;
        let mut watcher = self.client(1, "watcher", None)?;
        watcher.subscribe(MEMBERS, None)?;
        watcher.say(&json!({ "type": "presence", "channel": MEMBERS }))?;
        watcher.receive_frame("presence")?;
        let mut member = self.client(2, "member", None)?;
        member.subscribe(MEMBERS, None)?;
        while watcher.receive_frame("joined")?["payload"]["user"] != "member" {}
        self.is_listed("positioned")?;

        self.signal("-KILL", 2)?;
        let killed = Instant::now();
        publisher.publish(CHANNEL, 5..10)?;
        let mut back = self.client(2, "positioned", None)?;
        let answer = back.subscribe(CHANNEL, Some(&position))?;
        expect(answer["payload"]["resumed"] == true, || format!("after a kill it is told {answer}"))?;
        back.numbers(5..10)?;
        let restored = self.client(2, "forgetful", Some(&forgetful.session))?.restored()?;
        expect(restored == json!({ "found": false }), || format!("of a killed instance's session {restored}"))?;
        // Its new connection is on another instance, and it stays open.
        let is_alone = || self.tidegate(&["who", "positioned"]).answer().is_ok_and(|lines| lines.lines().count() == 1);
        eventually("the killed instance's connections are gone", is_alone)?;
        let (who, mut left) = (killed.elapsed(), Value::Null);
        while left["payload"]["user"] != "member" && killed.elapsed() < REAPED_WITHIN {
            left = watcher.receive_frame("left")?;
        }
        let members = killed.elapsed();
        expect(who < REAPED_WITHIN && members < REAPED_WITHIN, || format!("gone after {who:?} and {members:?}"))?;
        self.fleet.start_again(2)?;
        passed(&format!(
            "a killed instance's client got the rest elsewhere; its rows were gone after {:.1} s, its members after {:.1} s",
            who.as_secs_f64(),
            members.as_secs_f64()
        ))
    }

    /// Closes the subscribers' connections to Redis at the moment of a publish, until one subscriber has missed a
    /// message.
    pub(super) fn repairs_what_pub_sub_has_dropped(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:dropped:ops";
        let mut clients = (1..=3).map(|n| self.client(n, "alice", None)).collect::<Result<Vec<_>, _>>()?;
        for client in &mut clients {
            client.subscribe(CHANNEL, None)?;
        }
        // This publisher calls Redis directly. A gateway whose Redis connections have ended would answer that it is cut
        // off.
        let mut backend = Backend::start(self, CHANNEL)?;
        let repaired = || (1..=3).filter_map(|number| self.metric(number, "tidegate_repaired_total")).sum::<u64>();
        let (before, mut n) = (repaired(), 0);
        while repaired() == before {
            expect(n < CUTS_MAX, || format!("of {n} messages none was dropped"))?;
            self.redis("CLIENT KILL TYPE pubsub")?;
            backend.publish(n).map_err(Failure::during("publishing past the gateways"))?;
            let began = Instant::now();
            for client in &mut clients {
                client.numbers(n..n + 1)?;
            }
            // The periodic check runs every 30 s. A notice that travels through Redis may be late by 3 s.
            expect(began.elapsed() < Duration::from_secs(3), || format!("{n} came after {:?}", began.elapsed()))?;
            n += 1;
        }
        passed(&format!("of {n} messages published while subscribers' links ended, each came, in order"))
    }

    pub(super) fn tells_of_a_redis_that_was_flushed(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:flushed:ops";
        let mut client = self.client(3, "alice", None)?;
        client.subscribe(CHANNEL, None)?;
        let mut publisher = self.client(1, "publisher", None)?;
        publisher.publish(CHANNEL, 0..3)?;
        let position = client.numbers(0..3)?;
        self.redis("FLUSHALL")?;
        publisher.publish(CHANNEL, 3..4)?;
        let gap = client.receive_frame("gap")?;
        expect(gap["payload"]["after"] == position.as_str(), || format!("after a flush {gap}"))?;
        let mut back = self.client(2, "alice", None)?;
        let answer = back.subscribe(CHANNEL, Some(&position))?;
        expect(answer["payload"]["resumed"] == false, || format!("after a flush a client resumed: {answer}"))?;
        back.receive_frame("gap")?;
        for number in 1..=3 {
            self.seen(number, "has its lease again", |server| server.weight == 100 && server.status == "UP")?;
            eventually("the lease is held", || self.metric(number, "tidegate_lease_held") == Some(1))?;
        }
        passed("when Redis was flushed those who stayed and those who came back were told by a gap")
    }

    /// The client reads nothing until more data waits for it than all buffers hold.
    pub(super) fn gives_a_slow_client_the_same_later(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:slow:ops";
        let mut slow = self.client(3, "slow", None)?;
        slow.subscribe(CHANNEL, None)?;
        let mut publisher = self.client(1, "publisher", None)?;
        let filler = "x".repeat(LARGE_BYTES);
        for n in 0..LARGE {
            let ack = publisher.publish_one(CHANNEL, &json!([n, filler]))?;
            expect(ack["type"] == "ack", || format!("{n} was answered {ack}"))?;
        }
        let behind = self.metric(3, "tidegate_slow_clients");
        expect(behind == Some(1), || format!("gateway3 counts {behind:?} slow clients"))?;
        for n in 0..LARGE {
            let message = slow.receive_frame("n")?;
            expect(message["payload"][0] == n, || format!("not {n} but {}", message["payload"][0]))?;
        }
        passed("a client that read nothing for a while got the same messages later, in order")
    }
}

/// `tidegate publish --lines`, which publishes to Redis. A call takes at most as long as a subscriber's reconnect.
struct Backend {
    _process: Process,
    lines: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Backend {
    fn start(trial: &Trial, channel: &str) -> Result<Self, Failure> {
        let (families, rows) = FAMILIES;
        let mut command = Command::new(&trial.binary);
        command.args(["publish", "--lines", "--type", "n", channel]).env(families, rows);
        command.env("TIDEGATE_REDIS_URL", format!("redis://{}", trial.fleet.redis));
        let mut process = Process::start("a backend", command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let child = &mut process.child;
        let (lines, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Ok(Self { _process: process, lines, answers: BufReader::new(answers).lines() })
    }

    fn publish(&mut self, n: u64) -> io::Result<()> {
        writeln!(self.lines, "{n}")?;
        self.answers.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).map(drop)
    }
}
