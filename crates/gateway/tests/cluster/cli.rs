//! Commands of operators, as processes of their own.

use test_support::RedisServer;
use test_support::process::tidegate;

/// `tidegate who`, `kick` and `send`, of tenant `acme`: the lines they print, and their exit code.
pub(crate) fn ask(command: &str, redis: &RedisServer, args: &[&str]) -> (Vec<String>, i32) {
    let mut asked = tidegate(env!("CARGO_BIN_EXE_tidegate"));
    let asked = asked
        .env("TIDEGATE_REDIS_URL", redis.url())
        .env("TIDEGATE_REDIS_REPLY_DEADLINE_MS", "30000")
        .args([command, "--tenant", "acme"])
        .args(args);
    let output = asked.output().expect("it was built");
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.code().unwrap())
}

/// Waits until the directory lists so many connections of a user.
pub(crate) async fn listed(redis: &RedisServer, user: &str, count: usize) -> Vec<String> {
    listed_as(redis, user, |lines| lines.len() == count).await
}

/// Waits until the directory lists a user's connections so.
pub(crate) async fn listed_as(redis: &RedisServer, user: &str, so: impl Fn(&[String]) -> bool) -> Vec<String> {
    let until = tokio::time::Instant::now() + crate::client::DEADLINE;
    loop {
        let (lines, _) = ask("who", redis, &[user]);
        if so(&lines) {
            return lines;
        }
        assert!(tokio::time::Instant::now() < until, "it is {lines:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
