//! How the router finds holes that no message shows: subscriptions that end, and messages dropped in a quiet scope.

use std::collections::BTreeMap;

use message_router::{
    BrokerError, Command, Event, History, Joiner, Output, Policies, Router, RouterConfig, RouterCounts, ShardIndex,
};
use wire::{Envelope, Position, Timestamp};

use crate::support::script::{run, run_with, without_history};

#[test]
fn a_lost_subscription_is_begun_again_and_repaired_after_its_top() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-3           | read 2 after 7-3
        lost                         | subscribe
        join 1 c after 7-5           |
        join 0 d                     |
        history 2 top 7-5 has 7-4 7-5 |
        message 7-9                  |
        lost                         |
        subscribed                   | read 3 after 7-5
        message 7-8                  |
        history 3 top 7-7 has 7-6 7-7 | replay 0+1 7-6 7-7; deliver 0+1 7-8 after 7-7; joined d fresh upto 7-8; read 4 after 7-3
        history 4 top 7-8 has 7-4 7-5 7-6 7-7 7-8 | joined b resumed upto 7-8 with 7-4 7-5 7-6 7-7 7-8; joined c resumed upto 7-8 with 7-6 7-7 7-8
    ");
    assert_eq!((router.counts().lost, router.counts().gaps), (1, 0));
    assert!(!router.is_degraded());
}

#[test]
fn a_lost_subscription_of_a_family_without_history_is_a_gap_unless_nothing_was_missed() {
    run_with(
        without_history(),
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        lost                         | subscribe
        subscribed                   | read 2 after 7-5
        message 7-6                  |
        history 2 top 7-6            | deliver 0 7-6 after 7-5
        lost                         | subscribe
        subscribed                   | read 3 after 7-6
        history 3 top 7-8            | subscribe
        message 7-8                  |
        message 7-9                  |
        subscribed                   | gap 0 after 7-6 upto 7-7 no_history!; deliver 0 7-8 after 7-7; deliver 0 7-9 after 7-8
        lost                         | subscribe
        subscribed                   | read 4 after 7-9
        message 7-11                 |
        message 7-13                 |
        history 4 top 7-14           | subscribe
        subscribed                   | gap 0 after 7-9 upto 7-10 no_history!; deliver 0 7-11 after 7-10; gap 0 after 7-11 upto 7-12 no_history!; deliver 0 7-13 after 7-12; gap 0 after 7-13 upto 7-14 no_history!
        message 7-15                 | deliver 0 7-15 after 7-14
        ",
    );
}

/// An envelope from before the read and above its answer may never have been stored. An envelope from after the read
/// and above its answer was pushed after every message that the answer covers, so these cannot come any more.
#[test]
fn without_history_an_envelope_after_the_read_proves_what_is_missing() {
    run_with(
        without_history(),
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-9                  | read 2 after 7-5
        message 7-8                  |
        history 2 top 7-7            | gap 0 after 7-5 upto 7-7 no_history!; deliver 0 7-8 after 7-7
        ",
    );
}

/// Only a second subscribe that is confirmed shows that the missing message will not come any more.
#[test]
fn without_history_an_envelope_before_the_read_and_above_its_answer_proves_nothing() {
    run_with(
        without_history(),
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-9                  | read 2 after 7-5
        history 2 top 7-7            | subscribe
        message 7-6                  |
        subscribed                   | deliver 0 7-6 after 7-5; gap 0 after 7-6 upto 7-7 no_history!
        ",
    );
}

#[test]
fn without_history_positions_that_never_existed_are_no_gap() {
    run_with(
        without_history(),
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-9                  | read 2 after 7-5
        message 7-6                  |
        history 2 top 7-6            | deliver 0 7-6 after 7-5
        message 8-2                  | read 3 after 7-6
        history 3 top 8-2 earlier 7-6 | gap 0 after 8-0 upto 8-1 no_history!; deliver 0 8-2 after 8-1
        ",
    );
}

#[test]
fn a_loss_of_an_earlier_subscription_means_nothing_to_the_next() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        leave 0                      |
        sweep 2000                   | unsubscribe
        lost                         |
        join 0 b                     | subscribe
        lost                         |
        subscribed                   | read 2 after -
        history 2 top 7-5            | joined b fresh upto 7-5
        leave 0                      |
        lost                         |
        join 0 c                     | subscribe
        subscribed                   | read 3 after -
        history 3 top 7-5            | joined c fresh upto 7-5
    ");
    assert_eq!((router.scopes(), router.counts().lost), (1, 1));
}

