//! The router with literal events: each race that has lost a message once, played as a script.
//!
//! The names R1 to R10 are those of the usual list of resume races, which can happen between the read of a history and
//! a live subscription.

mod support {
    pub(crate) mod script;
}

mod scenarios {
    mod hot_scope;
    mod outages;
    mod several_positions;
    mod upkeep;
}

use bytes::Bytes;
use message_router::{Event, RouterConfig};
use support::script::{run, run_with, without_history};

#[test]
fn a_join_is_answered_only_after_the_broker_confirmed() {
    run("
        join 0 a                     | subscribe
        message 7-5                  |
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-6                  | deliver 0 7-6 after 7-5
    ");
}

#[test]
fn a_join_of_a_live_scope_costs_no_call() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b                     | joined b fresh upto 7-5
        join 1 c after 7-5           | joined c resumed upto 7-5
        message 7-6..7-8             | deliver 0+1 7-6..7-8 after 7-5
    ");
}

#[test]
fn one_read_anchors_the_scope_and_resumes_the_first_joiner() {
    run("
        join 0 a after 7-3           | subscribe
        join 0 b after 7-3           |
        join 1 c                     |
        join 1 d after 7-4           |
        subscribed                   | read 1 after 7-3
        history 1 top 7-5 has 7-4 7-5 | joined a resumed upto 7-5 with 7-4 7-5; joined b resumed upto 7-5 with 7-4 7-5; joined c fresh upto 7-5; read 2 after 7-4
        history 2 top 7-5 has 7-5    | joined d resumed upto 7-5 with 7-5
    ");
}

#[test]
fn r1_r2_messages_during_the_read_follow_its_top() {
    run("
        join 0 a after 7-3           | subscribe
        subscribed                   | read 1 after 7-3
        message 7-4                  |
        message 7-5..7-6             |
        message 7-7                  |
        history 1 top 7-5 has 7-4 7-5 | joined a resumed upto 7-5 with 7-4 7-5; deliver 0 7-5..7-6 after 7-5; deliver 0 7-7 after 7-6
    ");
}

#[test]
fn r3_an_envelope_that_was_never_stored_is_dropped() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-9                  | read 2 after 7-5
        message 7-6                  |
        history 2 top 7-5            | deliver 0 7-6 after 7-5
        message 7-7                  | deliver 0 7-7 after 7-6
    ");
    assert_eq!(router.counts().unstored, 1);
}

#[test]
fn r4_a_joiner_ahead_of_this_instance_is_resumed_without_duplicates() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-6            | joined a fresh upto 7-6
        join 1 b after 7-7           | read 2 after 7-6
        history 2 top 7-7 has 7-7    | replay 0+1 7-7; joined b resumed upto 7-7
        message 7-7                  |
        message 7-8                  | deliver 0+1 7-8 after 7-7
    ");
}

