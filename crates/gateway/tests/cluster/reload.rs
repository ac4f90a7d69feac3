//! SIGHUP: what is replaced while the gateway runs, what is not, and that nobody is disconnected by it.

use std::path::PathBuf;

use serde_json::json;
use test_support::token;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::client::{Client, DEADLINE};
use crate::process::Process;

/// A configuration file beside a file with its key.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// `first` is a line before the sections.
    fn write(&self, first: &str, issuer: &str, origin: &str, filter: &str) {
        let text = format!(
            "{first}\nbroker = 'memory'\n[auth]\nkeys = {}\nissuer = '{issuer}'\n[http]\nallowed_origins = ['{origin}']\n\
             [log]\nfilter = '{filter}'\n",
            token::keys()
        );
        std::fs::write(self.config(), text).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn until(what: &str, process: &Process, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}: {}", process.log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sends SIGHUP and waits for the line that answers it.
async fn reload(process: &Process, answer: &str) {
    let count = |process: &Process| process.log().matches(answer).count();
    let before = count(process);
    process.child.signal("-HUP").unwrap();
    until(answer, process, || count(process) > before).await;
}

/// Whether a page of this origin gets past the check of origins. Without a token it is asked for one.
async fn is_allowed(process: &Process, origin: &str) -> bool {
    let mut stream = TcpStream::connect(process.listen).await.unwrap();
    let head = format!("GET /sse?channel=system HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 403"), "{answer}");
    !answer.contains("wrong_origin")
}

#[tokio::test]
async fn a_signal_replaces_keys_origins_and_the_log_filter() {
    let files = Files::new();
    files.write("", "a", "https://old.example", "info");
    let process = Process::start_on(&files.config());
    until("it is connected", &process, || process.is("connected")).await;
    let claims = json!({
        "sub": "alice", "tenant": "acme", "exp": token::expiry(3_600), "iss": "a", "publish": ["collection:*"],
    });
    let token = token::sign(&claims);
    let mut client = Client::connect(process.listen, "/ws", Some(&token)).await;
    client.expect("welcome").await;
    assert_eq!(
        (is_allowed(&process, "https://old.example").await, is_allowed(&process, "https://new.example").await),
        (true, false)
    );
    assert!(!process.log().contains("DEBUG"));

    // Other families need a restart, and nothing is replaced.
    files.write("families = [{ name = 'room' }]", "b", "https://new.example", "debug");
    reload(&process, "configuration not reloaded").await;
    assert_eq!(
        (is_allowed(&process, "https://old.example").await, is_allowed(&process, "https://new.example").await),
        (true, false)
    );
    let mut again = Client::connect(process.listen, "/ws", Some(&token)).await;
    again.expect("welcome").await;
    assert!(!process.log().contains("DEBUG"), "{}", process.log());

    files.write("", "b", "https://new.example", "debug");
    reload(&process, "configuration reloaded").await;
    assert_eq!(
        (is_allowed(&process, "https://old.example").await, is_allowed(&process, "https://new.example").await),
        (false, true)
    );
    assert!(process.log().contains("DEBUG"), "{}", process.log());
    let mut refused = Client::connect(process.listen, "/ws", Some(&token)).await;
    assert_eq!(refused.expect("error").await["payload"]["code"], "unauthenticated", "its issuer is another");
    let mut accepted = claims.clone();
    accepted["iss"] = "b".into();
    Client::connect(process.listen, "/ws", Some(&token::sign(&accepted))).await.expect("welcome").await;

    // A file that is wrong changes nothing, and each problem is logged without the value.
    files.write("nobody = 'marked'", "b", "https://third.example", "debug");
    reload(&process, "configuration not reloaded").await;
    assert_eq!(
        (is_allowed(&process, "https://third.example").await, is_allowed(&process, "https://new.example").await),
        (false, true)
    );
    assert!(!process.log().contains("marked"), "{}", process.log());

    // What needs a restart is named, and the rest is replaced.
    files.write("shards = 1", "b", "https://fourth.example", "debug");
    reload(&process, "configuration reloaded").await;
    assert!(process.log().contains("names=\"shards\""), "{}", process.log());
    assert!(is_allowed(&process, "https://fourth.example").await);

    // Nobody has been disconnected by any of it.
    assert_eq!(client.publish("collection:7", 1).await["type"], "ack");
}
