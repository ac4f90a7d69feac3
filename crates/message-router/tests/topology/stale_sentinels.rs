//! Sentinels with outdated knowledge: two servers both take writes, and only the order of what the Sentinels say shows
//! which one is the primary.

use std::time::{Duration, Instant};

use message_router::RedisBrokerConfig;
use test_support::{RedisServer, StagedSentinel};
use wire::Scope;

use super::subscriber::{DEADLINE, RecordingSubscriber};
use super::{config, eventually, scope};

/// Two servers, and three Sentinels that name the first one at the start.
struct Stage {
    servers: [RedisServer; 2],
    sentinels: Vec<StagedSentinel>,
}

const FIRST: usize = 0;
const SECOND: usize = 1;

impl Stage {
    fn set(epoch: u64) -> Self {
        let servers = [RedisServer::start(&[]), RedisServer::start(&[])];
        let sentinels = (0..3).map(|_| StagedSentinel::start(epoch, servers[FIRST].port())).collect();
        Self { servers, sentinels }
    }

    fn config(&self) -> RedisBrokerConfig {
        config(&StagedSentinel::url(&self.sentinels))
    }

    fn port(&self, server: usize) -> u16 {
        self.servers[server].port()
    }

    /// Waits until the broker listens to each of the Sentinels.
    async fn listened_to(&self) {
        eventually("the Sentinels are listened to", || self.sentinels.iter().all(|sentinel| sentinel.listeners() > 0))
            .await;
    }

    /// Waits until each of these Sentinels has been asked `times` more often.
    async fn asked_again(&self, subscriber: &mut RecordingSubscriber, sentinels: &[usize], times: usize) {
        let asked = || sentinels.iter().map(|index| self.sentinels[*index].questions()).collect::<Vec<_>>();
        let (before, begun) = (asked(), Instant::now());
        while asked().iter().zip(&before).any(|(now, before)| *now < before + times) {
            assert!(begun.elapsed() < DEADLINE, "the Sentinels are not asked again");
            subscriber.listen(Duration::from_millis(20)).await;
        }
    }

    /// Publishes once, and returns the server that has stored the message.
    async fn publish(&self, subscriber: &mut RecordingSubscriber, scope: &Scope) -> usize {
        let before = self.stored();
        subscriber.publish(scope).await;
        let after = self.stored();
        match [FIRST, SECOND].map(|server| after[server] > before[server]) {
            [true, false] => FIRST,
            [false, true] => SECOND,
            _ => panic!("both have it, or none: {before:?}, {after:?}"),
        }
    }

    /// Number of messages that each server has stored.
    fn stored(&self) -> [u64; 2] {
        [FIRST, SECOND].map(|server| {
            let stat = self.servers[server].info("cmdstat_xadd").unwrap_or_default();
            let calls = stat.strip_prefix("calls=").and_then(|stat| stat.split(',').next());
            calls.map_or(0, |calls| calls.parse().unwrap())
        })
    }
}

#[tokio::test]
async fn a_majority_that_does_not_know_a_failover_does_not_reverse_it() {
    let stage = Stage::set(6);
    let mut subscriber = RecordingSubscriber::up(stage.config()).await;
    let scope = scope("acme/collection:42");
    assert_eq!(stage.publish(&mut subscriber, &scope).await, FIRST);
    stage.listened_to().await;
    let (informed, others) = (2, [0, 1]);
    stage.sentinels[informed].learn(7, stage.port(SECOND));
    stage.sentinels[informed].announce(stage.port(FIRST), stage.port(SECOND));
    // The others answer first, and two are a majority.
    stage.sentinels[informed].slow_down(Duration::from_millis(50));
    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    assert_eq!(stage.publish(&mut subscriber, &scope).await, SECOND);

    // The others keep their outdated knowledge for a while, and the informed one falls silent.
    stage.sentinels[informed].fall_silent();
    stage.asked_again(&mut subscriber, &others, 3).await;
    assert_eq!(stage.publish(&mut subscriber, &scope).await, SECOND);
    assert_eq!(subscriber.downs.len(), 1, "{:?}", subscriber.downs);

    // A failover back is newer. It is not announced.
    others.iter().for_each(|index| stage.sentinels[*index].learn(8, stage.port(FIRST)));
    subscriber.until("up once more", |subscriber| subscriber.ups == 3).await;
    assert_eq!(stage.publish(&mut subscriber, &scope).await, FIRST);
}

