//! A primary that Sentinels watch: killed, frozen and demoted.

use message_router::judge;
use test_support::SentinelSet;
use wire::GapReason;

use super::subscriber::RecordingSubscriber;
use super::{config, eventually, scope};

#[tokio::test]
async fn a_failover_begins_a_generation_and_loses_nothing_that_was_replicated() {
    let mut set = SentinelSet::start(&[]);
    let mut subscriber = RecordingSubscriber::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    subscriber.subscribe(&scope).await;
    subscriber.publish(&scope).await;
    let last = subscriber.publish(&scope).await;
    subscriber.receive(&scope, last).await;
    set.servers[0].wait_until_copied_by(&set.servers[1]);

    set.expect_a_failure();
    set.servers[0].crash();
    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    assert!(!subscriber.downs.is_empty());
    subscriber.subscribe(&scope).await;
    let next = subscriber.publish(&scope).await;
    assert!(next.generation > last.generation && next.offset == 1, "{last} then {next}");
    subscriber.receive(&scope, next).await;
    let history = subscriber.read(&scope, last).await;
    assert_eq!(judge(last, &history), Ok(()), "{history:?}");
    assert_eq!(history.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [next]);

    set.expect_no_failure();
    // The old primary restarts as a primary. A broker that asks the Sentinels does not use it.
    set.servers[0].restart();
    let mut late = RecordingSubscriber::up(config(&set.url())).await;
    late.subscribe(&scope).await;
    let newest = subscriber.publish(&scope).await;
    assert_eq!(newest, next.next());
    late.receive(&scope, newest).await;
}

#[tokio::test]
async fn writes_that_a_failover_loses_are_known_to_be_lost() {
    let mut set = SentinelSet::start(&[]);
    let mut subscriber = RecordingSubscriber::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    let kept = subscriber.publish(&scope).await;
    set.servers[0].wait_until_copied_by(&set.servers[1]);
    // The replica receives nothing more, not even bytes that would wait in its socket when it wakes up.
    set.servers[1].freeze();
    assert_eq!(set.servers[0].command::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]), 1);
    let lost = subscriber.publish(&scope).await;
    set.expect_a_failure();
    set.servers[0].crash();
    set.servers[1].thaw();

    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    subscriber.publish(&scope).await;
    let history = subscriber.read(&scope, kept).await;
    assert_eq!(judge(kept, &history), Ok(()), "{history:?}");
    assert_eq!(judge(lost, &history), Err(GapReason::Failover), "{history:?}");
}

/// Only the announcement of the Sentinels can end the connection: the old primary is silent, and the next probe is far
/// off.
#[tokio::test]
async fn an_announcement_of_a_sentinel_ends_the_connection_at_once() {
    let set = SentinelSet::start(&[]);
    let mut subscriber = RecordingSubscriber::up(config(&set.url())).await;
    let receives = |clients: String| clients.lines().any(|client| client.contains("cmd=subscribe"));
    eventually("a Sentinel is listened to", || {
        set.sentinels.iter().any(|sentinel| receives(sentinel.command(&["CLIENT", "LIST"])))
    })
    .await;
    set.expect_a_failure();
    set.servers[0].freeze();
    subscriber.until("down", |subscriber| !subscriber.downs.is_empty()).await;
    let expected = format!("the Sentinels have made 127.0.0.1:{} the primary", set.servers[1].port());
    assert_eq!(subscriber.downs[0], expected);
    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    set.servers[0].thaw();
    subscriber.publish(&scope("acme/system")).await;
}

#[tokio::test]
async fn a_demoted_primary_is_left_and_never_used() {
    let set = SentinelSet::start(&[]);
    let mut subscriber = RecordingSubscriber::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    let before = subscriber.publish(&scope).await;
    set.switch();
    subscriber.until("up again", |subscriber| subscriber.ups == 2).await;
    let after = subscriber.publish(&scope).await;
    assert!(after.generation > before.generation);
    eventually("the old primary is a replica", || set.servers[0].info("role").as_deref() == Some("slave")).await;
    let mut misled = RecordingSubscriber::new(config(&set.servers[0].url()));
    misled.until("down", |subscriber| !subscriber.downs.is_empty()).await;
    assert!(misled.downs[0].contains("is a replica"), "{:?}", misled.downs);
    assert_eq!(misled.ups, 0);
}

#[tokio::test]
async fn sentinels_have_users_of_their_own_and_names_for_what_they_watch() {
    let set = SentinelSet::start(&[]);
    // The rights that docs/redis.md prints.
    let rights = "on >word &+switch-master -@all +hello +auth +subscribe \
                  +sentinel|get-master-addr-by-name +sentinel|master";
    let user: Vec<_> = ["ACL", "SETUSER", "watcher"].into_iter().chain(rights.split_whitespace()).collect();
    set.sentinels[0].command::<()>(&user);
    set.sentinels[0].command::<()>(&["ACL", "SETUSER", "default", "resetpass", "off"]);
    let port = set.sentinels[0].port();
    let url = |rest: &str| format!("redis+sentinel://127.0.0.1:{port}/{rest}");
    // Before it gives this reason, a busy Sentinel may not have answered in time.
    let expect_reason = |url: String, sentences: &'static [&str]| async move {
        let mut subscriber = RecordingSubscriber::new(config(&url));
        let is_it = |down: &String| sentences.iter().all(|sentence| down.contains(sentence));
        subscriber.until("reason", |subscriber| subscriber.downs.iter().any(is_it)).await;
    };
    expect_reason(url("main"), &["no Sentinel answers", "NOAUTH"]).await;
    RecordingSubscriber::up(config(&url("main?sentinel_user=watcher&sentinel_password=word"))).await;
    let unknown = url("other?sentinel_user=watcher&sentinel_password=word");
    expect_reason(unknown, &[r#"no Sentinel watches a master called "other""#]).await;
    // A URL of a single server refuses a Sentinel, and a node of a cluster.
    let place = format!("redis://127.0.0.1:{}", set.sentinels[1].port());
    expect_reason(place, &["is a Sentinel: write redis+sentinel://"]).await;
}