#[test]
fn r4_a_joiner_may_be_ahead_of_the_first_read_too() {
    run("
        join 0 a after 7-5           | subscribe
        subscribed                   | read 1 after 7-5
        join 1 b after 7-7           |
        history 1 top 7-6 has 7-6    | joined a resumed upto 7-6 with 7-6; read 2 after 7-6
        history 2 top 7-7 has 7-7    | replay 0+1 7-7; joined b resumed upto 7-7
    ");
}

#[test]
fn r4_a_position_unknown_to_the_first_read_may_be_known_to_the_next() {
    run("
        join 0 a after 7-7           | subscribe
        subscribed                   | read 1 after 7-7
        join 1 b after 7-7           |
        history 1 top 7-6            | joined a gap unknown_position upto 7-6; read 2 after 7-6
        history 2 top 7-7 has 7-7    | replay 0+1 7-7; joined b resumed upto 7-7
    ");
}

#[test]
fn a_position_that_was_never_given_out_is_a_gap() {
    run("
        join 0 a after 7-9           | subscribe
        subscribed                   | read 1 after 7-9
        history 1 top 7-5            | joined a gap unknown_position upto 7-5
        join 0 b after 7-6           | read 2 after 7-5
        history 2 top 7-5            | joined b gap unknown_position upto 7-5
        join 0 c after 9-1           | read 3 after 7-5
        history 3 top 7-5            | joined c gap unknown_position upto 7-5
        join 0 d after 6-1           | read 4 after 6-1
        history 4 top 7-5            | joined d gap unknown_position upto 7-5
    ");
}

#[test]
fn r5_a_message_dropped_during_the_read_is_read_again() {
    run("
        join 0 a after 7-5           | subscribe
        subscribed                   | read 1 after 7-5
        message 7-7                  |
        history 1 top 7-5            | joined a resumed upto 7-5; read 2 after 7-5
        message 7-8                  |
        history 2 top 7-7 has 7-6 7-7 | replay 0 7-6 7-7; deliver 0 7-8 after 7-7
    ");
}

#[test]
fn a_hole_is_repaired_once_for_every_shard() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 3 b                     | joined b fresh upto 7-5
        message 7-8                  | read 2 after 7-5
        message 7-9                  |
        history 2 top 7-8 has 7-6 7-7 7-8 | replay 0+3 7-6 7-7 7-8; deliver 0+3 7-9 after 7-8
        message 7-8..7-10            | deliver 0+3 7-8..7-10 after 7-9
        message 7-10                 |
    ");
    assert_eq!((router.counts().holes, router.counts().repaired, router.counts().duplicates), (1, 3, 1));
}

#[test]
fn r6_the_last_message_before_an_outage_is_repaired_without_a_later_one() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 2 after 7-5
        history 2 top 7-6 has 7-6    | replay 0 7-6; recovered
    ");
}

#[test]
fn r7_a_generation_that_begins_during_the_read_is_read_too() {
    run("
        join 0 a after 7-4           | subscribe
        subscribed                   | read 1 after 7-4
        message 8-1                  |
        history 1 top 7-5 has 7-5    | joined a resumed upto 7-5 with 7-5; read 2 after 7-5
        history 2 top 8-1 earlier 7-5 has 8-1 | replay 0 8-1
        message 8-2                  | deliver 0 8-2 after 8-1
    ");
}

#[test]
fn r8_an_answer_for_a_joiner_that_left_is_ignored() {
    run("
        join 0 a after 7-3           | subscribe
        leave 0                      |
        join 0 b after 7-4           |
        subscribed                   | read 1 after 7-4
        history 1 top 7-5 has 7-5    | joined b resumed upto 7-5 with 7-5
        join 0 c after 7-4           | read 2 after 7-4
        leave 0                      |
        join 0 d                     | joined d fresh upto 7-5
        history 2 top 7-5 has 7-5    |
    ");
}

#[test]
fn r8_a_late_confirmation_is_not_taken_for_the_next_one() {
    run("
        join 0 a                     | subscribe
        leave 0                      |
        sweep 5000                   |
        subscribed                   | read 1 after -
        sweep 8000                   | unsubscribe
        history 1 top 7-5            |
        join 0 b                     | subscribe
        subscribed                   | read 2 after -
        history 2 top 7-5            | joined b fresh upto 7-5
    ");
}

#[test]
fn r8_an_answer_from_before_an_outage_is_not_used_after_it() {
    run("
        join 0 a after 7-3           | subscribe
        subscribed                   | read 1 after 7-3
        down                         | degraded; joined a degraded upto -
        history 1 top 7-4 has 7-4    |
        up                           | subscribe
        history 1 top 7-4 has 7-4    |
        subscribed                   | read 2 after 7-3
        history 2 top 7-5 has 7-4 7-5 | joined a resumed upto 7-5 with 7-4 7-5; recovered
    ");
}

#[test]
fn r9_a_loss_in_a_failover_is_a_gap_and_reused_offsets_are_not_duplicates() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 2 after 7-9
        history 2 top 8-2 earlier 7-6 has 8-1 8-2 | lost 3 at 7-9
        noted 3                      | read 4 after 7-9
        history 4 top 8-2 earlier 7-6+ has 8-1 8-2 | gap 0 after 7-9 upto 8-2 failover; recovered
        message 8-3                  | deliver 0 8-3 after 8-2
        join 1 b after 7-8           | read 5 after 7-8
        history 5 top 8-3 earlier 7-6+ has 8-1 8-2 8-3 | joined b gap failover upto 8-3
        join 1 d after 8-1           | read 6 after 8-1
        history 6 top 8-3 earlier 7-6+ has 8-2 8-3 | joined d resumed upto 8-3 with 8-2 8-3
    ");
}

/// A failover to a replica that lacks the newest messages, and back before anything was published.
#[test]
fn messages_that_return_with_an_old_primary_are_not_delivered_again() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-6            | joined a fresh upto 7-6
        message 7-7..7-9             | deliver 0 7-7..7-9 after 7-6
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 2 after 7-9
        history 2 top 7-6            | lost 3 at 7-9
        noted 3                      | read 4 after 7-9
        history 4 top 8-0 earlier 7-6+ | gap 0 after 7-9 upto 8-0 failover; recovered
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 5 after 8-0
        history 5 top 9-1 earlier 7-9 has 9-1 | gap 0 after 8-0 upto 9-1 unknown_position; recovered
    ");
}

/// To Redis the history looks complete. The instance that received the lost messages informs Redis before any member
/// gets the gap.
#[test]
fn a_joiner_that_was_away_during_a_lossy_failover_gets_a_gap_too() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-6            | joined a fresh upto 7-6
        message 7-7..7-9             | deliver 0 7-7..7-9 after 7-6
        down                         | degraded
        join 1 b after 7-6           | joined b degraded upto -
        up                           | subscribe
        subscribed                   | read 2 after 7-9
        history 2 top 7-6            | lost 3 at 7-9
        message 8-1                  |
        noted 3                      | read 4 after 7-9
        history 4 top 8-1 earlier 7-6+ has 8-1 | gap 0+1 after 7-9 upto 8-1 failover; read 5 after 7-6; recovered
        history 5 top 8-1 earlier 7-6+ has 8-1 | joined b gap failover upto 8-1
        join 1 c after 7-2           | read 6 after 7-2
        history 6 top 8-1 earlier 7-6+ has 7-3 7-4 7-5 7-6 8-1 | joined c gap failover upto 8-1
    ");
}

/// This instance received none of the lost messages: another instance has informed Redis.
#[test]
fn a_loss_recorded_by_another_instance_is_a_gap_here() {
    run("
        join 0 a after 7-4           | subscribe
        subscribed                   | read 1 after 7-4
        history 1 top 9-1 earlier 7-6+ 8-3 has 7-5 7-6 8-1 8-2 8-3 9-1 | joined a gap failover upto 9-1
        join 0 b after 8-1           | read 2 after 8-1
        history 2 top 9-1 earlier 7-6+ 8-3 has 8-2 8-3 9-1 | joined b resumed upto 9-1 with 8-2 8-3 9-1
    ");
    // This also holds for a member that was there all the time, if it had not received the lost messages and nothing
    // since.
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-6            | joined a fresh upto 7-6
        message 8-1                  | read 2 after 7-6
        history 2 top 8-1 earlier 7-6+ has 8-1 | gap 0 after 7-6 upto 8-1 failover
        message 8-2                  | deliver 0 8-2 after 8-1
    ");
}

#[test]
fn a_loss_is_reported_until_the_broker_records_it() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 2 after 7-9
        history 2 top 7-6            | lost 3 at 7-9
        not_noted 3                  |
        sweep 240                    |
        sweep 250                    | lost 4 at 7-9
        down                         |
        noted 4                      |
        up                           | subscribe
        subscribed                   | read 5 after 7-9
        history 5 top 7-6            | lost 6 at 7-9
        noted 6                      | read 7 after 7-9
        history 7 top 8-0 earlier 7-6+ | gap 0 after 7-9 upto 8-0 failover; recovered
    ");
}

/// At offset 0 there is no message that could be lost. If Redis has recorded the loss or knows better, it is not
/// informed again.
#[test]
fn no_loss_is_reported_for_a_position_without_a_message() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-0            | joined a fresh upto 7-0
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 2 after 7-0
        history 2 top 9-1 has 9-1    | gap 0 after 7-0 upto 9-1 unknown_position; recovered
        message 9-2..9-3             | deliver 0 9-2..9-3 after 9-1
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 3 after 9-3
        history 3 top 9-2            | lost 4 at 9-3
        noted 4                      | read 5 after 9-3
        history 5 top 9-2            | gap 0 after 9-3 upto 9-2 unknown_position; recovered
    ");
}

#[test]
fn a_held_message_that_a_failover_lost_is_a_gap() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 7-7                  | read 2 after 7-5
        history 2 top 8-1 earlier 7-5 has 8-1 | lost 3 at 7-7
        noted 3                      | read 4 after 7-5
        history 4 top 8-1 earlier 7-5+ has 8-1 | gap 0 after 7-5 upto 8-1 failover
        message 8-2                  | deliver 0 8-2 after 8-1
    ");
}

#[test]
fn a_failover_that_lost_nothing_is_no_gap() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        message 8-1                  | read 2 after 7-5
        history 2 top 8-1 earlier 7-5 has 8-1 | replay 0 8-1
    ");
}