#[test]
fn lost_subscriptions_are_begun_again_a_few_at_a_time() {
    let config = RouterConfig { resync_scopes_max: 1, ..RouterConfig::default() };
    let router = run_with(
        config,
        "
        up                           | recovered
        @user:1 join 0 a             | subscribe
        @user:2 join 0 b             | @user:2 subscribe
        @user:1 subscribed           | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        @user:2 subscribed           | @user:2 read 2 after -
        @user:2 history 2 top 7-5    | @user:2 joined b fresh upto 7-5
        @user:1 lost                 | subscribe
        @user:2 lost                 |
        @user:2 join 0 c             |
        @user:2 leave 0              |
        @user:1 subscribed           | read 3 after 7-5
        @user:1 lost                 | subscribe
        history 3 top 7-5            |
        @user:1 subscribed           | read 4 after 7-5
        history 4 top 7-5            |
        sweep 4000                   |
        @user:1 lost                 | subscribe
        @user:1 subscribed           | read 5 after 7-5
        history 5 top 7-5            |
        ",
    );
    assert_eq!(router.scopes(), 1, "nobody wanted the other one");
}

#[test]
fn r6_a_check_finds_the_last_message_that_was_dropped() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        sweep 1000                   |
        sweep 16000                  |
    ");
    assert_eq!(router.counts().checks, 0);
    let paced = (1..=29).map(|second| format!("sweep {second}000 |")).collect::<Vec<_>>().join("\n");
    let router = run(&format!(
        "
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        {paced}
        sweep 30000                  | tops 2 of user:1
        tops 2 7-6                   | subscribe
        subscribed                   | read 3 after 7-5
        history 3 top 7-6 has 7-6    | replay 0 7-6
        message 7-7                  | deliver 0 7-7 after 7-6
    "
    ));
    let counts = router.counts();
    assert_eq!((counts.checks, counts.check_holes, counts.check_repaired, counts.repaired), (1, 1, 1, 1));
}

/// One scope that is live at 7-5 and is checked with every sweep.
fn checked(script: &str) -> RouterCounts {
    let config = RouterConfig { check_interval_ms: 1, ..RouterConfig::default() };
    checked_with(config, script)
}

fn checked_with(config: RouterConfig, script: &str) -> RouterCounts {
    let script = format!(
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        {script}
    "
    );
    run_with(config, &script).counts()
}

#[test]
fn a_check_that_races_a_message_reads_nothing() {
    let counts = checked(
        "
        sweep 1                      | tops 2 of user:1
        tops 2 7-5                   |
        sweep 2                      | tops 3 of user:1
        message 7-6                  | deliver 0 7-6 after 7-5
        tops 3 7-5                   |
        sweep 3                      | tops 4 of user:1
        tops 4 7-8                   | subscribe
        message 7-7..7-8             | deliver 0 7-7..7-8 after 7-6
        sweep 4                      | tops 5 of user:1
        tops 5 7-9                   |
        subscribed                   |
        message 7-9                  | deliver 0 7-9 after 7-8
        sweep 5                      | tops 6 of user:1
        message 7-11                 | read 7 after 7-9
        tops 6 7-11                  |
        history 7 top 7-11 has 7-10 7-11 | replay 0 7-10 7-11
    ",
    );
    assert_eq!((counts.checks, counts.check_holes, counts.check_repaired, counts.repaired), (5, 0, 0, 2));
}

#[test]
fn a_check_finds_what_was_erased_or_set_back() {
    let counts = checked(
        "
        sweep 1                      | tops 2 of user:1
        tops 2 7-3                   | read 3 after 7-5
        history 3 top 7-3            | lost 4 at 7-5
        noted 4                      | read 5 after 7-5
        history 5 top 7-3            | gap 0 after 7-5 upto 7-3 unknown_position
        sweep 2                      | tops 6 of user:1
        tops 6 -                     | read 7 after 7-3
        history 7 top 9-0            | lost 8 at 7-3
        noted 8                      | read 9 after 7-3
        history 9 top 9-0            | gap 0 after 7-3 upto 9-0 unknown_position
        sweep 3                      | tops 10 of user:1
        tops 10 11-1                 | subscribe
        subscribed                   | read 11 after 9-0
        history 11 top 11-1 has 11-1  | gap 0 after 9-0 upto 11-1 unknown_position
        message 11-2                 | deliver 0 11-2 after 11-1
    ",
    );
    assert_eq!((counts.check_holes, counts.gaps), (3, 3));
}

