//! Sentinels that say one thing each, and some that say nothing.

use test_support::StagedSentinel;
use tokio::time::timeout;

use super::*;
use crate::{Target, Topology};

fn sentinels_of(staged: &[StagedSentinel]) -> Sentinels {
    let target = Target::parse(&StagedSentinel::url(staged)).unwrap();
    let Topology::Sentinel(sentinels) = target.topology() else { panic!("they are Sentinels") };
    sentinels.clone()
}

async fn primary(answers: &[Option<(u64, u16)>]) -> Result<Node, SentinelError> {
    primary_within(answers, ANSWER_DEADLINE).await
}

/// By Sentinels that tell these epochs and ports; `None` never answers.
async fn primary_within(answers: &[Option<(u64, u16)>], deadline: Duration) -> Result<Node, SentinelError> {
    let stage = |answer: &Option<(u64, u16)>| match answer {
        Some((epoch, port)) => StagedSentinel::start(*epoch, *port),
        None => StagedSentinel::silent(),
    };
    let staged: Vec<_> = answers.iter().map(stage).collect();
    sentinels_of(&staged).ask_all(deadline).await.map(|answer| answer.primary)
}

#[tokio::test]
async fn the_newest_answer_counts_wherever_it_stands() {
    for answers in [[(2, 7), (3, 8)], [(3, 8), (2, 7)]] {
        let found = primary(&answers.map(Some)).await.unwrap();
        assert_eq!(found.port, 8);
    }
}

#[tokio::test]
async fn a_majority_is_enough_and_one_answer_too_when_no_other_comes() {
    let mut took = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(primary(&[None, Some((1, 7)), Some((2, 8))]).await.unwrap().port, 8);
        took.push(started.elapsed());
    }
    // A busy machine may have been so long about one of them; whoever waits for the silent one always is.
    assert!(took.iter().any(|took| *took < ANSWER_DEADLINE), "nobody waited for the silent one: {took:?}");
    let (started, deadline) = (Instant::now(), ANSWER_DEADLINE * 20);
    assert_eq!(primary_within(&[None, Some((1, 7)), None], deadline).await.unwrap().port, 7);
    assert!(started.elapsed() < deadline / 2, "the others were waited for");
}

#[tokio::test]
async fn silence_is_said() {
    let error = timeout(ANSWER_DEADLINE * 10, primary(&[None, None])).await.expect("it is given up").unwrap_err();
    assert!(error.to_string().contains("no Sentinel answers"), "{error}");
}

fn node(port: u16) -> Node {
    Node { host: "127.0.0.1".into(), port }
}

/// Long enough for a busy machine; who is broken waits for ever, or for ten times as long.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_majority_that_has_not_heard_yet_is_not_believed() {
    let staged = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, 1));
    let sentinels = sentinels_of(&staged);
    assert_eq!(sentinels.primary().await.unwrap(), node(1));
    sentinels.reported(node(2), 7);
    // All three were restarted or are behind: none says so yet.
    assert_eq!(sentinels.primary().await.unwrap(), node(2));
    staged[0].learn(7, 2);
    assert_eq!(sentinels.primary().await.unwrap(), node(2));
    // What it says for others holds for its clones.
    assert_eq!(sentinels.clone().primary().await.unwrap(), node(2));
    // Known to two, it is in every majority.
    staged[1..].iter().for_each(|sentinel| sentinel.learn(8, 1));
    assert_eq!(sentinels.primary().await.unwrap(), node(1), "a failover back is newer");
}

#[tokio::test]
async fn at_first_a_majority_does_not_decide_before_the_rest_had_a_moment() {
    let mut found = Vec::new();
    for _ in 0..5 {
        let staged = [(6, 1), (6, 1), (7, 2)].map(|(epoch, port)| StagedSentinel::start(epoch, port));
        staged[2].slow_down(Duration::from_millis(10));
        found.push(sentinels_of(&staged).primary().await.unwrap());
    }
    // A busy machine may keep it back for longer than it is waited for.
    assert!(found.contains(&node(2)), "the late answer was never heard");
}

#[tokio::test]
async fn an_old_announcement_of_a_sentinel_that_is_behind_changes_nothing() {
    let staged = [7, 7, 7].map(|epoch| StagedSentinel::start(epoch, 2));
    let sentinels = sentinels_of(&staged);
    assert_eq!(sentinels.primary().await.unwrap(), node(2));
    sentinels.reported(node(3), 5);
    assert!(sentinels.is_current(&node(2)));
    sentinels.announced(node(2));
    assert!(sentinels.is_current(&node(2)));
    sentinels.announced(node(3));
    assert!(!sentinels.is_current(&node(2)), "without an epoch it is the newest word");
}

#[tokio::test]
async fn what_was_not_announced_is_asked_for_until_a_majority_says_it() {
    let staged = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, 1));
    let sentinels = sentinels_of(&staged);
    assert_eq!(sentinels.primary().await.unwrap(), node(1));
    let before = staged[0].questions();
    staged[2].learn(7, 2);
    assert_eq!(timeout(DEADLINE, sentinels.replaced(&node(1))).await.unwrap(), node(2));
    // By one of three: not settled, and asked again soon.
    let here = node(2);
    let replaced_again = sentinels.replaced(&here);
    let learned = async {
        while staged[0].questions() < before + 3 {
            sleep(Duration::from_millis(10)).await;
        }
        staged[0].learn(8, 3);
    };
    let (primary, ()) = timeout(DEADLINE, async { tokio::join!(replaced_again, learned) }).await.unwrap();
    assert_eq!(primary, node(3));
}

#[tokio::test]
async fn who_waits_is_told_at_once_when_anybody_learns_of_it() {
    let staged = [6, 6, 6].map(|epoch| StagedSentinel::start(epoch, 1));
    let sentinels = sentinels_of(&staged);
    assert_eq!(sentinels.primary().await.unwrap(), node(1));
    let (other, here) = (sentinels.clone(), node(1));
    let (primary, ()) = tokio::join!(sentinels.replaced(&here), async { other.reported(node(2), 7) });
    assert_eq!(primary, node(2));
}