#[test]
fn a_joiner_whose_read_shows_a_failover_waits_for_the_scope() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        join 1 b after 7-5           | read 2 after 7-5
        history 2 top 8-1 earlier 7-6 has 7-6 8-1 | read 3 after 7-9
        history 3 top 8-1 earlier 7-6 has 8-1 | lost 4 at 7-9
        noted 4                      | read 5 after 7-9
        history 5 top 8-1 earlier 7-6+ has 8-1 | gap 0+1 after 7-9 upto 8-1 failover; read 6 after 7-5
        history 6 top 8-1 earlier 7-6+ has 7-6 8-1 | joined b gap failover upto 8-1
    ");
}

#[test]
fn r10_the_answer_comes_before_what_follows_it() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        message 7-6                  |
        history 1 top 7-5            | joined a fresh upto 7-5; deliver 0 7-6 after 7-5
    ");
}

#[test]
fn a_joiner_catches_up_while_messages_flow_to_its_shard() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-3           | read 2 after 7-3
        message 7-6                  | deliver 0+1 7-6 after 7-5
        history 2 top 7-5 has 7-4 7-5 | joined b resumed upto 7-5 with 7-4 7-5
        join 1 c after 7-3           | read 3 after 7-3
        history 3 top 7-8 has 7-4 7-5 7-6 7-7 7-8 | joined c resumed upto 7-6 with 7-4 7-5 7-6
        message 7-7..7-8             | deliver 0+1 7-7..7-8 after 7-6
    ");
}

