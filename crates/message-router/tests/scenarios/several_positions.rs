//! One joiner with several positions: several patterns of one client in one scope, each with its own position.

use message_router::RouterConfig;

use crate::support::script::{run, run_with};

#[test]
fn each_position_is_judged_by_itself_and_the_lowest_valid_one_is_where_it_begins() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 8-3            | joined a fresh upto 8-3
        join 0 b after 7-4 8-1       | read 2 after 7-4
        history 2 top 8-3 earlier 7-6 has 7-5 7-6 8-1 8-2 8-3 | joined b resumed upto 8-3 with 7-5 7-6 8-1 8-2 8-3
        join 0 c after 7-1 7-4       | read 3 after 7-1
        history 3 top 8-3 earlier 7-6 has 7-5 7-6 8-1 8-2 8-3 | joined c resumed lost 7-1 expired! over 7-4 upto 8-3 with 7-5 7-6 8-1 8-2 8-3
        join 0 d after 7-5 7-9 8-2   | read 4 after 7-5
        history 4 top 8-3 earlier 7-6 has 7-6 8-1 8-2 8-3 | joined d resumed lost 7-9 failover over 7-5 upto 8-3 with 7-6 8-1 8-2 8-3
        join 0 e after 7-5 8-2       | read 5 after 7-5
        history 5 top 8-3 earlier 7-6+ has 7-6 8-1 8-2 8-3 | joined e resumed lost 7-5 failover over 8-2 upto 8-3 with 8-3
        join 0 f after 6-1 7-9       | read 6 after 6-1
        history 6 top 8-3 earlier 7-6 has 7-5 7-6 8-1 8-2 8-3 | joined f gap unknown_position lost 7-9 failover over 8-3 upto 8-3
    ");
}

#[test]
fn a_position_at_the_top_causes_no_read() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 0 b after 7-3 7-5       | read 2 after 7-3
        history 2 top 7-5 has 7-4 7-5 | joined b resumed upto 7-5 with 7-4 7-5
    ");
}

#[test]
fn a_position_that_has_not_arrived_yet_is_waited_for() {
    run("
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-5            | joined a fresh upto 7-5
        join 0 b after 7-3 7-6       | read 2 after 7-5
        history 2 top 7-6 has 7-6    | replay 0 7-6; read 3 after 7-3
        history 3 top 7-6 has 7-4 7-5 7-6 | joined b resumed upto 7-6 with 7-4 7-5 7-6
        join 0 c after 7-6 7-8       | read 4 after 7-6
        history 4 top 7-6            | joined c resumed lost 7-8 unknown_position over 7-6 upto 7-6
        join 0 d after 7-5 7-8       | read 5 after 7-6
        history 5 top 7-6            | read 6 after 7-5
        history 6 top 7-6 has 7-6    | joined d resumed lost 7-8 unknown_position over 7-5 upto 7-6 with 7-6
    ");
}

#[test]
fn the_first_history_of_a_scope_answers_them_too() {
    run("
        join 0 a after 7-2 7-5       | subscribe
        subscribed                   | read 1 after 7-2
        history 1 top 7-6 has 7-4 7-5 7-6 | joined a resumed lost 7-2 expired! over 7-5 upto 7-6 with 7-6
    ");
}

#[test]
fn a_page_that_ends_before_the_next_position_reports_losses_and_continues_there() {
    let config = RouterConfig { page_entries_max: 2, ..RouterConfig::default() };
    run_with(
        config,
        "
        up | recovered
        join 0 a                     | subscribe
        subscribed                   | read 1 after -
        history 1 top 7-9            | joined a fresh upto 7-9
        join 0 b after 7-1 7-7       | read 2 after 7-1
        history 2 top 7-9 has 7-4 7-5 more | joined b resumed lost 7-1 expired! over 7-7 upto 7-7 more
        join 0 b after 7-7           | read 3 after 7-7
        history 3 top 7-9 has 7-8 7-9 | joined b resumed upto 7-9 with 7-8 7-9
    ",
    );
}
