//! The roster under literal times: heartbeat 2 s, suspected after 6 s, gone after 8 s.

use super::*;
use crate::instance::Incarnation;

fn instance(id: &str, incarnation: u32) -> Instance {
    Instance {
        id: InstanceId::parse(id).unwrap(),
        incarnation: Incarnation::new(incarnation, 0),
        address: "127.0.0.1:1".into(),
    }
}

fn heartbeat(id: &str, incarnation: u32, number: u64) -> PeerHeartbeat {
    PeerHeartbeat { instance: instance(id, incarnation), number, age: Duration::ZERO, load: None }
}

/// A roster of instance `me` and a clock in seconds.
struct Watch {
    roster: Roster,
    zero: Instant,
}

impl Watch {
    fn new() -> Self {
        let seconds = Duration::from_secs;
        let me = InstanceId::parse("me").unwrap();
        Self { roster: Roster::new(me, seconds(2), seconds(6), seconds(8)), zero: Instant::now() }
    }

    fn look(&mut self, second: u64, heartbeats: Vec<PeerHeartbeat>) -> Vec<Change> {
        self.roster.observe(heartbeats, self.zero + Duration::from_secs(second))
    }

    fn statuses(&self) -> Vec<(&str, Status)> {
        self.roster.peers().map(|peer| (peer.instance.id.as_str(), peer.status)).collect()
    }
}

#[test]
fn a_silent_peer_is_suspected_then_gone_and_its_corpse_stays_gone() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(0, vec![heartbeat("me", 1, 1), heartbeat("a", 1, 7)]), [Change::Joined(instance("a", 1))]);
    for second in [2, 4] {
        assert_eq!(watch.look(second, vec![heartbeat("me", 1, second), heartbeat("a", 1, 7)]), []);
    }
    assert_eq!(watch.look(6, vec![heartbeat("a", 1, 7)]), [Change::Suspected(instance("a", 1))]);
    assert_eq!(watch.look(8, vec![heartbeat("a", 1, 7)]), [Change::Left(instance("a", 1))]);
    assert_eq!(watch.look(10, vec![heartbeat("a", 1, 7)]), []);
    assert_eq!(watch.statuses(), [("a", Status::Gone)]);
    assert_eq!(watch.look(12, vec![]), []);
    assert_eq!(watch.statuses(), []);
}

#[test]
fn a_suspect_recovers_and_a_gone_one_joins_again() {
    let mut watch = Watch::new();
    watch.look(0, vec![heartbeat("a", 1, 1)]);
    for second in [2, 4, 6] {
        watch.look(second, vec![heartbeat("a", 1, 1)]);
    }
    assert_eq!(watch.look(7, vec![heartbeat("a", 1, 2)]), [Change::Recovered(instance("a", 1))]);
    for second in [9, 11, 13, 15] {
        watch.look(second, vec![heartbeat("a", 1, 2)]);
    }
    assert_eq!(watch.statuses(), [("a", Status::Gone)]);
    assert_eq!(watch.look(17, vec![heartbeat("a", 1, 3)]), [Change::Joined(instance("a", 1))]);
}

#[test]
fn a_goodbye_and_a_new_incarnation_are_seen_at_once() {
    let mut watch = Watch::new();
    watch.look(0, vec![heartbeat("a", 1, 1), heartbeat("b", 1, 1)]);
    assert_eq!(watch.look(2, vec![heartbeat("b", 1, 2)]), [Change::Left(instance("a", 1))]);
    assert_eq!(
        watch.look(4, vec![heartbeat("b", 2, 1)]),
        [Change::Left(instance("b", 1)), Change::Joined(instance("b", 2))]
    );
}

#[test]
fn an_observer_that_was_frozen_has_no_opinion() {
    let mut watch = Watch::new();
    watch.look(0, vec![heartbeat("a", 1, 1)]);
    // A minute without a look counts as two heartbeats.
    assert_eq!(watch.look(60, vec![heartbeat("a", 1, 1)]), []);
    assert_eq!(watch.statuses(), [("a", Status::Up)]);
    assert_eq!(watch.look(62, vec![heartbeat("a", 1, 1)]), [Change::Suspected(instance("a", 1))]);
}