#[test]
fn pages_end_at_the_position_of_the_stream() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-1           | read 2 after 7-1
        history 2 top 7-6 has 7-2 7-3 more | joined b resumed upto 7-3 with 7-2 7-3 more
        join 1 b after 7-3           | read 3 after 7-3
        history 3 top 7-7 has 7-4 7-5 more | joined b resumed upto 7-5 with 7-4 7-5
        message 7-6                  | deliver 0+1 7-6 after 7-5
    ");
}

#[test]
fn equal_reads_are_shared_unless_the_answer_may_be_too_old() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-4           | read 2 after 7-4
        join 1 c after 7-4           |
        message 7-6                  | deliver 0+1 7-6 after 7-5
        join 2 d after 7-4           |
        history 2 top 7-5 has 7-5    | joined b resumed upto 7-5 with 7-5; joined c resumed upto 7-5 with 7-5; read 3 after 7-4
        history 3 top 7-6 has 7-5 7-6 | joined d resumed upto 7-6 with 7-5 7-6
    ");
}

#[test]
fn a_gap_in_the_scope_makes_older_answers_too_old() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 1 b after 7-4           | read 2 after 7-4
        message 7-9                  | read 3 after 7-5
        history 3 top 7-9 has 7-8 7-9 | gap 0+1 after 7-5 upto 7-9 expired!
        history 2 top 7-6 has 7-5 7-6 | read 4 after 7-4
        history 4 top 7-9 has 7-8 7-9 | joined b gap expired! upto 7-9
    ");
}