/// The Sentinel sends the announcement and answers nothing more, as if its machine had failed: the epoch stays unknown.
#[tokio::test]
async fn an_announcement_counts_even_if_its_epoch_is_unknown() {
    for has_epochs in [true, false] {
        let stage = Stage::set(6);
        if !has_epochs {
            stage.sentinels.iter().for_each(|sentinel| sentinel.learn_without_epoch(stage.port(FIRST)));
        }
        let mut subscriber = RecordingSubscriber::up(stage.config()).await;
        let scope = scope("acme/collection:42");
        stage.listened_to().await;
        let (informed, others) = (2, [0, 1]);
        stage.sentinels[informed].fall_silent();
        stage.sentinels[informed].announce(stage.port(FIRST), stage.port(SECOND));
        subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
        stage.asked_again(&mut subscriber, &others, 3).await;
        assert_eq!(stage.publish(&mut subscriber, &scope).await, SECOND);
        assert_eq!(subscriber.downs.len(), 1, "{:?}", subscriber.downs);
    }
}

/// One Sentinel has missed two failovers, and announces the first one when the second is already known.
#[tokio::test]
async fn an_announcement_that_is_older_than_what_is_known_is_not_followed() {
    let stage = Stage::set(6);
    stage.sentinels[1..].iter().for_each(|sentinel| sentinel.learn(8, stage.port(FIRST)));
    let mut subscriber = RecordingSubscriber::up(stage.config()).await;
    let scope = scope("acme/collection:42");
    stage.listened_to().await;
    stage.sentinels[0].learn(7, stage.port(SECOND));
    stage.sentinels[0].announce(stage.port(FIRST), stage.port(SECOND));
    // Neither the listener nor the next question to all of them follows it.
    stage.asked_again(&mut subscriber, &[0], 2).await;
    assert_eq!(stage.publish(&mut subscriber, &scope).await, FIRST);
    assert!(subscriber.downs.is_empty(), "{:?}", subscriber.downs);
}

#[tokio::test]
async fn a_failover_that_nobody_announced_is_noticed() {
    let stage = Stage::set(6);
    let mut subscriber = RecordingSubscriber::up(stage.config()).await;
    let scope = scope("acme/collection:42");
    assert_eq!(stage.publish(&mut subscriber, &scope).await, FIRST);
    stage.sentinels.iter().for_each(|sentinel| sentinel.learn(7, stage.port(SECOND)));
    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    let expected = format!("the Sentinels have made 127.0.0.1:{} the primary", stage.port(SECOND));
    assert_eq!(subscriber.downs, [expected]);
    assert_eq!(stage.publish(&mut subscriber, &scope).await, SECOND);
}

/// The server accepts the connection and sends nothing. When it continues, it has been replaced and does not know it.
#[tokio::test]
async fn a_primary_that_was_replaced_while_it_was_connected_to_is_not_used() {
    let stage = Stage::set(6);
    stage.servers[FIRST].freeze();
    let mut subscriber = RecordingSubscriber::new(stage.config());
    let asked = || stage.sentinels.iter().filter(|sentinel| sentinel.questions() > 0).count();
    let begun = Instant::now();
    while asked() < 3 {
        assert!(begun.elapsed() < DEADLINE, "the Sentinels are not asked");
        subscriber.listen(Duration::from_millis(20)).await;
    }
    stage.sentinels.iter().for_each(|sentinel| sentinel.learn(7, stage.port(SECOND)));
    stage.servers[FIRST].thaw();
    subscriber.until("up", |subscriber| subscriber.ups > 0).await;
    assert_eq!(stage.publish(&mut subscriber, &scope("acme/collection:42")).await, SECOND);
    assert_eq!(subscriber.ups, 1);
    assert!(subscriber.downs[0].contains("another server has taken the place of"), "{:?}", subscriber.downs);
}
