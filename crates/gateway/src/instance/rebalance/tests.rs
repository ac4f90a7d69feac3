//! Simulated fleets with literal times: heartbeat 2 s, tolerance 20 %, at least 50 connections, 100 clients per
//! second.

use connection_registry::{Duty, Load, Status};

use super::*;
use crate::instance::fleet::tests::{load, peers};

const HEARTBEAT: Duration = Duration::from_secs(2);
const CONFIG: RebalanceConfig =
    RebalanceConfig { tolerance: 0.2, surplus_min: 50, per_second: 100, spare: Duration::from_secs(60) };

fn full(connections: u64) -> (Status, Option<Load>) {
    (Status::Up, Some(load(connections, 3_000, Duty::Full)))
}

fn own(connections: u64) -> OwnLoad {
    OwnLoad { connections, moved: 0, is_full: true }
}

/// Returns how many clients this instance asks to move within 20 s, if no client moves.
fn asked(connections: u64, others: &[(Status, Option<Load>)]) -> u64 {
    let (mut rebalance, zero) = (Rebalance::new(CONFIG, HEARTBEAT), Instant::now());
    let slots = (0..200).map(|n| zero + SLOT * n);
    slots.map(|now| rebalance.look(now, own(connections), &Fleet::of(&peers(others, now)))).sum()
}

#[test]
fn who_is_above_the_mean_sends_some_to_those_below() {
    let reduced = (Status::Up, Some(load(0, 3_000, Duty::Reduced)));
    let draining = (Status::Up, Some(load(0, 3_000, Duty::Draining)));
    let slow = (Status::Up, Some(load(0, 1, Duty::Full)));
    for (what, connections, others, moves_away) in [
        ("no other instance", 1_000, vec![], false),
        ("two new instances", 1_000, vec![full(0), full(0)], true),
        ("balanced", 1_000, vec![full(1_000), full(1_000)], false),
        ("within the tolerance", 1_100, vec![full(900)], false),
        ("hardly beyond it", 1_202, vec![full(798)], true),
        ("few: only 40 above the mean", 80, vec![full(0)], false),
        ("below the mean", 500, vec![full(0), full(9_000)], false),
        ("the empty one has no Redis", 1_000, vec![full(1_000), reduced], false),
        ("one drains", 1_000, vec![full(0), draining], false),
        ("one is silent", 1_000, vec![full(0), (Status::Suspect, full(0).1)], false),
        ("one has an older version", 1_000, vec![full(0), (Status::Up, None)], false),
        ("a dead instance", 1_000, vec![full(0), (Status::Gone, full(0).1)], true),
        ("the empty one accepts hardly any client", 1_000, vec![slow], false),
    ] {
        assert_eq!(asked(connections, &others) > 0, moves_away, "{what}");
    }
}

#[test]
fn nobody_goes_before_it_has_lasted_nor_while_this_instance_is_not_whole() {
    let (mut rebalance, zero) = (Rebalance::new(CONFIG, HEARTBEAT), Instant::now());
    let mut look = |seconds: f64, own: OwnLoad, seen: f64| {
        let at = |seconds| zero + Duration::from_secs_f64(seconds);
        let fleet = Fleet::of(&peers(&[full(0)], at(seen)));
        (rebalance.look(at(seconds), own, &fleet), rebalance.is_active())
    };
    for n in 0..100 {
        let seconds = f64::from(n) / 10.0;
        assert_eq!(look(seconds, own(1_000), seconds), (0, false), "after {seconds} s");
    }
    assert_eq!(look(10.0, own(1_000), 10.0), (0, true));
    assert_eq!(look(10.1, own(1_000), 10.1), (10, true), "the first round");
    let isolated = OwnLoad { is_full: false, ..own(1_000) };
    assert_eq!(look(10.2, isolated, 10.2), (0, false), "Redis is gone");
    assert_eq!(look(21.0, own(1_000), 21.0), (0, false), "the time starts again");
    assert_eq!(look(32.0, own(1_000), 32.0), (0, true));
    assert_eq!(look(32.1, own(1_000), 28.0), (0, false), "Redis has not answered for two heartbeats");
}

/// The time until an instance tries again, after each round that did not help.
#[test]
fn clients_who_come_back_are_left_in_peace_for_longer_each_time() {
    let (mut rebalance, zero) = (Rebalance::new(CONFIG, HEARTBEAT), Instant::now());
    let (mut me, mut rounds) = (own(1_000), Vec::new());
    for n in 0..20_000 {
        let now = zero + SLOT * n;
        let moves_away = rebalance.look(now, me, &Fleet::of(&peers(&[full(0)], now)));
        me.moved += moves_away;
        if moves_away > 0 {
            rounds.push((n / 10, moves_away));
        }
    }
    let sizes: Vec<u64> = rounds.iter().map(|(_, moves_away)| *moves_away).collect();
    assert_eq!(sizes, [10; 6], "always the smallest round");
    let pauses: Vec<u32> = rounds.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pauses.iter().zip([76, 136, 256, 496, 976]).all(|(pause, s)| pause.abs_diff(s) <= 2), "{pauses:?}");
}

