//! Many clients join one scope, each with its own position: a few reads answer all of them.

use bytes::Bytes;
use message_router::{
    Command, Entry, Event, History, Joiner, Output, Policies, Router, RouterConfig, ShardIndex, Start,
};
use wire::{Position, TenantId, Timestamp};

use crate::support::script::{run, run_with};

#[test]
fn one_read_answers_all_joiners_from_its_position_on() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        join 1 b after 7-6           | read 2 after 7-6
        join 1 c after 7-8           |
        join 2 d after 7-3           |
        join 2 e after 7-5           |
        join 3 f after 6-4           |
        join 3 g after 5-1           |
        history 2 top 7-9 has 7-7 7-8 7-9 | joined b resumed upto 7-9 with 7-7 7-8 7-9; joined c resumed upto 7-9 with 7-9; read 3 after 7-3
        join 4 h after 7-7           |
        history 3 top 7-9 earlier 6-4 has 7-4 7-5 7-6 7-7 7-8 7-9 | joined d resumed upto 7-9 with 7-4 7-5 7-6 7-7 7-8 7-9; joined e resumed upto 7-9 with 7-6 7-7 7-8 7-9; joined h resumed upto 7-9 with 7-8 7-9; read 4 after 6-4
        history 4 top 7-9 earlier 6-4 has 7-2 7-3 7-4 7-5 7-6 7-7 7-8 7-9 | joined f gap expired! upto 7-9; read 5 after 5-1
        history 5 top 7-9 earlier 6-4 has 7-2 7-3 7-4 7-5 7-6 7-7 7-8 7-9 | joined g gap unknown_position upto 7-9
    ");
}

#[test]
fn retention_and_failovers_are_judged_by_each_position() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 8-3            | joined a fresh upto 8-3
        join 1 b after 7-1           | read 2 after 7-1
        join 1 c after 7-4           |
        join 1 d after 7-6           |
        join 1 e after 7-7           |
        join 1 f after 7-9           |
        join 1 g after 8-0           |
        join 1 h after 8-2           |
        history 2 top 8-3 earlier 7-6 has 7-5 7-6 8-1 8-2 8-3 | joined b gap expired! upto 8-3; joined c resumed upto 8-3 with 7-5 7-6 8-1 8-2 8-3; joined d resumed upto 8-3 with 8-1 8-2 8-3; joined e gap failover upto 8-3; joined f gap failover upto 8-3; joined g resumed upto 8-3 with 8-1 8-2 8-3; joined h resumed upto 8-3 with 8-3
    ");
}

#[test]
fn a_page_that_ends_before_a_joiner_is_followed_by_one_from_its_position() {
    let config = RouterConfig { page_entries_max: 4, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        join 1 b after 7-2           | read 2 after 7-2
        join 1 c after 7-5           |
        join 1 d after 7-3           |
        join 1 e after 7-6           |
        join 1 f after 7-4           |
        history 2 top 7-9 has 7-3 7-4 more | joined b resumed upto 7-4 with 7-3 7-4 more; joined d resumed upto 7-4 with 7-4 more; read 3 after 7-5
        join 1 b after 7-4           |
        join 1 d after 7-4           |
        history 3 top 7-9 has 7-6 7-7 more | joined c resumed upto 7-7 with 7-6 7-7 more; joined e resumed upto 7-7 with 7-7 more; read 4 after 7-4
        leave 1                      |
        history 4 top 7-9 has 7-5 7-6 more |
        ",
    );
}

#[test]
fn a_joiner_far_behind_has_its_own_read_and_none_waits_for_ever() {
    let config = RouterConfig { page_entries_max: 4, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-99           | joined a fresh upto 7-99
        join 1 b after 7-98          | read 2 after 7-98
        join 1 c after 7-97          |
        join 1 d after 7-1           |
        join 1 e after 7-94          |
        join 1 f after 7-93          |
        history 2 top 7-99 has 7-99  | joined b resumed upto 7-99 with 7-99; read 3 after 7-94
        history 3 top 7-99 has 7-95 7-96 7-97 7-98 more | joined c resumed upto 7-98 with 7-98 more; joined e resumed upto 7-98 with 7-95 7-96 7-97 7-98 more; read 4 after 7-1
        join 1 c after 7-98          |
        history 4 top 7-99 has 7-40 7-41 7-42 7-43 more | joined d gap expired! upto 7-99; read 5 after 7-93
        ",
    );
}

#[test]
fn an_old_answer_serves_joiners_that_had_seen_no_more() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-2           | read 2 after 7-2
        message 7-6                  | deliver 0+1 7-6 after 7-5
        join 2 c after 7-3           |
        history 2 top 7-5 has 7-3 7-4 7-5 | joined b resumed upto 7-5 with 7-3 7-4 7-5; read 3 after 7-3
        history 3 top 7-6 has 7-4 7-5 7-6 | joined c resumed upto 7-6 with 7-4 7-5 7-6
    ");
}

/// A thousand clients return to one scope, each with the position that it saw last, while messages continue.
#[test]
fn a_thousand_joiners_cost_a_handful_of_reads() {
    let scope = Policies::default().families().parse(&TenantId::default(), "collection:hot").expect("a channel").scope;
    let at = |offset| Position::new(7, offset);
    let entry = |offset| Entry {
        position: at(offset),
        time: Timestamp(0),
        topic: Box::from(""),
        message: Bytes::from_static(b"{}"),
    };
    let mut router = Router::new(RouterConfig::default());
    let (mut out, mut questions, mut reads, mut answered) = (Vec::new(), Vec::new(), 0, 0);
    router.handle(Event::Up, 0, &mut out);
    for joiner in 0..1_000_u64 {
        // Spread over a hundred messages, in mixed order.
        let after = at(400 + joiner * 37 % 100);
        router.join(ShardIndex(0), Joiner(joiner), scope.clone(), Some(after), &mut out);
        if joiner == 10 {
            router.handle(Event::Subscribed(scope.clone()), 0, &mut out);
        }
        loop {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::Command(Command::Read { ticket, after, .. }) => questions.push((ticket, after)),
                    Output::Joined { joiner, joined, .. } => {
                        let first = 401 + joiner.0 * 37 % 100;
                        let offsets: Vec<_> = joined.entries.iter().map(|entry| entry.position.offset).collect();
                        assert_eq!((joined.start, joined.more), (Start::Resumed, false));
                        assert_eq!(offsets, (first..=500).collect::<Vec<_>>(), "joiner {joiner:?}");
                        answered += 1;
                    }
                    _ => {}
                }
            }
            assert!(questions.len() <= 2, "reads in flight");
            // Redis answers after two hundred more joiners, or when all have come.
            if questions.is_empty() || (joiner % 200 != 199 && joiner > 10) {
                break;
            }
            for (ticket, after) in questions.drain(..) {
                reads += 1;
                let first = after.map_or(501, |after: Position| after.offset + 1);
                let entries = (first..=500).map(entry).collect();
                let result = Ok(History { top: at(500), earlier: Vec::new(), torn: Vec::new(), entries, more: false });
                router.handle(Event::History { ticket, result }, 0, &mut out);
            }
        }
    }
    assert_eq!(answered, 1_000);
    assert!(reads <= 12, "{reads} reads for a thousand joiners in five waves");
}