#[test]
fn without_history_a_check_reports_dropped_messages() {
    let config = RouterConfig { check_interval_ms: 1, ..without_history() };
    checked_with(
        config,
        "
        sweep 1                      | tops 2 of user:1
        tops 2 7-7                   | subscribe
        message 7-6                  | deliver 0 7-6 after 7-5
        subscribed                   | read 3 after 7-6
        history 3 top 7-7            | subscribe
        subscribed                   | gap 0 after 7-6 upto 7-7 no_history!
        ",
    );
}

#[test]
fn a_fence_is_not_confused_with_another_fence_or_a_subscription() {
    let config = RouterConfig { check_interval_ms: 1, ..without_history() };
    checked_with(
        config,
        "
        sweep 1                      | tops 2 of user:1
        tops 2 7-6                   | subscribe
        message 7-8                  | read 3 after 7-5
        history 3 top 7-9            | subscribe
        subscribed                   |
        message 7-9                  |
        subscribed                   | gap 0 after 7-5 upto 7-7 no_history!; deliver 0 7-8 after 7-7; deliver 0 7-9 after 7-8
        sweep 2                      | tops 4 of user:1
        tops 4 7-10                  | subscribe
        leave 0                      |
        sweep 5000                   |
        join 0 b                     | joined b fresh upto 7-9
        message 7-10                 | deliver 0 7-10 after 7-9
        subscribed                   |
        sweep 5001                   | tops 5 of user:1
        tops 5 7-11                  | subscribe
        lost                         |
        sweep 5002                   |
        subscribed                   | read 6 after 7-10
        history 6 top 7-10           |
        ",
    );
}

#[test]
fn a_failed_check_is_repeated_first() {
    let config = RouterConfig { check_interval_ms: 2, ..RouterConfig::default() };
    let router = run_with(
        config,
        "
        up                           | recovered
        @user:1 join 0 a             | subscribe
        @user:2 join 0 b             | @user:2 subscribe
        @user:1 subscribed           | read 1 after -
        @user:2 subscribed           | @user:2 read 2 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        @user:2 history 2 top 7-5    | @user:2 joined b fresh upto 7-5
        sweep 1                      | tops 3 of user:1
        tops_failed 3                     |
        sweep 2                      | tops 4 of user:1
        sweep 3                      | tops 5 of user:2
        down                         | degraded
        tops 4 7-9                   |
        up                           | subscribe; @user:2 subscribe
        subscribed                   | read 6 after 7-5
        history 6 top 7-5            |
        sweep 4                      | tops 7 of user:1
        tops 7 7-5 7-5               |
        ",
    );
    assert_eq!((router.counts().checks, router.counts().checks_failed), (0, 2));
}

/// Three thousand scopes that are compared once per second, by four sweeps per second.
#[test]
fn the_ring_advances_evenly_and_a_slow_broker_is_asked_less() {
    let mut router = Router::new(RouterConfig { check_interval_ms: 1_000, ..RouterConfig::default() });
    let (mut out, top) = (Vec::new(), Position::new(7, 5));
    router.handle(Event::Up, 0, &mut out);
    for id in 0..3_000 {
        let scope = Policies::default().families().parse_scope(&format!("default/user:{id}")).expect("a scope");
        router.join(ShardIndex(0), Joiner(id), scope.clone(), None, &mut out);
        router.handle(Event::Subscribed(scope), 0, &mut out);
        for output in std::mem::take(&mut out) {
            if let Output::Command(Command::Read { ticket, .. }) = output {
                let history = History { top, earlier: Vec::new(), torn: Vec::new(), entries: Vec::new(), more: false };
                router.handle(Event::History { ticket, result: Ok(history) }, 0, &mut out);
            }
        }
        out.clear();
    }
    let mut asked: BTreeMap<String, u32> = BTreeMap::new();
    let mut unanswered = Vec::new();
    for sweep in 1..=20_u64 {
        router.sweep(sweep * 250, &mut out);
        let (mut batches, mut scopes_asked) = (0, 0);
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                let Output::Command(Command::Tops { ticket, scopes, .. }) = output else { panic!("{output:?}") };
                assert!(scopes.len() <= 128);
                (batches, scopes_asked) = (batches + 1, scopes_asked + scopes.len());
                if sweep <= 12 {
                    scopes.iter().for_each(|scope| *asked.entry(scope.name().to_owned()).or_default() += 1);
                    router.handle(Event::Tops { ticket, result: Ok(vec![Some(top); scopes.len()]) }, 0, &mut out);
                } else {
                    unanswered.push((ticket, scopes.len()));
                }
            }
        }
        if sweep <= 12 {
            assert_eq!((batches, scopes_asked), (6, 750), "sweep {sweep}");
        }
    }
    assert_eq!(asked.len(), 3_000);
    assert!(asked.values().all(|times| *times == 3), "three seconds, three times each");
    assert_eq!(unanswered.len(), 8, "questions in flight");
    // A late broker: the checks continue where they were, with at most one period of checks due.
    let mut late = 0;
    while let Some((ticket, count)) = unanswered.pop() {
        late += count;
        router.handle(Event::Tops { ticket, result: Ok(vec![Some(top); count]) }, 0, &mut out);
        for output in std::mem::take(&mut out) {
            let Output::Command(Command::Tops { ticket, scopes, .. }) = output else { panic!("{output:?}") };
            unanswered.push((ticket, scopes.len()));
        }
    }
    assert!((3_000..=3_000 + 8 * 128).contains(&late), "{late} scopes");
    assert_eq!((router.counts().check_holes, router.counts().gaps), (0, 0));
}