#[test]
fn a_first_read_that_failed_is_repeated_without_the_position_of_its_joiner() {
    run("
        join 0 a after 18446744073709551615-18446744073709551615 | subscribe
        subscribed                   | read 1 after 18446744073709551615-18446744073709551615
        failed 1                     | joined a degraded upto -
        join 1 b after 7-4           |
        sweep 250                    | read 2 after -
        failed 2                     | joined b degraded upto -
        sweep 500                    | read 3 after -
        history 3 top 7-5            | joined a gap unknown_position upto 7-5; read 4 after 7-4
        history 4 top 7-5 has 7-5    | joined b resumed upto 7-5 with 7-5
    ");
}

#[test]
fn failed_reads_are_asked_again_and_only_joiners_give_up() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        failed 1                     | joined a degraded upto -
        message 7-6                  |
        sweep 249                    |
        sweep 250                    | read 2 after -
        failed 2                     |
        sweep 500                    | read 3 after -
        history 3 top 7-5            | joined a fresh upto 7-5; deliver 0 7-6 after 7-5
        join 0 b after 7-3           | read 4 after 7-3
        failed 4                     |
        sweep 1000                   | read 5 after 7-3
        failed 5                     |
        sweep 2000                   | read 6 after 7-3
        failed 6                     |
        sweep 3000                   | read 7 after 7-3
        failed 7                     |
        sweep 4000                   | read 8 after 7-3
        failed 8                     |
        sweep 5000                   | read 9 after 7-3
        failed 9                     |
        sweep 6000                   | read 10 after 7-3
        failed 10                    |
        sweep 7000                   | read 11 after 7-3
        failed 11                    | joined b gap unreadable upto 7-6
        sweep 8000                   |
        message 7-7                  | deliver 0 7-7 after 7-6
        join 0 c after 7-3           | read 12 after 7-3
        failed 12                    |
        down                         | degraded; joined c degraded upto -
        sweep 9000                   |
    ");
    assert_eq!(router.counts().reads_failed, 11);
}

#[test]
fn messages_without_room_during_the_read_are_read_again() {
    let config = RouterConfig { held_bytes_max: 50, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        message 7-6                  |
        message 7-7                  |
        message 7-8                  |
        message 7-9..7-14            |
        history 1 top 7-5            | joined a fresh upto 7-5; read 2 after 7-5
        message 7-15                 |
        history 2 top 7-14 has 7-6 7-7 more | replay 0 7-6 7-7; read 3 after 7-7
        history 3 top 7-14 has 7-8 7-9 7-10 7-11 7-12 7-13 7-14 | replay 0 7-8 7-9 7-10 7-11 7-12 7-13 7-14; deliver 0 7-15 after 7-14
        ",
    );
}

#[test]
fn messages_without_room_are_not_read_again_if_the_read_has_them() {
    let config = RouterConfig { held_bytes_max: 50, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        message 7-6..7-14            |
        history 1 top 7-14           | joined a fresh upto 7-14
        message 7-15                 | deliver 0 7-15 after 7-14
        ",
    );
}

