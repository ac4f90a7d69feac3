//! Members of scopes in Redis: changes, lists, and the stream of presence batches.

use std::sync::Arc;
use std::time::Duration;

use keyspace::Function;
use redis::{RedisResult, cmd};
use tokio::time::{Instant, timeout_at};
use wire::{InstanceId, Timestamp, UserId};

use super::{RedisStore, malformed, millis, text};
use crate::error::StoreError;
use crate::instance::Instance;
use crate::lease::Token;
use crate::member::{Member, MemberChange, MemberInfo, MemberList};
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceEvent, PresenceSnapshot, PresenceTransition};
use crate::store::MEMBER_CHANGES_MAX;

/// Duration of one wait for presence batches.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Most entries that are read from the stream at a time. The stream has no more.
const ENTRIES_MAX: usize = 256;

/// The answer to XREAD: streams, entries, fields and values.
type Read = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;

impl RedisStore {
    pub(super) async fn change_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> Result<Option<Duration>, StoreError> {
        assert!(changes.len() <= MEMBER_CHANGES_MAX, "a batch of changes is bounded");
        let function = Function::PRESENCE_WRITE;
        let grace = millis(self.timings.grace);
        let mut args = vec![token.as_str(), instance.id.as_str(), &grace];
        for change in changes {
            args.extend(match change {
                MemberChange::Enter(scope, user, info) => {
                    ["+", scope.as_str(), user.as_str(), info.as_ref().map_or("", |info| info.as_str())]
                }
                MemberChange::Exit(scope, user) => ["-", scope.as_str(), user.as_str(), ""],
            });
        }
        let keys = [self.keyspace.lease(&instance.id), self.keyspace.peers()];
        let answer = self.change(function, &keys, &args).await?;
        match answer.get(1).map(String::as_str) {
            Some("") => Ok(None),
            due => {
                let due = due.and_then(|due| due.parse().ok()).map(Duration::from_millis);
                due.map(Some).ok_or_else(|| malformed(function, &answer))
            }
        }
    }

    /// Waits on a connection that serves no other call.
    pub(super) async fn read_presence_batches(&self, after: PresenceCursor) -> Result<Vec<PresenceBatch>, StoreError> {
        let deadline = Instant::now() + WAIT + self.timings.call;
        let connected = self.waiting.connection(self.slot, Instant::now() + self.timings.call).await;
        let mut connection = connected.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(ENTRIES_MAX).arg("BLOCK").arg(WAIT.as_millis() as u64);
        read.arg("STREAMS").arg(self.keyspace.presence()).arg(after.to_string());
        let answer: Result<RedisResult<Read>, _> = timeout_at(deadline, read.query_async(&mut *connection)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.waiting.answered(connection.node());
                let entries = answer.into_iter().flatten().flat_map(|(_, entries)| entries);
                Ok(entries.filter_map(|(id, fields)| read_entry(&id, fields)).collect())
            }
            Ok(Err(error)) => {
                // The primary may be another server now.
                self.waiting.failed(&connection.discard(), &error.to_string());
                Err(StoreError::Unreachable(error.to_string()))
            }
            Err(_) => {
                let error = StoreError::NoAnswer(WAIT);
                self.waiting.failed(&connection.discard(), &error.to_string());
                Err(error)
            }
        }
    }
}

/// Reads the id of the newest batch, and for each scope the number of members, the number of listed members, and four
/// fields of each listed member.
pub(super) fn read_snapshot(answer: &[String]) -> Option<PresenceSnapshot> {
    let [cursor, rest @ ..] = answer else { return None };
    let (mut rest, mut scopes) = (rest, Vec::new());
    while let [count, shown, behind @ ..] = rest {
        let (count, shown) = (count.parse().ok()?, shown.parse::<usize>().ok()?);
        let (members, behind) = behind.split_at_checked(shown.checked_mul(4)?)?;
        scopes.push(MemberList { count, members: members.chunks(4).filter_map(read_member).collect() });
        rest = behind;
    }
    Some(PresenceSnapshot { cursor: PresenceCursor::parse(cursor)?, scopes })
}

fn read_member(fields: &[String]) -> Option<Member> {
    let [user, since, incarnations, info] = fields else { return None };
    let incarnations = incarnations.split(',').filter(|incarnations| *incarnations != "-");
    let instance = |incarnation: &str| InstanceId::parse(incarnation.rsplit_once(':')?.0).ok();
    Some(Member {
        user: UserId::parse(user).ok()?,
        since: Timestamp(since.parse().ok()?),
        info: read_info(info),
        instances: incarnations.map(instance).collect::<Option<_>>()?,
    })
}