/// Sweeps once per second for two hours. One scope has a message from the beginning, one gets its first after an hour.
#[test]
fn the_metadata_of_subscribed_scopes_is_renewed_before_it_expires() {
    let mut router = Router::new(RouterConfig::default());
    let mut out = Vec::new();
    router.handle(Event::Up, 0, &mut out);
    let mut tops = BTreeMap::from([("user:listened", Position::new(7, 0)), ("user:used", Position::new(7, 1))]);
    let mut join = |router: &mut Router, name: &'static str, top: Position| {
        let scope = Policies::default().families().parse_scope(&format!("default/{name}")).expect("a scope");
        router.join(ShardIndex(0), Joiner(1), scope.clone(), None, &mut out);
        router.handle(Event::Subscribed(scope), 0, &mut out);
        for output in std::mem::take(&mut out) {
            if let Output::Command(Command::Read { ticket, .. }) = output {
                let history = History { top, earlier: Vec::new(), torn: Vec::new(), entries: Vec::new(), more: false };
                router.handle(Event::History { ticket, result: Ok(history) }, 0, &mut out);
            }
        }
        out.clear();
    };
    tops.iter().for_each(|(name, top)| join(&mut router, name, *top));
    // Times in seconds and how long the metadata is kept from then on, in ms.
    let mut renewals: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let (mut out, mut lost) = (Vec::new(), 0);
    for second in 1..=7_200_u64 {
        if second == 3_600 {
            tops.insert("user:listened", Position::new(7, 1));
            let items = [("", &b"{}"[..])].into_iter();
            let envelope = Envelope::write(Position::new(7, 1), Timestamp(0), items).into();
            let scope = "default/user:listened".into();
            router.handle(Event::Message { scope, envelope }, second * 1_000, &mut out);
            out.clear();
        }
        router.sweep(second * 1_000, &mut out);
        for output in std::mem::take(&mut out) {
            let Output::Command(Command::Tops { ticket, scopes, renew }) = output else { panic!("{output:?}") };
            let is_lost = second > 1_800 && !renew.is_empty() && lost == 0;
            let result = if is_lost {
                lost = second;
                Err(BrokerError::Unknown)
            } else {
                for (index, kept_ms) in renew {
                    renewals.entry(scopes[index].name().to_owned()).or_default().push((second, kept_ms));
                }
                Ok(scopes.iter().map(|scope| tops.get(scope.name()).copied()).collect())
            };
            router.handle(Event::Tops { ticket, result }, second * 1_000, &mut out);
        }
        out.clear();
    }
    let (hour_ms, week_ms) = (3_600_000, 604_800_000);
    let [listened, used] = ["user:listened", "user:used"].map(|name| &renewals[name]);
    let (before, after): (Vec<_>, Vec<_>) = listened.iter().partition(|(second, _)| *second < 3_600);
    assert!(before.iter().all(|(_, kept_ms)| *kept_ms == hour_ms), "{before:?}");
    assert!(after.iter().chain(used).all(|(_, kept_ms)| *kept_ms == week_ms), "{after:?}, {used:?}");
    let mut last = 0;
    for (second, _) in &before {
        assert!(second - last <= 5 * 60 + 60, "{before:?}: 5 minutes, and two intervals of checks");
        last = *second;
    }
    assert!((9..=12).contains(&before.len()), "seldom: {before:?}");
    assert!((2..=4).contains(&after.len()) && (4..=6).contains(&used.len()), "{after:?}, {used:?}");
    let again = renewals.values().flatten().any(|(second, _)| (lost..=lost + 60).contains(second));
    assert!(lost > 0 && again, "a renewal that was lost at {lost} is repeated: {renewals:?}");
}
