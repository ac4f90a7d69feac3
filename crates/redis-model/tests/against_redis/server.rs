//! A real Redis for the traces: functions, replication, and one subscriber that receives everything up to a mark.

use std::time::{Duration, Instant};

use keyspace::{Function, Keyspace, Library};
use redis::{Connection, Value, cmd};
use redis_model::{Call, Draft, Entry, FunctionReply, Page, Refusal, ReplicationId};
use test_support::RedisServer;
use wire::Position;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    server: RedisServer,
    redis: Connection,
    listener: Connection,
    library: Library,
    /// The channel that marks the end of the messages received so far. Each server has its own, because subscribers of
    /// a replica also receive the messages of the primary.
    mark: String,
}

impl Server {
    pub(crate) fn start(library: &Library, leaf_entries_max: usize) -> Self {
        let leaf = leaf_entries_max.to_string();
        let server = RedisServer::start(&[
            "--stream-node-max-entries",
            &leaf,
            "--stream-node-max-bytes",
            "0",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let (redis, listener) = (server.connect(), server.connect());
        let mark = format!("mark-{}", server.port());
        let mut server = Self { server, redis, listener, library: library.clone(), mark };
        server.listen();
        server.load();
        server
    }

    /// The subscriber receives at least the mark.
    fn listen(&mut self) {
        self.listener = self.server.connect();
        self.listener.set_read_timeout(Some(DEADLINE)).expect("a timeout is not nothing");
        self.send_to_listener("SUBSCRIBE", &self.mark.clone());
    }

    fn send_to_listener(&mut self, command: &str, channel: &str) {
        self.listener.send_packed_command(&cmd(command).arg(channel).get_packed_command()).expect("it is connected");
        self.listener.recv_response().expect("it is confirmed");
    }

    pub(crate) fn subscribe(&mut self, scope: &str, is_wanted: bool) {
        let command = if is_wanted { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
        self.send_to_listener(command, &channel(scope));
    }

    /// All messages received since the last call.
    pub(crate) fn received(&mut self) -> Vec<(String, Vec<u8>)> {
        self.exec(&["PUBLISH", &self.mark.clone(), ""]);
        let mut received = Vec::new();
        loop {
            let message: (String, String, Vec<u8>) =
                redis::from_redis_value(self.listener.recv_response().expect("the mark comes")).expect("a message");
            if message.1 == self.mark {
                return received;
            }
            let scope = Keyspace::default().scope_of_channel(message.1.as_bytes()).expect("a scope's").to_owned();
            received.push((scope, message.2));
        }
    }

    pub(crate) fn load(&mut self) {
        cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(self.library.source()).exec(&mut self.redis).expect("it loads");
    }

    pub(crate) fn now_ms(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = cmd("TIME").query(&mut self.redis).expect("it has a clock");
        seconds * 1_000 + micros / 1_000
    }

    /// The time at which the metadata of a scope expires, in ms; none if it is kept for ever or does not exist.
    pub(crate) fn meta_expires_ms(&mut self, scope: &str) -> Option<u64> {
        let time: i64 = cmd("PEXPIRETIME").arg(key(scope, "meta")).query(&mut self.redis).expect("it answers");
        time.try_into().ok()
    }

    pub(crate) fn exec(&mut self, words: &[&str]) {
        cmd(words[0]).arg(&words[1..]).exec(&mut self.redis).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    pub(crate) fn info(&mut self, field: &str) -> String {
        let text: String = cmd("INFO").arg("replication").query(&mut self.redis).expect("it answers");
        text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned()
    }

    /// Whether a replica has been sent a full copy since the process started.
    pub(crate) fn has_been_copied(&mut self) -> bool {
        let text: String = cmd("INFO").arg("stats").query(&mut self.redis).expect("it answers");
        !text.lines().any(|line| line.trim() == "sync_full:0")
    }

    pub(crate) fn replication_id(&mut self) -> ReplicationId {
        ReplicationId::parse(&self.info("master_replid:")).expect("forty hexadecimal digits")
    }

    pub(crate) fn call(&mut self, scope: &str, call: &Call) -> Result<FunctionReply, Refusal> {
        let (function, args) = match call {
            Call::Publish(drafts) => {
                let words = drafts.iter().flat_map(|draft| [draft.topic.as_bytes().to_vec(), draft.message.to_vec()]);
                (Function::RELAY, words.collect())
            }
            Call::PublishOnce(drafts) => {
                let words = drafts.iter().flat_map(|Draft { topic, message, id }| {
                    [topic.as_bytes().to_vec(), message.to_vec(), id.as_deref().unwrap_or_default().into()]
                });
                (Function::RELAY_ONCE, words.collect())
            }
            Call::Read { after, entries_max } => (Function::READ, page_args(*after, *entries_max)),
            Call::Open { after, entries_max } => (Function::OPEN, page_args(*after, *entries_max)),
            Call::Lost(position) => (Function::LOST, vec![position.to_string().into_bytes()]),
            Call::Probe => (Function::PROBE, vec![b"tidegate:probe:gw-1".to_vec(), b"word".to_vec()]),
        };
        let mut command = cmd(function.command());
        command.arg(function.name).arg(function.keys);
        let keys = ["stream", "meta", "ids:0", "ids:1"].map(|kind| key(scope, kind));
        command.arg(&keys[..usize::from(function.keys)]);
        match (call, command.arg(args).query::<Value>(&mut self.redis)) {
            (_, Err(error)) => Err(refusal(&error.to_string())),
            (Call::Probe, Ok(_)) => Ok(FunctionReply::Probed),
            (Call::Lost(_), Ok(value)) => Ok(FunctionReply::Marked(value == Value::Int(1))),
            (_, Ok(Value::Nil)) => Ok(FunctionReply::Nothing),
            (Call::Publish(_), Ok(value)) => Ok(FunctionReply::Stored(position(value))),
            (Call::PublishOnce(_), Ok(value)) => Ok(FunctionReply::StoredOnce(positions(value))),
            (_, Ok(value)) => Ok(FunctionReply::Page(page(value))),
        }
    }

    /// Ends the process and starts it again with its saved data.
    pub(crate) fn restart(&mut self, keeps_snapshot: bool) {
        self.server.crash();
        if !keeps_snapshot {
            self.server.remove_snapshot();
        }
        self.server.restart();
        self.redis = self.server.connect();
        self.listen();
        self.load();
    }

    /// Becomes a replica of `primary`, and waits until it is a copy.
    pub(crate) fn follow(&mut self, primary: &mut Self) {
        self.exec(&["REPLICAOF", "127.0.0.1", &primary.server.port().to_string()]);
        self.wait_for_link(primary);
    }

    /// Waits for the connection. The old one counts as up until the restart of the primary has been noticed.
    pub(crate) fn wait_for_link(&mut self, primary: &mut Self) {
        let deadline = Instant::now() + DEADLINE;
        while self.info("master_link_status:") != "up" || self.replication_id() != primary.replication_id() {
            assert!(Instant::now() < deadline, "the replica does not follow");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until its one replica has every write.
    pub(crate) fn wait_for_replica(&mut self) {
        let have: u64 = cmd("WAIT").arg(1).arg(DEADLINE.as_millis() as u64).query(&mut self.redis).expect("it waits");
        assert_eq!(have, 1, "the replica has what was written");
    }
}

fn channel(scope: &str) -> String {
    format!("{}:{{{scope}}}", Keyspace::default().prefix())
}

pub(crate) fn key(scope: &str, kind: &str) -> String {
    format!("{}:{kind}", channel(scope))
}

fn page_args(after: Option<Position>, entries_max: usize) -> Vec<Vec<u8>> {
    let after = after.map(|after| after.to_string()).unwrap_or_default();
    vec![after.into_bytes(), entries_max.to_string().into_bytes()]
}

fn refusal(text: &str) -> Refusal {
    match text {
        _ if text.contains("READONLY") || text.contains("ReadOnly") => Refusal::ReadOnly,
        _ if text.contains("OOM") => Refusal::OutOfMemory,
        _ if text.contains("XADD is equal or smaller") => Refusal::IdTooSmall,
        other => panic!("the model knows no such refusal: {other}"),
    }
}

fn position(value: Value) -> Position {
    let text: String = redis::from_redis_value(value).expect("a text");
    text.parse().expect("a position")
}

fn positions(value: Value) -> Vec<(Position, bool)> {
    let Value::Array(parts) = value else { panic!("a list") };
    parts.chunks(2).map(|pair| (position(pair[0].clone()), pair[1] == Value::Int(1))).collect()
}

fn page(value: Value) -> Page {
    type Row = (String, u64, String, Vec<u8>);
    let (top, earlier, entries, more): (String, Vec<String>, Vec<Row>, u8) =
        redis::from_redis_value(value).expect("four parts");
    let parse = |text: &String| -> Position { text.parse().expect("a position") };
    let entry = |(id, time_ms, topic, message): Row| Entry {
        position: parse(&id),
        time_ms,
        topic: topic.into(),
        message: message.into(),
    };
    Page {
        top: parse(&top),
        earlier: earlier.iter().map(|end| parse(&end.trim_end_matches('+').to_owned())).collect(),
        torn: earlier
            .iter()
            .filter_map(|end| end.strip_suffix('+'))
            .map(|end| parse(&end.to_owned()).generation)
            .collect(),
        entries: entries.into_iter().map(entry).collect(),
        more: more == 1,
    }
}
