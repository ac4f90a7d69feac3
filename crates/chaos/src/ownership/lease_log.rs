//! PURE. Which lease is current, and whether a call with another token changed anything, derived from the commands in
//! Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::LEASE_MARK;
use super::monitor_line::MonitorLine;

/// Commands of a function that changes something. A function uses `GET` of the lease and `INFO` to check whether it
/// may.
const WRITES: [&str; 9] = ["SET", "HSET", "HDEL", "HINCRBY", "PEXPIRE", "UNLINK", "DEL", "XADD", "PUBLISH"];
/// Length of the first part of a token `REPLICATION-ID:NUMBER:INCARNATION`.
const REPLID_BYTES: usize = 40;
/// The longest delay of a `MONITOR` line on a busy machine.
const RECEIVE_DELAY_MAX: Duration = Duration::from_millis(1_000);

/// The words of a call, so that it can be repeated.
pub(crate) type Words = Vec<Vec<u8>>;

#[derive(Debug)]
struct HeldLease {
    /// The newest token of the instance.
    token: String,
    /// The end of the lease unless it is renewed, or `None` after it was released.
    until: Option<Instant>,
    /// The calls of this lease were repeated after its end.
    is_tried: bool,
}

#[derive(Debug)]
struct Call {
    name: String,
    token: String,
    is_stale: bool,
    did: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct LeaseLog {
    /// The leases by name.
    leases: BTreeMap<String, HeldLease>,
    /// The newest call of each function under each token.
    calls: BTreeMap<String, BTreeMap<String, Words>>,
    open: Option<Call>,
    /// Number of calls with a stale token that changed nothing.
    pub(crate) refused: u64,
    /// Calls with a stale token that changed something.
    pub(crate) accepted: Vec<String>,
}

impl LeaseLog {
    /// Records a command of Redis. Returns the calls of a token that is stale from now on.
    pub(crate) fn receive(&mut self, line: &MonitorLine, now: Instant) -> Vec<Words> {
        if line.is_inner {
            return self.receive_inner(line, now);
        }
        self.conclude();
        let command = line.text(0).to_ascii_uppercase();
        if command == "FLUSHALL" {
            self.leases.values_mut().for_each(|held| held.until = None);
        }
        let keys: usize = line.text(2).parse().unwrap_or(0);
        let (lease, token) = (line.text(3), line.text(3 + keys));
        if command == "FCALL" && keys > 0 && lease.contains(LEASE_MARK) && is_token(token) {
            let is_stale = self.is_stale(lease, token, now);
            let name = line.text(1).to_owned();
            if !is_stale {
                self.calls.entry(token.to_owned()).or_default().insert(name.clone(), line.words.clone());
            }
            self.open = Some(Call { name, token: token.to_owned(), is_stale, did: None });
        }
        Vec::new()
    }

