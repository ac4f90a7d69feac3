//! What is subscribed again after an interruption, and what may be published during one.

use message_router::{Command, Draft, Event, Output, Policies, Publish, Router, RouterConfig, Taken, Ticket};

use crate::support::script::run_with;

#[test]
fn a_scope_that_is_left_and_joined_before_its_turn_is_subscribed_then_and_once() {
    let config = RouterConfig { resync_scopes_max: 2, ..RouterConfig::default() };
    run_with(
        config,
        "
        up                           | recovered
        @user:1 join 0 a             | subscribe
        @user:2 join 0 b             | @user:2 subscribe
        @user:3 join 0 c             | @user:3 subscribe
        @user:1 subscribed           | read 1 after -
        @user:1 history 1 top 7-5    | joined a fresh upto 7-5
        @user:2 subscribed           | @user:2 read 2 after -
        @user:2 history 2 top 7-5    | @user:2 joined b fresh upto 7-5
        @user:3 subscribed           | @user:3 read 3 after -
        @user:3 history 3 top 7-5    | @user:3 joined c fresh upto 7-5
        @user:1 lost                 | subscribe
        @user:2 lost                 | @user:2 subscribe
        @user:3 lost                 |
        @user:3 lost                 |
        @user:3 leave 0              |
        sweep 2000                   |
        @user:3 join 0 d             |
        @user:1 subscribed           | read 4 after 7-5
        @user:1 history 4 top 7-5    | @user:3 subscribe
        @user:2 subscribed           | @user:2 read 5 after 7-5
        @user:2 history 5 top 7-5    |
        @user:3 subscribed           | @user:3 read 6 after 7-5
        @user:3 history 6 top 7-5    | @user:3 joined d fresh upto 7-5
        ",
    );
}

#[test]
fn an_id_that_the_broker_may_have_stored_is_not_delivered_locally() {
    let mut router = Router::new(RouterConfig::default());
    let scope = Policies::default().families().parse_scope("default/user:1").expect("a scope");
    let publish = |router: &mut Router, id: &str| {
        let messages = vec![Draft { id: Some(id.into()), ..Draft::new("", b"{}".to_vec()) }];
        let mut out = Vec::new();
        let taken =
            router.publish(Publish { ticket: Ticket(1), scope: scope.clone(), messages, replicated: false }, &mut out);
        assert_eq!(taken == Taken::Asked, matches!(out[..], [Output::Command(Command::Publish(_))]), "{out:?}");
        taken
    };
    let mut out = Vec::new();
    router.handle(Event::Up, 0, &mut out);
    assert!(!router.is_isolated());
    assert_eq!(publish(&mut router, "a"), Taken::Asked);
    router.handle(Event::Down("gone".into()), 0, &mut out);
    router.doubt(scope.clone(), "a".into());
    assert!(router.is_isolated() && router.is_degraded());
    assert_eq!(["a", "b", "b"].map(|id| publish(&mut router, id)), [Taken::Doubtful, Taken::Local, Taken::Again]);
    router.handle(Event::Up, 0, &mut out);
    assert!(!router.is_isolated());
    assert_eq!(publish(&mut router, "a"), Taken::Asked, "the broker knows");
}