#[test]
fn at_first_sight_the_age_of_the_record_counts() {
    let mut watch = Watch::new();
    let aged = |seconds| PeerHeartbeat { age: Duration::from_secs(seconds), ..heartbeat("a", 1, 1) };
    assert_eq!(watch.look(0, vec![aged(600)]), []);
    assert_eq!(watch.statuses(), [("a", Status::Gone)]);

    let mut watch = Watch::new();
    assert_eq!(watch.look(0, vec![aged(7)]), [Change::Joined(instance("a", 1)), Change::Suspected(instance("a", 1))]);
    assert_eq!(watch.look(2, vec![aged(9)]), [Change::Left(instance("a", 1))]);
}

#[test]
fn when_a_third_falls_silent_together_nobody_is_buried_until_it_has_lasted() {
    let mut watch = Watch::new();
    let live = |second| ["a", "b", "c", "d"].map(|id| heartbeat(id, 1, second)).to_vec();
    let with_dead = |second| [live(second), vec![heartbeat("x", 1, 0), heartbeat("y", 1, 0)]].concat();
    watch.look(0, with_dead(0));
    for second in [2, 4] {
        assert_eq!(watch.look(second, with_dead(second)), []);
    }
    let changes = watch.look(6, with_dead(6));
    assert_eq!(changes[0], Change::ManyVanished { silent: 2, of: 6 });
    assert!(watch.roster.doubts());
    for second in [8, 10, 12, 14] {
        assert_eq!(watch.look(second, with_dead(second)), [], "at {second} s");
    }
    let changes = watch.look(16, with_dead(16));
    assert_eq!(changes, [Change::Left(instance("x", 1)), Change::Left(instance("y", 1))]);
    watch.look(18, with_dead(18));
    assert!(!watch.roster.doubts());
}

#[test]
fn fewer_than_a_third_are_buried_in_time() {
    let mut watch = Watch::new();
    let ids = ["a", "b", "c", "d", "e"];
    let heartbeats = |second| {
        let mut heartbeats = ids.map(|id| heartbeat(id, 1, second)).to_vec();
        heartbeats.extend([heartbeat("x", 1, 0), heartbeat("y", 1, 0)]);
        heartbeats
    };
    for second in [0, 2, 4, 6] {
        watch.look(second, heartbeats(second));
    }
    let changes = watch.look(8, heartbeats(8));
    assert_eq!(changes, [Change::Left(instance("x", 1)), Change::Left(instance("y", 1))]);
}

#[test]
fn a_store_that_forgot_everybody_buries_nobody() {
    let mut watch = Watch::new();
    let all = |number| ["a", "b", "c"].map(|id| heartbeat(id, 1, number)).to_vec();
    watch.look(0, all(1));
    // After FLUSHALL the list is empty until all instances have sent heartbeats again.
    assert_eq!(watch.look(2, vec![]), []);
    assert_eq!(watch.look(4, all(2)), []);
    assert_eq!(watch.statuses(), [("a", Status::Up), ("b", Status::Up), ("c", Status::Up)]);
}

#[test]
fn the_dead_are_named_until_the_store_forgets_them_and_nobody_while_in_doubt() {
    let mut watch = Watch::new();
    let heartbeats = |second| {
        vec![heartbeat("a", 1, second), heartbeat("b", 1, second), heartbeat("c", 1, second), heartbeat("x", 1, 3)]
    };
    let dead =
        |watch: &Watch| watch.roster.dead().map(|(who, number)| (who.id.to_string(), number)).collect::<Vec<_>>();
    for second in [0, 2, 4, 6] {
        watch.look(second, heartbeats(second));
        assert_eq!(dead(&watch), [], "at {second} s");
    }
    for second in [8, 10] {
        watch.look(second, heartbeats(second));
        assert_eq!(dead(&watch), [("x".to_owned(), 3)], "at {second} s");
    }
    watch.look(12, heartbeats(12).into_iter().take(3).collect());
    assert_eq!(dead(&watch), []);
    // Two of three fall silent: no peer is removed while Redis may be the cause.
    for second in [14, 16, 18, 20, 22, 24, 26] {
        watch.look(second, vec![heartbeat("a", 1, second), heartbeat("b", 1, 12), heartbeat("c", 1, 12)]);
        assert_eq!(dead(&watch), [], "at {second} s");
    }
}
