//! The router on a real broker: missed messages are repaired or reported.

use std::time::Duration;

use message_router::{Broker, Event, Gap, Joiner, Output, Policies, Router, RouterConfig, ShardIndex, Start};
use tokio::time::timeout;
use wire::Position;

use crate::support::test_client::{MESSAGE, TestClient, items};
use crate::{Cluster, policies, scope};

/// A gateway reduced to this crate: a broker, a router, and one member.
struct Gateway<B> {
    broker: B,
    router: Router,
    out: Vec<Output>,
    seen: Vec<Position>,
    gaps: Vec<Gap>,
    downs: usize,
    is_degraded: bool,
    /// Messages are lost on their way to this gateway.
    drops_messages: bool,
    now_ms: u64,
}

impl<B: Broker> Gateway<B> {
    fn new(broker: B, policies: Policies) -> Self {
        let router = Router::new(RouterConfig {
            page_entries_max: 7,
            policies,
            check_interval_ms: 1_000,
            ..RouterConfig::default()
        });
        let (out, seen, gaps) = (Vec::new(), Vec::new(), Vec::new());
        Self { broker, router, out, seen, gaps, downs: 0, is_degraded: true, drops_messages: false, now_ms: 0 }
    }

    async fn step(&mut self) {
        let deadline = Duration::from_secs(30);
        let event = timeout(deadline, self.broker.next_event()).await.expect("the broker has something to tell");
        self.downs += usize::from(matches!(event, Event::Down(_)));
        if !(self.drops_messages && matches!(event, Event::Message { .. })) {
            self.router.handle(event, self.now_ms, &mut self.out);
        }
        self.carry_out();
    }

    /// Advances the time by one second.
    fn sweep(&mut self) {
        self.now_ms += 1_000;
        self.router.sweep(self.now_ms, &mut self.out);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Command(command) => self.broker.command(command),
                Output::Deliver { scope, envelope, after, .. } => {
                    let positions = items(scope.as_str().as_bytes(), &envelope).into_iter().map(|h| h.position);
                    self.seen.extend(positions.filter(|position| *position > after));
                }
                Output::Replay { entries, .. } => self.seen.extend(entries.iter().map(|e| e.position)),
                Output::Joined { joined, .. } if joined.start == Start::Degraded => {}
                Output::Joined { joined, .. } => {
                    assert_eq!((joined.start, joined.entries.len()), (Start::Fresh, 0));
                    self.seen.extend(joined.upto);
                }
                Output::Gap { gap, .. } => self.gaps.push(gap),
                Output::Local { .. } | Output::Isolated { .. } => panic!("nobody publishes here"),
                Output::Degraded { degraded } => self.is_degraded = degraded,
            }
        }
    }
}

pub(crate) async fn the_router_repairs_an_interruption_without_a_gap<C: Cluster>() {
    let cluster = C::start(&Policies::default());
    let scope = scope("acme/collection:42");
    let mut gateway = Gateway::new(cluster.broker(), Policies::default());
    gateway.router.join(ShardIndex(0), Joiner(1), scope.clone(), None, &mut gateway.out);
    while gateway.seen.is_empty() {
        gateway.step().await;
    }
    let mut last = gateway.seen[0];
    for round in 1..=3 {
        let mut publisher = TestClient::up(cluster.broker()).await;
        for _ in 0..20 {
            last = publisher.publish(&scope, &[("", MESSAGE)]).await;
        }
        while gateway.seen.last() != Some(&last) {
            gateway.step().await;
        }
        cluster.interrupt(&scope).await;
        let mut publisher = TestClient::up(cluster.broker()).await;
        for _ in 0..20 {
            last = publisher.publish(&scope, &[("", MESSAGE)]).await;
        }
        while gateway.seen.last() < Some(&last) || gateway.is_degraded || gateway.downs < round {
            gateway.step().await;
        }
        last = *gateway.seen.last().expect("there are some");
    }
    assert_eq!(gateway.gaps, []);
    assert_eq!(gateway.downs, 3);
    let offsets: Vec<_> = gateway.seen.iter().map(|position| position.offset).collect();
    assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>(), "every message once and in order");
    assert!(offsets.len() > 120);
}

pub(crate) async fn the_router_notices_that_the_last_message_was_dropped<C: Cluster>() {
    for keeps_history in [true, false] {
        let policies = policies(|policy| policy.history_entries_max = if keeps_history { 100 } else { 0 });
        let cluster = C::start(&policies);
        let scope = scope("acme/collection:42");
        let mut gateway = Gateway::new(cluster.broker(), policies);
        gateway.router.join(ShardIndex(0), Joiner(1), scope.clone(), None, &mut gateway.out);
        while gateway.seen.is_empty() {
            gateway.step().await;
        }
        let mut publisher = TestClient::up(cluster.broker()).await;
        gateway.drops_messages = true;
        let last = publisher.publish(&scope, &[("", MESSAGE), ("", MESSAGE)]).await;
        gateway.step().await;
        assert_eq!((gateway.seen.len(), gateway.gaps.len()), (1, 0), "nothing tells of them");
        gateway.drops_messages = false;
        gateway.sweep();
        while gateway.seen.len() + gateway.gaps.len() < if keeps_history { 3 } else { 2 } {
            gateway.step().await;
        }
        match keeps_history {
            true => assert_eq!((gateway.seen.last(), gateway.gaps.len()), (Some(&last), 0)),
            false => assert_eq!((gateway.seen.len(), gateway.gaps[0].upto), (1, last)),
        }
        let next = publisher.publish(&scope, &[("", MESSAGE)]).await;
        while gateway.seen.last() != Some(&next) {
            gateway.step().await;
        }
    }
}