#[test]
fn whom_everybody_has_come_to_recently_are_not_a_reason_to_rest() {
    let (mut rebalance, zero) = (Rebalance::new(CONFIG, HEARTBEAT), Instant::now());
    let mut asked = 0;
    for n in 0..400 {
        let now = zero + SLOT * n;
        // All clients connected recently, so none moves.
        asked += rebalance.look(now, own(1_000), &Fleet::of(&peers(&[full(0)], now)));
    }
    assert_eq!((asked, rebalance.futile()), (20, 0), "asked again after each round");
}

/// Simulates a fleet in which each instance decides with the loads that the others reported at the last heartbeat.
/// `balancer` returns the index of the instance that a client reconnects to, from the connections of all instances
/// and a running number.
fn level(mut fleet: Vec<u64>, seconds: u32, balancer: impl Fn(&[u64], u64) -> usize) -> (Vec<u64>, Vec<u64>, u64) {
    let zero = Instant::now();
    let mut minds: Vec<Rebalance> = fleet.iter().map(|_| Rebalance::new(CONFIG, HEARTBEAT)).collect();
    let mut moved = vec![0; fleet.len()];
    let (mut reported, mut last, mut number) = (fleet.clone(), 0, 0);
    for n in 0..seconds * 10 {
        let now = zero + SLOT * n;
        if n % 20 == 0 {
            reported.clone_from(&fleet);
        }
        for me in 0..fleet.len() {
            let others: Vec<_> =
                (0..fleet.len()).filter(|other| *other != me).map(|other| full(reported[other])).collect();
            let own = OwnLoad { connections: fleet[me], moved: moved[me], is_full: true };
            let moves_away = minds[me].look(now, own, &Fleet::of(&peers(&others, now)));
            if moves_away > 0 {
                last = u64::from(n / 10);
            }
            moved[me] += moves_away;
            for _ in 0..moves_away {
                fleet[me] -= 1;
                number += 1;
                let reached = balancer(&fleet, number);
                fleet[reached] += 1;
            }
        }
    }
    (fleet, moved, last)
}

fn emptiest(fleet: &[u64], _: u64) -> usize {
    (0..fleet.len()).min_by_key(|index| fleet[*index]).unwrap()
}

fn in_turn(fleet: &[u64], number: u64) -> usize {
    (number * 7 / 3) as usize % fleet.len()
}

#[test]
fn a_fleet_levels_and_then_is_quiet() {
    for (what, fleet, within_s) in [
        ("one instance and two new ones", vec![10_000, 0, 0], 240),
        ("nine instances and a new one", vec![1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 0], 120),
        ("all different", vec![3_000, 100, 1_500, 700], 120),
    ] {
        let mean = fleet.iter().sum::<u64>() as f64 / fleet.len() as f64;
        let surplus: f64 = fleet.iter().map(|n| (*n as f64 - mean).max(0.0)).sum();
        let (after, moved, last) = level(fleet, 1_000, emptiest);
        assert!(after.iter().all(|n| *n as f64 <= (mean * 1.2).max(mean + 50.0)), "{what}: {after:?}");
        assert!(last <= within_s, "{what}: still moving after {last} s");
        assert!(moved.iter().sum::<u64>() as f64 <= surplus, "{what}: more clients moved than necessary: {moved:?}");
    }
    let (after, moved, _) = level(vec![1_000, 1_100, 950], 1_000, emptiest);
    assert_eq!((after, moved), (vec![1_000, 1_100, 950], vec![0; 3]), "already balanced");
}

#[test]
fn without_a_balancer_that_knows_the_emptiest_it_levels_too() {
    let (after, _, last) = level(vec![3_000, 0, 0], 1_000, in_turn);
    assert!(after[0] <= 1_200 && last <= 300, "{after:?} after {last} s");
    let (after, moved, _) = level(vec![3_000, 0, 0], 1_000, |_, _| 0);
    assert_eq!(after, [3_000, 0, 0], "no client can reach the others");
    assert!(moved[0] <= 50, "{moved:?}");
}

/// The last clients of a round reconnect when there is no excess any more. If the instance were not active then,
/// their cookies would bring them back here.
#[test]
fn it_stays_at_it_until_those_on_their_way_have_come_somewhere() {
    let (mut rebalance, zero) = (Rebalance::new(CONFIG, HEARTBEAT), Instant::now());
    let mut me = own(120);
    let mut active = Vec::new();
    for n in 0..400 {
        let now = zero + SLOT * n;
        // Both instances are balanced after ten clients have moved.
        let moves_away = rebalance.look(now, me, &Fleet::of(&peers(&[full(10 + me.moved)], now)));
        (me.connections, me.moved) = (me.connections - moves_away, me.moved + moves_away);
        if me.connections == 110 {
            me.connections = 60;
        }
        active.extend(rebalance.is_active().then_some(n));
    }
    assert_eq!(me.moved, 10);
    let (first, last) = (active[0], *active.last().unwrap());
    assert!(
        last - first >= 60 && active.len() as u32 == last - first + 1,
        "{first} to {last}: three heartbeats are 60 slots"
    );
}
