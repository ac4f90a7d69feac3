//! The members of scopes as Redis' functions tell them.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Connection;
use redis::{RedisResult, cmd};
use redis_topology::Held;
use tokio::time::{Instant, timeout_at};
use wire::{InstanceId, Timestamp, UserId};

use super::RedisStore;
use crate::error::StoreError;
use crate::member::{Mark, Member, MemberInfo, MemberList, MemberNews, Roll, Turn, Turnover};

/// Redis answers by then, be there news or not.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Entries of the stream at a time; there are no more.
const ENTRIES_MAX: usize = 256;

/// As XREAD answers: streams, entries, fields and values.
type Read = Option<Vec<(String, Vec<(String, Vec<String>)>)>>;

impl RedisStore {
    /// Waits on a connection of its own, which has nothing else to do.
    pub(super) async fn read_turnovers(&self, after: Mark) -> Result<Vec<Turnover>, StoreError> {
        let deadline = Instant::now() + WAIT + self.timings.call;
        let held = self.waiting.connection(self.slot, Instant::now() + self.timings.call).await;
        let Held { mut connection, node } = held.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(ENTRIES_MAX).arg("BLOCK").arg(WAIT.as_millis() as u64);
        read.arg("STREAMS").arg(self.keyspace.presence()).arg(after.to_string());
        let answer: Result<RedisResult<Read>, _> = timeout_at(deadline, read.query_async(&mut connection)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.waiting.answered(&node);
                let entries = answer.into_iter().flatten().flat_map(|(_, entries)| entries);
                let malformed = || StoreError::Malformed("the stream of members holds what it should not".into());
                entries.map(|(id, fields)| read_turnover(&id, &fields)).collect::<Option<_>>().ok_or_else(malformed)
            }
            Ok(Err(error)) => {
                // It may be another server's turn.
                drop(Connection::take(connection));
                self.waiting.failed(&node);
                Err(StoreError::Unreachable(error.to_string()))
            }
            Err(_) => {
                drop(Connection::take(connection));
                self.waiting.failed(&node);
                Err(StoreError::NoAnswer(WAIT))
            }
        }
    }
}

/// The id of the newest change, and for each scope the number of members, how many of them follow, and four fields of
/// each.
pub(super) fn read_roll(answer: &[String]) -> Option<Roll> {
    let [mark, rest @ ..] = answer else { return None };
    let (mut rest, mut scopes) = (rest, Vec::new());
    while let [count, shown, behind @ ..] = rest {
        let (count, shown) = (count.parse().ok()?, shown.parse::<usize>().ok()?);
        let (members, behind) = behind.split_at_checked(shown.checked_mul(4)?)?;
        scopes.push(MemberList { count, members: members.chunks(4).map(read_member).collect::<Option<_>>()? });
        rest = behind;
    }
    Some(Roll { mark: Mark::parse(mark)?, scopes })
}

fn read_member(fields: &[String]) -> Option<Member> {
    let [user, since, lives, info] = fields else { return None };
    let lives = lives.split(',').filter(|lives| *lives != "-");
    let instance = |life: &str| InstanceId::parse(life.rsplit_once(':')?.0).ok();
    Some(Member {
        user: UserId::parse(user).ok()?,
        since: Timestamp(since.parse().ok()?),
        info: read_info(info),
        instances: lives.map(instance).collect::<Option<_>>()?,
    })
}

fn read_turnover(id: &str, fields: &[String]) -> Option<Turnover> {
    let [name, before, fields @ ..] = fields else { return None };
    let changes = fields.chunks(2).map(|change| match change {
        [turn, text] => read_news(turn, text),
        _ => None,
    });
    (name == "p").then_some(())?;
    Some(Turnover { mark: Mark::parse(id)?, before: Mark::parse(before)?, changes: changes.collect::<Option<_>>()? })
}

fn read_news(turn: &str, text: &str) -> Option<MemberNews> {
    let mut words = text.splitn(5, ' ');
    let (scope, user, at, count) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let turn = match turn {
        "+" => Turn::Joined(read_info(words.next().unwrap_or_default())),
        "-" => Turn::Left,
        _ => return None,
    };
    Some(MemberNews {
        scope: scope.into(),
        user: UserId::parse(user).ok()?,
        at: Timestamp(at.parse().ok()?),
        count: count.parse().ok()?,
        turn,
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
    fn a_roll_reads_back() {
        let answer = ["7-0", "3", "2", "alice", "5", "gw-1:ab,gw-2:cd", r#"{"a": 1}"#, "bob", "6", "-", "", "0", "0"];
        let roll = read_roll(&texts(&answer)).unwrap();
        assert_eq!(roll.mark.to_string(), "7-0");
        assert_eq!((roll.scopes.len(), roll.scopes[0].count, &roll.scopes[1]), (2, 3, &MemberList::default()));
        let [alice, bob] = &roll.scopes[0].members[..] else { panic!("two are shown") };
        assert_eq!((alice.instances.len(), alice.info.as_deref().map(String::as_str)), (2, Some(r#"{"a": 1}"#)));
        assert_eq!((bob.instances.len(), bob.info.as_deref(), bob.since), (0, None, Timestamp(6)));
    }

    #[test]
    fn an_answer_cut_short_is_no_roll() {
        let answer = texts(&["", "3", "2", "alice", "5", "gw-1:ab", ""]);
        assert_eq!(read_roll(&answer[..3]), None);
        assert_eq!(read_roll(&answer), None);
        assert_eq!(read_roll(&[]), None);
        assert_eq!(read_roll(&answer[..1]), Some(Roll::default()));
        assert_eq!(read_roll(&texts(&["", "1", "99999999999999999999"])), None);
    }

    #[test]
    fn a_turnover_reads_back() {
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
        let turnover = read_turnover("8-1", &texts(&fields)).unwrap();
        assert_eq!((turnover.mark > turnover.before, turnover.changes.len()), (true, 3));
        assert_eq!(turnover.changes[0].turn, Turn::Joined(Some(Arc::new(r#"{"a": 1}"#.to_owned()))));
        assert_eq!(turnover.changes[1].turn, Turn::Joined(None));
        assert_eq!((&turnover.changes[2].turn, turnover.changes[2].count), (&Turn::Left, 1));
        assert_eq!(read_turnover("8-1", &texts(&["p", "", "?", "acme/system alice 5 1"])), None);
        assert_eq!(read_turnover("8-1", &texts(&["p", "", "+"])), None);
        assert_eq!(read_turnover("8", &texts(&["p", ""])), None);
    }
}