#[test]
fn a_scope_lingers_and_is_then_unsubscribed() {
    let router = run("
        sweep 10                     |
        join 0 a                     | subscribe
        join 1 b                     |
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5; joined b fresh upto 7-5
        leave 0                      |
        message 7-6                  | deliver 1 7-6 after 7-5
        leave 1                      |
        message 7-7                  |
        sweep 1000                   |
        join 0 c after 7-6           | read 2 after 7-6
        history 2 top 7-7 has 7-7    | joined c resumed upto 7-7 with 7-7
        leave 0                      |
        sweep 2999                   |
        sweep 3000                   | unsubscribe
        message 7-8                  |
        subscribed                   |
    ");
    assert_eq!(router.scopes(), 0);
}

#[test]
fn a_scope_left_during_an_outage_is_not_subscribed_again() {
    let router = run("
        @user:1 join 0 a             | subscribe
        @user:2 join 0 b             | @user:2 subscribe
        down                         | degraded; joined a degraded upto -; @user:2 joined b degraded upto -
        leave 0                      |
        up                           | @user:2 subscribe
        @user:2 leave 0              |
        @user:2 subscribed           | @user:2 read 1 after -
        sweep 2000                   | @user:2 unsubscribe; recovered
    ");
    assert_eq!(router.scopes(), 0);
}

#[test]
fn bytes_that_are_not_an_envelope_are_dropped() {
    let mut router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
    ");
    let mut out = Vec::new();
    let scope = Bytes::from_static(b"default/user:1");
    let bad: [&[u8]; 6] = [b"", b"hello", b"1 7 6 0\n", b"1 7 6 0\n 2\n{", b"1 7 6 0\n 2\n{}x", b"2 7 6 0\n 2\n{}"];
    for envelope in bad.map(Bytes::from_static) {
        router.handle(Event::Message { scope: scope.clone(), envelope }, 0, &mut out);
    }
    let envelope = Bytes::from_static(b"1 7 6 0\n 2\n{}");
    for name in [&b"default/user:2"[..], b"user:1", b"\xff"] {
        router.handle(Event::Message { scope: Bytes::from_static(name), envelope: envelope.clone() }, 0, &mut out);
    }
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(router.counts().bad_envelopes, 6);
    router.handle(Event::Message { scope, envelope }, 0, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn messages_removed_by_retention_are_a_gap() {
    run("
        join 0 a after 7-1           | subscribe
        subscribed                   | read 1 after 7-1
        history 1 top 7-5 has 7-4 7-5 | joined a gap expired! upto 7-5
        join 0 b after 7-4           | read 2 after 7-4
        history 2 top 7-5            | joined b gap expired! upto 7-5
        down                         | degraded
        up                           | subscribe
        subscribed                   | read 3 after 7-5
        history 3 top 7-9 has 7-8 7-9 | gap 0 after 7-5 upto 7-9 expired!; recovered
    ");
    run_with(
        without_history(),
        "
        up                           | recovered
        join 0 a after 7-1           | subscribe
        subscribed                   | read 1 after 7-1
        history 1 top 7-5            | joined a gap no_history! upto 7-5
        message 7-7                  | read 2 after 7-5
        history 2 top 7-7            | gap 0 after 7-5 upto 7-6 no_history!; deliver 0 7-7 after 7-6
        join 1 b after 7-7           | joined b resumed upto 7-7
        ",
    );
}

#[test]
fn an_outage_is_repaired_scope_by_scope_and_reported_at_begin_and_end() {
    let config = RouterConfig { resync_scopes_max: 2, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        @user:1 join 0 a             | subscribe
        @user:2 join 1 b             | @user:2 subscribe
        @user:3 join 1 c             | @user:3 subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        @user:2 subscribed           | @user:2 read 2 after -
        down                         | degraded; @user:2 joined b degraded upto -; @user:3 joined c degraded upto -
        down                         |
        @user:4 join 0 d after 7-1   | @user:4 joined d degraded upto -
        up                           | subscribe; @user:2 subscribe
        @user:5 join 0 e             | @user:5 subscribe
        subscribed                   | read 3 after 7-5
        history 3 top 7-7 has 7-6 more | replay 0 7-6; read 4 after 7-6
        history 4 top 7-7 has 7-7    | replay 0 7-7; @user:3 subscribe
        @user:2 subscribed           | @user:2 read 5 after -
        down                         | @user:5 joined e degraded upto -
        up                           | subscribe; @user:2 subscribe
        subscribed                   | read 6 after 7-7
        history 6 top 7-7            | @user:3 subscribe
        @user:2 subscribed           | @user:2 read 7 after -
        history 7 top 9-0            | @user:2 joined b fresh upto 9-0; @user:4 subscribe
        @user:3 subscribed           | @user:3 read 8 after -
        history 8 top 9-0            | @user:3 joined c fresh upto 9-0; @user:5 subscribe
        @user:4 subscribed           | @user:4 read 9 after 7-1
        history 9 top 7-1            | @user:4 joined d resumed upto 7-1
        @user:5 subscribed           | @user:5 read 10 after -
        history 10 top 9-0           | @user:5 joined e fresh upto 9-0; recovered
        ",
    );
}

#[test]
fn local_messages_are_followed_by_isolated_before_the_repair() {
    let router = run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        @user:2 join 1 b             | @user:2 subscribe
        @user:2 subscribed           | @user:2 read 2 after -
        @user:2 history 2 top 7-1    | @user:2 joined b fresh upto 7-1
        publish 1                    | publish 1; asked
        down                         | degraded
        publish 2                    | local 0 2; local
        join 1 c after 7-4           | joined c degraded upto -
        publish 1                    | local 0+1 1; local
        up                           | isolated 0+1; subscribe; @user:2 subscribe
        publish 1                    | publish 1; asked
        subscribed                   | read 3 after 7-5
        history 3 top 7-6 has 7-6    | replay 0+1 7-6; read 4 after 7-4
        @user:2 subscribed           | @user:2 read 5 after 7-1
        @user:2 history 5 top 7-1    | recovered
        history 4 top 7-6 has 7-5 7-6 | joined c resumed upto 7-6 with 7-5 7-6
        down                         | degraded
        up                           | subscribe; @user:2 subscribe
    ");
    assert_eq!(router.counts().local, 3);
}

#[test]
fn a_family_may_take_nothing_while_the_broker_is_away() {
    run("
        @system join 0 a             | @system subscribe
        @system subscribed           | @system read 1 after -
        @system history 1 top 7-5    | @system joined a fresh upto 7-5
        down                         | degraded
        @system publish 1            | readonly
        up                           | @system subscribe
        @system publish 1            | @system publish 1; asked
    ");
}

#[test]
fn publishes_go_to_the_broker_until_its_first_down() {
    run_with(
        RouterConfig::default(),
        "
        publish 1                    | publish 1; asked
        join 0 a                     | joined a degraded upto -
        down                         | degraded
        down                         |
        publish 1                    | local 0 1; local
        leave 0                      |
        publish 1                    | local
        join 1 b                     | joined b degraded upto -
        up                           | isolated 1; subscribe
        ",
    );
}

#[test]
fn a_joiner_during_the_outage_gets_isolated_for_earlier_local_messages() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        down                         | degraded
        leave 0                      |
        publish 1                    | local
        join 0 b after 7-5           | joined b degraded upto -
        @user:2 publish 1            | local
        up                           | isolated 0; subscribe
        subscribed                   | read 2 after 7-5
        history 2 top 7-5            | joined b resumed upto 7-5; recovered
    ");
}
