//! The real binary from outside: what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use test_support::{Process, RedisServer, ReservedPort, process};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A loaded machine starts and stops a gateway in a second.
const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with these arguments.
fn tidegate(args: &[&str]) -> Command {
    let mut command = process::tidegate(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    tidegate(args).output().expect("the binary was built for this test")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn keys() -> String {
    format!("auth.keys=[{{ kid = 'a', algorithm = 'HS256', secret = '{SECRET}' }}]")
}

#[test]
fn help_and_version_are_no_mistakes_and_everything_else_unknown_is() {
    for args in [
        &["--help"][..],
        &["publish", "--help"],
        &["token", "--help"],
        &["health", "--help"],
        &["drain", "--help"],
        &["who", "--help"],
        &["kick", "--help"],
        &["dlq", "replay", "--help"],
        &["receipts", "--help"],
        &["--version"],
    ] {
        assert_eq!(code(&run(args)), 0, "{args:?}");
    }
    assert_eq!(stdout(&run(&["--version"])), concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n"));
    for args in [&["--lissten", "1"][..], &["serv"], &["publish"], &["token"], &["--set", "shards"]] {
        assert_eq!(code(&run(args)), 64, "{args:?}");
    }
}

#[test]
fn a_wrong_configuration_is_told_whole_and_ends_with_64() {
    for args in [&[][..], &["serve"], &["--check-config"], &["--print-config"]] {
        let mut command = tidegate(args);
        command.env("TIDEGATE_SHARDS", "many").env("TIDEGATE_REDIS_URL", "redis://127.0.0.1");
        let output = command.output().unwrap();
        assert_eq!(code(&output), 64, "{args:?}");
        assert_eq!(stdout(&output), "");
        let shown_problem = stderr(&output);
        assert!(shown_problem.starts_with("tidegate: 2 problems in the configuration\n"), "{shown_problem}");
        assert!(
            shown_problem.contains("shards = \"many\" (from TIDEGATE_SHARDS)\n    expected a whole number"),
            "{shown_problem}"
        );
        assert!(shown_problem.contains("auth.keys is not set"), "{shown_problem}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_the_one_problem() {
    for (file, shown_problem) in
        [("/nowhere/gateway.toml", "a file that can be read"), ("src/main.rs", "expected TOML: ")]
    {
        let output = run(&["--config", file]);
        assert_eq!(code(&output), 64, "{file}");
        assert!(stderr(&output).starts_with("tidegate: 1 problem in the configuration\n"), "{}", stderr(&output));
        assert!(stderr(&output).contains(shown_problem), "{}", stderr(&output));
    }
}

#[test]
fn who_stops_to_read_is_no_failure_and_a_full_disk_is() {
    let keys = keys();
    let print = ["--set", &keys, "--redis-url", "redis://127.0.0.1:1", "--print-config"];
    for args in [&print[..], &["token", "--set", &keys, "--user", "alice"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tidegate(args).stdout(writer).output().unwrap();
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{args:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tidegate(&print).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("tidegate: standard output: "), "{}", stderr(&output));
}

#[test]
fn a_long_payload_is_called_long_wherever_it_is_cut() {
    let limit = ["--set", "limits.message_bytes_max=1024", "--redis-url", "redis://127.0.0.1:1"];
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all("é".repeat(600).as_bytes()).unwrap();
    drop(writer);
    let output = tidegate(&[&["publish", "user:alice", "-"], &limit[..]].concat()).stdin(reader).output().unwrap();
    assert_eq!(code(&output), 65);
    assert!(stderr(&output).contains("the payload has more than 1024 bytes"), "{}", stderr(&output));
}

#[test]
fn check_says_ok_and_print_prints_what_check_takes() {
    let set = ["--set", &keys(), "--redis-url", "redis://:secret@127.0.0.1:1"];
    let checked = run(&[&set[..], &["--check-config"]].concat());
    assert_eq!((code(&checked), stdout(&checked)), (0, "the configuration is ok\n"));
    let printed = run(&[&set[..], &["--print-config"]].concat());
    assert_eq!(code(&printed), 0);
    assert!(!stdout(&printed).contains("secret@") && !stdout(&printed).contains(SECRET), "{}", stdout(&printed));

    let file = std::env::temp_dir().join(format!("tidegate-cli-{}.toml", std::process::id()));
    let restored = stdout(&printed).replace("[redacted]@", ":secret@").replace("[redacted]", SECRET);
    std::fs::write(&file, restored).unwrap();
    let again = run(&["--config", file.to_str().unwrap(), "--print-config"]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!((code(&again), stdout(&again)), (0, stdout(&printed)));
}

#[test]
fn a_token_is_signed_with_the_configured_key() {
    let keys = keys();
    let set = ["token", "--set", &keys, "--user", "alice", "--tenant", "acme"];
    let output = run(&[&set[..], &["--subscribe", "collection:*", "--expires-in", "2h"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let token = stdout(&output).trim_end();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.kid.as_deref(), Some("a"));
    let key = jsonwebtoken::DecodingKey::from_secret(SECRET.as_bytes());
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    let claims = jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["tenant"]), (&"alice".into(), &"acme".into()));
    assert_eq!(claims["subscribe"], serde_json::json!(["collection:*"]));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 7_200);
    assert!(claims.get("publish").is_none(), "the gateway's defaults hold");

    let wrong_grant = run(&[&set[..], &["--publish", "collection:{x}"]].concat());
    assert_eq!(code(&wrong_grant), 65);
    assert!(stderr(&wrong_grant).contains("would refuse the token"), "{}", stderr(&wrong_grant));
    assert_eq!(code(&run(&[&set[..], &["--kid", "b"]].concat())), 64);
    let no_key = run(&["token", "--user", "alice"]);
    assert_eq!(code(&no_key), 64);
    assert!(stderr(&no_key).contains("no HS256 key is configured"), "{}", stderr(&no_key));
}

#[test]
fn a_token_is_checked_as_a_gateway_would() {
    let keys = keys();
    let signed =
        run(&["token", "--set", &keys, "--user", "alice", "--subscribe", "collection:42:*", "--subscribe", "room:7"]);
    let token = stdout(&signed).trim_end().to_owned();
    let check = |token: &str, more: &[&str]| {
        let mut child = tidegate(&[&["token", "check", "--set", &keys][..], more].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    // With a line end, as a file has it.
    let accepted = check(&format!("{token}\n"), &["--subscribe", "collection:42:ops", "--publish", "user:alice"]);
    assert_eq!(code(&accepted), 0, "{}", stderr(&accepted));
    let lines: Vec<&str> = stdout(&accepted).lines().filter(|line| !line.starts_with("expires_in_s ")).collect();
    let expected = [
        "tenant default",
        "user alice",
        "subscribe user:alice",
        "subscribe user:alice:*",
        "subscribe collection:42:*",
        "subscribe room:7 (of a family that this gateway does not know)",
        "publish user:alice",
        "publish user:alice:*",
        "may subscribe collection:42:ops: yes",
        "may publish user:alice: yes",
    ];
    assert_eq!(lines, expected);
    assert!(stderr(&accepted).contains("\"room:7\" is of a family that this configuration does not know"));

    let not_granted = check(&token, &["--subscribe", "collection:42"]);
    assert_eq!(code(&not_granted), 1);
    assert!(stdout(&not_granted).ends_with("; collection:42:* does not include collection:42 itself\n"));
    let refused = check(&format!("{token}x"), &[]);
    assert_eq!(code(&refused), 65);
    assert!(stderr(&refused).contains("signature does not verify") && !stderr(&refused).contains(&token));
    assert_eq!(code(&run(&["token", "check", "--set", &keys, &token])), 0, "a token may be an argument");
    assert_eq!(code(&run(&["token", "--set", &keys])), 64, "signing needs a user");
}

/// Asks a gateway to end, as an orchestrator does, and waits for that.
fn terminate(gateway: &mut Process) -> std::process::ExitStatus {
    gateway.signal("-TERM").unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = gateway.status().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn dev_mode_prints_one_address_is_healthy_and_ends_when_told() {
    let port = ReservedPort::take().unwrap();
    let admin = port.address().to_string();
    let args = ["--dev", "--listen", "127.0.0.1:0", "--admin-listen", &admin];
    let mut gateway =
        Process::start("a gateway", tidegate(&args).stdout(Stdio::piped()).stderr(Stdio::null())).unwrap();
    let mut out = BufReader::new(gateway.child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.starts_with("http://127.0.0.1:") && first.ends_with("/\n"), "{first:?}");

    let live = format!("http://{admin}/livez");
    let deadline = Instant::now() + DEADLINE;
    loop {
        // A moment later it has its broker and its lease.
        let health = run(&["health", &live]);
        match (code(&health), stdout(&health)) {
            (0, "connected\n") => break,
            (0, "starting\n" | "lease_lost\n") => {}
            (1, "") if stderr(&health).contains("has never reached Redis") => {}
            other => panic!("{other:?}: {}", stderr(&health)),
        }
        assert!(Instant::now() < deadline, "it never has its lease");
    }
    assert_eq!(code(&run(&["health", "--set", &format!("admin_listen={admin}")])), 0);
    assert_eq!(code(&run(&["health", &format!("http://{admin}/nothing-here")])), 1);

    assert!(terminate(&mut gateway).success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one address is all that is printed");
    let gone = run(&["health", &live]);
    assert_eq!(code(&gone), 1);
    assert!(stderr(&gone).contains("does not answer"), "{}", stderr(&gone));
    assert_eq!(code(&run(&["health", "gateway:9090"])), 64);
}

/// As in a container: both have its variables, and flags only the gateway.
#[test]
fn health_finds_the_gateway_beside_it() {
    let ports = [ReservedPort::take().unwrap(), ReservedPort::take().unwrap()];
    let [admin, other] = ports.each_ref().map(|port| port.address().to_string());
    let alike = |args: &[&str]| {
        let mut command = tidegate(args);
        // The gateways of other tests have no such prefix.
        command.env("TIDEGATE_REDIS_PREFIX", format!("beside{}", std::process::id()));
        command.env("TIDEGATE_ADMIN_LISTEN", &other);
        command
    };
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--admin-listen", &admin];
    let mut gateway = Process::start("a gateway", alike(&args).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let health = alike(&["health"]).output().unwrap();
        if (code(&health), stdout(&health)) == (0, "connected\n") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", stderr(&health));
    }
    let told = alike(&["health", "--set", &format!("admin_listen={other}")]).output().unwrap();
    assert_eq!(code(&told), 1, "a flag of the command knows best");
    assert!(stderr(&told).contains(&other), "{}", stderr(&told));
    assert!(terminate(&mut gateway).success());
    let gone = alike(&["health"]).output().unwrap();
    assert!(code(&gone) == 1 && stderr(&gone).contains(&other), "{}", stderr(&gone));
}

/// A wrong password, nobody there, an unknown host, a database that does not exist.
#[test]
fn a_gateway_that_has_never_reached_redis_is_not_ready_and_says_why() {
    let redis = RedisServer::start(&[]);
    redis.command::<()>(&["CONFIG", "SET", "requirepass", "right-password"]);
    let port = redis.port();
    let nobody = ReservedPort::take().unwrap();
    let urls = [
        (format!("redis://:mistyped-57@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://127.0.0.1:{port}"), "NOAUTH"),
        (format!("redis://{}", nobody.address()), "Connection refused"),
        ("redis://no-such-host.invalid".to_owned(), "no-such-host.invalid"),
        (format!("redis://:right-password@127.0.0.1:{port}/99"), "DB index is out of range"),
    ];
    let keys = keys();
    let started = urls.map(|(url, reason)| {
        let ports = [ReservedPort::take().unwrap(), ReservedPort::take().unwrap()];
        let [admin, agent] = ports.each_ref().map(|port| port.address().to_string());
        let agent_listen = format!("agent_listen={agent}");
        let args = ["--listen", "127.0.0.1:0", "--admin-listen", &admin, "--set", &keys, "--set", &agent_listen];
        let mut command = tidegate(&args);
        command.env("TIDEGATE_REDIS_URL", &url).stdout(Stdio::null()).stderr(Stdio::piped());
        (Process::start("a gateway", &mut command).unwrap(), ports, admin, agent, reason)
    });
    for (mut gateway, _ports, admin, agent, reason) in started {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ready = run(&["health", &format!("http://{admin}/readyz")]);
            let health = run(&["health", &format!("http://{admin}")]);
            assert_eq!((code(&ready), code(&health)), (1, 1), "{reason}: {}", stdout(&health));
            if stderr(&ready).contains(reason) && stderr(&health).contains(reason) {
                break;
            }
            assert!(Instant::now() < deadline, "{reason}: {} {}", stderr(&ready), stderr(&health));
        }
        let mut line = String::new();
        std::net::TcpStream::connect(&agent).unwrap().read_to_string(&mut line).unwrap();
        assert_eq!(line, "up 0%\n");
        assert!(terminate(&mut gateway).success());
        let mut log = String::new();
        gateway.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
        assert_eq!(warnings.len(), 1, "one event is one line: {log}");
        assert!(warnings[0].contains(reason) && !log.contains("-57@") && !log.contains("right-password"), "{log}");
    }
}

#[test]
fn an_operator_has_it_go_away() {
    let port = ReservedPort::take().unwrap();
    let admin = port.address().to_string();
    let args = ["--dev", "--listen", "127.0.0.1:0", "--admin-listen", &admin];
    let mut gateway =
        Process::start("a gateway", tidegate(&args).stdout(Stdio::piped()).stderr(Stdio::null())).unwrap();
    let mut first = String::new();
    BufReader::new(gateway.child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let drained = run(&["drain", "--set", &format!("admin_listen={admin}")]);
    assert_eq!((code(&drained), stdout(&drained)), (0, ""), "{}", stderr(&drained));
    assert!(gateway.child.wait().unwrap().success(), "it ended by itself");
    assert_eq!(code(&run(&["drain", &format!("http://{admin}/drain")])), 1);
}

#[test]
fn an_address_in_use_is_a_failure_and_not_a_wrong_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--dev", "--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
}