/// Reads an entry. One of another program counts as a hole: after it the lists are read again.
fn read_entry(id: &str, fields: Vec<Vec<u8>>) -> Option<PresenceBatch> {
    let fields: Vec<String> = fields.into_iter().map(text).collect();
    read_batch(id, &fields).or_else(|| {
        tracing::warn!(entry = id, "malformed presence entry ignored: another program has written it");
        let cursor = PresenceCursor::parse(id)?;
        Some(PresenceBatch { cursor, before: cursor, changes: Vec::new() })
    })
}

fn read_batch(id: &str, fields: &[String]) -> Option<PresenceBatch> {
    let [name, before, fields @ ..] = fields else { return None };
    let changes = fields.chunks(2).map(|change| match change {
        [transition, text] => read_event(transition, text),
        _ => None,
    });
    (name == "p").then_some(())?;
    Some(PresenceBatch {
        cursor: PresenceCursor::parse(id)?,
        before: PresenceCursor::parse(before)?,
        changes: changes.collect::<Option<_>>()?,
    })
}

fn read_event(transition: &str, text: &str) -> Option<PresenceEvent> {
    let mut words = text.splitn(5, ' ');
    let (scope, user, at, count) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let transition = match transition {
        "+" => PresenceTransition::Joined(read_info(words.next().unwrap_or_default())),
        "-" => PresenceTransition::Left,
        _ => return None,
    };
    Some(PresenceEvent {
        scope: scope.into(),
        user: UserId::parse(user).ok()?,
        at: Timestamp(at.parse().ok()?),
        count: count.parse().ok()?,
        transition,
    })
}

fn read_info(text: &str) -> MemberInfo {
    (!text.is_empty()).then(|| Arc::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_snapshot_reads_back() {
        let answer = ["7-0", "3", "2", "alice", "5", "gw-1:ab,gw-2:cd", r#"{"a": 1}"#, "bob", "6", "-", "", "0", "0"];
        let snapshot = read_snapshot(&texts(&answer)).unwrap();
        assert_eq!(snapshot.cursor.to_string(), "7-0");
        assert_eq!(
            (snapshot.scopes.len(), snapshot.scopes[0].count, &snapshot.scopes[1]),
            (2, 3, &MemberList::default())
        );
        let [alice, bob] = &snapshot.scopes[0].members[..] else { panic!("two are shown") };
        assert_eq!((alice.instances.len(), alice.info.as_deref().map(String::as_str)), (2, Some(r#"{"a": 1}"#)));
        assert_eq!((bob.instances.len(), bob.info.as_deref(), bob.since), (0, None, Timestamp(6)));
    }

    #[test]
    fn an_answer_cut_short_is_no_snapshot() {
        let answer = texts(&["", "3", "2", "alice", "5", "gw-1:ab", ""]);
        assert_eq!(read_snapshot(&answer[..3]), None);
        assert_eq!(read_snapshot(&answer), None);
        assert_eq!(read_snapshot(&[]), None);
        assert_eq!(read_snapshot(&answer[..1]), Some(PresenceSnapshot::default()));
        assert_eq!(read_snapshot(&texts(&["", "1", "99999999999999999999"])), None);
    }

    #[test]
    fn a_batch_reads_back() {
        let fields = [
            "p",
            "7-0",
            "+",
            r#"acme/system alice 5 1 {"a": 1}"#,
            "+",
            "acme/system bob 5 2 ",
            "-",
            "acme/system alice 6 1",
        ];
        let batch = read_batch("8-1", &texts(&fields)).unwrap();
        assert_eq!((batch.cursor > batch.before, batch.changes.len()), (true, 3));
        assert_eq!(batch.changes[0].transition, PresenceTransition::Joined(Some(Arc::new(r#"{"a": 1}"#.to_owned()))));
        assert_eq!(batch.changes[1].transition, PresenceTransition::Joined(None));
        assert_eq!((&batch.changes[2].transition, batch.changes[2].count), (&PresenceTransition::Left, 1));
        assert_eq!(read_batch("8-1", &texts(&["p", "", "?", "acme/system alice 5 1"])), None);
        assert_eq!(read_batch("8-1", &texts(&["p", "", "+"])), None);
        assert_eq!(read_batch("8", &texts(&["p", ""])), None);
    }
}