    fn receive_inner(&mut self, line: &MonitorLine, now: Instant) -> Vec<Words> {
        let (command, key) = (line.text(0).to_ascii_uppercase(), line.text(1));
        if let Some(call) = &mut self.open
            && WRITES.contains(&command.as_str())
        {
            call.did.get_or_insert_with(|| format!("{command} {key}"));
        }
        let ms = |index: usize| Duration::from_millis(line.text(index).parse().unwrap_or(0));
        // `UNLINK` can remove several keys at once.
        if command == "UNLINK" {
            let names = (1..line.words.len()).map(|index| line.text(index).to_owned()).collect::<Vec<_>>();
            return names.iter().filter_map(|name| self.end(name)).flatten().collect();
        }
        if !key.contains(LEASE_MARK) {
            return Vec::new();
        }
        match command.as_str() {
            "SET" => {
                let held = HeldLease { token: line.text(2).to_owned(), until: Some(now + ms(4)), is_tried: false };
                let before = self.leases.insert(key.to_owned(), held);
                before.map_or_else(Vec::new, |before| self.calls_of(&before.token))
            }
            "PEXPIRE" => {
                let until = Some(now + ms(2));
                if let Some(held) = self.leases.get_mut(key) {
                    held.until = until;
                } else if let Some(Call { token, .. }) = &self.open {
                    // The lease was granted before the log began.
                    self.leases.insert(key.to_owned(), HeldLease { token: token.clone(), until, is_tried: false });
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Advances the time to `now`. Returns the calls of tokens that have expired.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Words> {
        let over =
            |held: &&mut HeldLease| !held.is_tried && held.until.is_some_and(|until| until + RECEIVE_DELAY_MAX < now);
        let ended: Vec<String> = self
            .leases
            .values_mut()
            .filter(over)
            .map(|held| {
                held.is_tried = true;
                held.token.clone()
            })
            .collect();
        ended.iter().flat_map(|token| self.calls_of(token)).collect()
    }

    /// Forgets the state, because lines may be missing.
    pub(crate) fn forget(&mut self) {
        self.conclude();
        self.leases.clear();
    }

    fn end(&mut self, lease: &str) -> Option<Vec<Words>> {
        let held = self.leases.get_mut(lease)?;
        held.until = None;
        let token = held.token.clone();
        Some(self.calls_of(&token))
    }

    fn calls_of(&self, token: &str) -> Vec<Words> {
        self.calls.get(token).into_iter().flat_map(|calls| calls.values().cloned()).collect()
    }

    fn is_stale(&self, lease: &str, token: &str, now: Instant) -> bool {
        let Some(held) = self.leases.get(lease) else { return false };
        held.token != token || held.until.is_none_or(|until| until + RECEIVE_DELAY_MAX < now)
    }

    fn conclude(&mut self) {
        let Some(call) = self.open.take().filter(|call| call.is_stale) else { return };
        match call.did {
            None => self.refused += 1,
            Some(did) => self.accepted.push(format!("{} with the stale {} did {did}", call.name, call.token)),
        }
    }
}

fn is_token(text: &str) -> bool {
    let mut parts = text.split(':');
    parts.next().is_some_and(|id| id.len() == REPLID_BYTES) && parts.count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = "t:{registry}:lease:gw-1";

    struct Redis(LeaseLog, Instant);

    impl Redis {
        fn new() -> Self {
            Self(LeaseLog::default(), Instant::now())
        }

        fn did(&mut self, is_inner: bool, words: &[&str], at_ms: u64) -> usize {
            let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            self.0.receive(&MonitorLine { is_inner, words }, self.1 + Duration::from_millis(at_ms)).len()
        }

        fn grants(&mut self, token: &str, at_ms: u64) -> usize {
            self.did(false, &["FCALL", "tidegate_registry_acquire", "3", LEASE, "f", "p", "gw-1"], at_ms);
            self.did(true, &["SET", LEASE, token, "PX", "6000"], at_ms)
        }

        fn renews(&mut self, token: &str, does: &[&str], at_ms: u64) {
            self.did(false, &["FCALL", "tidegate_registry_renew", "2", LEASE, "p", token], at_ms);
            self.did(true, &["GET", LEASE], at_ms);
            if !does.is_empty() {
                self.did(true, does, at_ms);
            }
            self.did(false, &["PING"], at_ms);
        }
    }

    fn token(incarnation_id: u32) -> String {
        format!("{}:{incarnation_id}:{incarnation_id:016x}", "a".repeat(REPLID_BYTES))
    }

    #[test]
    fn a_stale_call_that_changes_something_is_found_and_one_that_does_not_is_counted() {
        let mut redis = Redis::new();
        redis.grants(&token(1), 0);
        redis.renews(&token(1), &["PEXPIRE", LEASE, "6000"], 2_000);
        assert_eq!(redis.grants(&token(2), 3_000), 1, "the old life's renewal is to be tried again");
        redis.renews(&token(1), &[], 3_100);
        assert_eq!((redis.0.refused, redis.0.accepted.len()), (1, 0));
        redis.renews(&token(1), &["HSET", "rows"], 3_200);
        redis.renews(&token(2), &["PEXPIRE", LEASE, "6000"], 3_300);
        assert_eq!((redis.0.refused, redis.0.accepted.len()), (1, 1), "{:?}", redis.0.accepted);
    }

    #[test]
    fn a_lease_that_ran_out_or_was_given_back_is_stale_without_a_successor() {
        let mut redis = Redis::new();
        redis.grants(&token(1), 0);
        redis.renews(&token(1), &["PEXPIRE", LEASE, "6000"], 2_000);
        let at = |ms| redis.1 + Duration::from_millis(ms);
        let (early, late) = (at(8_500), at(9_100));
        assert_eq!(redis.0.tick(early).len(), 0);
        assert_eq!((redis.0.tick(late).len(), redis.0.tick(late).len()), (1, 0), "tried once");
        redis.renews(&token(1), &["HSET", "rows"], 9_200);
        assert_eq!(redis.0.accepted.len(), 1);

        let mut redis = Redis::new();
        redis.grants(&token(1), 0);
        redis.renews(&token(1), &["PEXPIRE", LEASE, "6000"], 100);
        assert_eq!(redis.did(true, &["UNLINK", "rows", LEASE], 200), 1);
        redis.renews(&token(1), &["PEXPIRE", LEASE, "6000"], 300);
        assert_eq!(redis.0.accepted.len(), 1);
    }

    #[test]
    fn after_a_pause_of_hearing_nobody_is_accused() {
        let mut redis = Redis::new();
        redis.grants(&token(2), 0);
        redis.0.forget();
        redis.renews(&token(1), &["PEXPIRE", LEASE, "6000"], 100);
        assert!(redis.0.accepted.is_empty());
        assert_eq!(redis.grants(&token(3), 200), 1, "the one that renewed is known");
    }
}
