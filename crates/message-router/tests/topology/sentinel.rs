//! A primary that Sentinels watch: killed, frozen and demoted.

use message_router::judge;
use redis_fixture::SentinelSet;
use wire::GapReason;

use super::ear::Ear;
use super::{config, eventually, scope};

#[tokio::test]
async fn a_failover_begins_a_generation_and_loses_nothing_that_was_replicated() {
    let mut set = SentinelSet::start(&[]);
    let mut ear = Ear::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    ear.subscribe(&scope).await;
    ear.publish(&scope).await;
    let last = ear.publish(&scope).await;
    ear.hear(&scope, last).await;
    set.servers[0].wait_until_copied_by(&set.servers[1]);

    set.expect_a_failure();
    set.servers[0].crash();
    ear.until("up again", |ear| ear.ups == 2).await;
    assert!(!ear.downs.is_empty());
    ear.subscribe(&scope).await;
    let next = ear.publish(&scope).await;
    assert!(next.generation > last.generation && next.offset == 1, "{last} then {next}");
    ear.hear(&scope, next).await;
    let history = ear.read(&scope, last).await;
    assert_eq!(judge(last, &history), Ok(()), "{history:?}");
    assert_eq!(history.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [next]);

    set.expect_no_failure();
    // The old primary comes back believing that it is one. Who asks the Sentinels is not misled.
    set.servers[0].restart();
    let mut late = Ear::up(config(&set.url())).await;
    late.subscribe(&scope).await;
    let newest = ear.publish(&scope).await;
    assert_eq!(newest, next.next());
    late.hear(&scope, newest).await;
}

#[tokio::test]
async fn writes_that_a_failover_loses_are_known_to_be_lost() {
    let mut set = SentinelSet::start(&[]);
    let mut ear = Ear::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    let kept = ear.publish(&scope).await;
    set.servers[0].wait_until_copied_by(&set.servers[1]);
    // The replica hears nothing more: not even what would lie in its socket when it wakes up.
    set.servers[1].freeze();
    assert_eq!(set.servers[0].command::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]), 1);
    let lost = ear.publish(&scope).await;
    set.expect_a_failure();
    set.servers[0].crash();
    set.servers[1].thaw();

    ear.until("up again", |ear| ear.ups == 2).await;
    ear.publish(&scope).await;
    let history = ear.read(&scope, kept).await;
    assert_eq!(judge(kept, &history), Ok(()), "{history:?}");
    assert_eq!(judge(lost, &history), Err(GapReason::Failover), "{history:?}");
}

/// Nothing but the Sentinels' word can tell: the old primary is silent, and the probe far off.
#[tokio::test]
async fn the_word_of_a_sentinel_cuts_the_link_at_once() {
    let set = SentinelSet::start(&[]);
    let mut ear = Ear::up(config(&set.url())).await;
    let hears = |clients: String| clients.lines().any(|client| client.contains("cmd=subscribe"));
    eventually("a Sentinel is listened to", || {
        set.sentinels.iter().any(|sentinel| hears(sentinel.command(&["CLIENT", "LIST"])))
    })
    .await;
    set.expect_a_failure();
    set.servers[0].freeze();
    ear.until("down", |ear| !ear.downs.is_empty()).await;
    let expected = format!("the Sentinels have made 127.0.0.1:{} the primary", set.servers[1].port());
    assert_eq!(ear.downs[0], expected);
    ear.until("up again", |ear| ear.ups == 2).await;
    set.servers[0].thaw();
    ear.publish(&scope("acme/system")).await;
}

#[tokio::test]
async fn a_demoted_primary_is_left_and_never_bound_to() {
    let set = SentinelSet::start(&[]);
    let mut ear = Ear::up(config(&set.url())).await;
    let scope = scope("acme/collection:42");
    let before = ear.publish(&scope).await;
    set.switch();
    ear.until("up again", |ear| ear.ups == 2).await;
    let after = ear.publish(&scope).await;
    assert!(after.generation > before.generation);
    eventually("the old primary is a replica", || set.servers[0].info("role").as_deref() == Some("slave")).await;
    let mut misled = Ear::new(config(&set.servers[0].url()));
    misled.until("down", |ear| !ear.downs.is_empty()).await;
    assert!(misled.downs[0].contains("is a replica"), "{:?}", misled.downs);
    assert_eq!(misled.ups, 0);
}

#[tokio::test]
async fn sentinels_have_users_of_their_own_and_names_for_what_they_watch() {
    let set = SentinelSet::start(&[]);
    // As docs/redis.md has it.
    let rights = "on >word &+switch-master -@all +hello +auth +subscribe \
                  +sentinel|get-master-addr-by-name +sentinel|master";
    let user: Vec<_> = ["ACL", "SETUSER", "watcher"].into_iter().chain(rights.split_whitespace()).collect();
    set.sentinels[0].command::<()>(&user);
    set.sentinels[0].command::<()>(&["ACL", "SETUSER", "default", "resetpass", "off"]);
    let port = set.sentinels[0].port();
    let url = |rest: &str| format!("redis+sentinel://127.0.0.1:{port}/{rest}");
    // Before it says so, a busy Sentinel may not have answered in time.
    let told = |url: String, sentences: &'static [&str]| async move {
        let mut ear = Ear::new(config(&url));
        let is_it = |down: &String| sentences.iter().all(|sentence| down.contains(sentence));
        ear.until("told", |ear| ear.downs.iter().any(is_it)).await;
    };
    told(url("main"), &["no Sentinel answers", "NOAUTH"]).await;
    Ear::up(config(&url("main?sentinel_user=watcher&sentinel_password=word"))).await;
    let unknown = url("other?sentinel_user=watcher&sentinel_password=word");
    told(unknown, &[r#"no Sentinel watches a master called "other""#]).await;
    // And a Sentinel, or a node of a cluster, is not taken for what it is not.
    let place = format!("redis://127.0.0.1:{}", set.sentinels[1].port());
    told(place, &["is a Sentinel: write redis+sentinel://"]).await;
}
