//! Checks of the shipped HAProxy file: it is valid without a warning, and it does what its comments say in front of
//! three real gateways. The lane `haproxy` and `cargo xtask chaos` run these checks.

mod client;
mod event_stream;
mod guarantees;
mod outages;
mod rebalance;
mod trial;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::haproxy::{GATEWAYS, server_cookie};
use test_support::web_socket::upgrade_request;

use crate::cluster::Fleet;
use crate::failure::Failure;
use crate::socket::Socket;
use crate::step::Step;
use crate::{http, package, workspace};
use trial::Trial;

const CONFIG: &str = "haproxy/haproxy.cfg";
/// HAProxy closes the connections of a frozen gateway after 1.7 to 2.2 s. A busy machine gets one second more.
const FROZEN_CUT_WITHIN: Duration = Duration::from_millis(3_200);
/// Time limit for what HAProxy learns from several rounds of health checks, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(15);

/// Settings of the gateways that the checks need beside the defaults.
const SETTINGS: [(&str, &str); 3] = [rebalance::SETTINGS[0], rebalance::SETTINGS[1], guarantees::FAMILIES];

/// One check, with its name.
struct Proof {
    name: &'static str,
    run: fn(&mut Trial) -> Result<(), Failure>,
}

/// Checks that run before anything is broken.
const FIRST: &[Proof] = &[
    Proof { name: "sockets_spread_and_stick", run: |trial| trial.spreads_and_sticks() },
    Proof { name: "one_publish_reaches_every_instance", run: |trial| trial.delivers_to_every_instance() },
    Proof { name: "only_websockets_are_upgraded", run: |trial| trial.upgrades_to_websockets_alone() },
    Proof { name: "a_message_too_large_is_told", run: |trial| trial.tells_who_sends_too_much() },
    Proof { name: "the_log_holds_no_token", run: |trial| trial.keeps_the_token_out_of_the_log() },
    Proof { name: "a_silent_event_stream_stays_open", run: Trial::keeps_a_silent_event_stream },
    Proof { name: "an_event_stream_outlives_its_instances", run: Trial::moves_an_event_stream },
];

/// Checks that run after the guarantees, because they break the cluster permanently.
const LAST: &[Proof] = &[
    Proof { name: "a_frozen_instance_is_cut", run: |trial| trial.cuts_a_frozen_instance() },
    guarantees::FENCED,
    Proof { name: "a_draining_instance_gets_no_clients", run: |trial| trial.moves_clients_off_a_draining_instance() },
    Proof { name: "a_dead_instance_is_passed", run: |trial| trial.sends_a_sticky_client_past_a_dead_instance() },
    Proof {
        name: "an_event_stream_waits_for_an_instance",
        run: Trial::brings_an_event_stream_back_when_no_instance_was_there,
    },
    Proof { name: "clients_stay_without_redis", run: |trial| trial.keeps_clients_when_redis_is_gone() },
    Proof { name: "a_refusal_is_retried_elsewhere", run: |trial| trial.retries_a_refusal_elsewhere() },
];

pub(crate) fn run() -> Result<(), Failure> {
    package::ensure(&[package::HAPROXY, package::REDIS])?;
    // `-dW` makes a warning an error.
    Step::new("haproxy").args(["-c", "-dW", "-f", CONFIG]).run()?;
    Step::new("haproxy").args(["-c", "-dW", "-f", CONFIG]).env("LB_RESOLVER", "127.0.0.11:53").run()?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls"]).run()?;
    let binary = workspace::target().join("debug/tidegate");
    let mut trial = Trial::start(&binary)?;
    for proof in FIRST.iter().chain(guarantees::proofs()).chain(LAST) {
        trial.prove(proof)?;
    }
    guarantees::elsewhere().for_each(|(row, why)| println!("not tried here: {row}: {why}"));
    Ok(())
}

/// Checks one of the guarantees with this gateway binary. Runs with planted bugs use it; the check must fail then.
pub(crate) fn try_guarantee(binary: &Path, name: &str) -> Result<(), Failure> {
    let proof = guarantees::proofs().find(|proof| proof.name == name);
    let proof = proof.ok_or_else(|| Failure::new(format!("no guarantee is tried by {name}")))?;
    Trial::start(binary)?.prove(proof)
}

/// A token from the gateway's own page route, requested through HAProxy.
fn token(fleet: &Fleet, user: &str) -> Result<String, Failure> {
    let path = format!("/dev/token?user={user}");
    let answer = http::post(fleet.entrance, &path).map_err(Failure::during("asking for a token"))?;
    match answer.status {
        200 => Ok(answer.body.trim().to_owned()),
        status => Err(Failure::new(format!("/dev/token was answered {status}: {}", answer.body))),
    }
}

impl Trial {
    fn spreads_and_sticks(&self) -> Result<(), Failure> {
        let mut sockets = (0..2 * GATEWAYS).map(|_| self.open("")).collect::<Result<Vec<_>, _>>()?;
        for number in 1..=GATEWAYS {
            let name = server_cookie(number);
            let held = sockets.iter().filter(|socket| socket.cookie("tidegate_server") == Some(&name)).count();
            expect(held == 2, || format!("leastconn gave {name} {held} of {} sockets, not 2", sockets.len()))?;
        }
        for first in &mut sockets {
            let reached = instance(first)?;
            let server =
                first.cookie("tidegate_server").ok_or_else(|| Failure::new("HAProxy set no tidegate_server"))?;
            let session =
                first.cookie("tidegate_session").ok_or_else(|| Failure::new("the gateway set no tidegate_session"))?;
            for cookie in [format!("tidegate_server={server}"), format!("tidegate_session={session}")] {
                // HAProxy's cookie cannot show the instance: HAProxy sets none for a client that `tidegate_session` routed.
                let again = instance(&mut self.open(&format!("Cookie: {cookie}\r\n"))?)?;
                expect(again == reached, || format!("{cookie} led to {again}, not to {reached}"))?;
            }
        }
        passed("sockets spread over the instances, and both cookies lead back")
    }

    fn delivers_to_every_instance(&self) -> Result<(), Failure> {
        let mut sockets = self.one_on_each()?;
        for socket in &mut sockets {
            let subscribe = json!({"type": "subscribe", "channel": "system:news"});
            socket.send(&subscribe).map_err(Failure::during("subscribing"))?;
            socket.receive("subscribed").map_err(Failure::during("subscribing"))?;
        }
        self.tidegate(&["publish", "--type", "note", "system:news", r#"{"text":"to all"}"#]).run()?;
        for (index, socket) in sockets.iter_mut().enumerate() {
            let note = socket.receive("note").map_err(Failure::during(format_args!("gateway{}", index + 1)))?;
            expect(note["payload"]["text"] == "to all", || format!("gateway{} delivered {note}", index + 1))?;
        }
        passed("one publish reached a socket on every instance")
    }

    /// A request may offer several protocols. Only websocket reaches a gateway, and an offer of others is no mistake.
    fn upgrades_to_websockets_alone(&self) -> Result<(), Failure> {
        let asked = |request: &str| status_of(&self.fleet, request).map_err(Failure::during("asking with an Upgrade"));
        for headers in [
            "",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            "Upgrade: websocket\r\n",
        ] {
            let status = asked(&format!("GET /livez HTTP/1.1\r\nHost: x\r\n{headers}\r\n"))?;
            expect(status == 200, || format!("a page with {headers:?} was answered {status}, not 200"))?;
        }
        let upgrade = upgrade_request("x", &self.authorization);
        for (from, to, expected) in [
            ("", "", 101),
            ("Upgrade: websocket", "Upgrade: websocket, h2c", 101),
            ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: WebSocket", 101),
            ("Connection: Upgrade", "Connection: keep-alive, Upgrade", 101),
            ("Host: x", "Host: x\r\nContent-Length: 0", 101),
            ("Host: x", "Host: x\r\nCookie: name=Jos\u{e9}; theme=\"dark\"", 101),
            ("Upgrade: websocket", "Upgrade: h2c", 426),
            ("Connection: Upgrade", "Connection: upgraded", 426),
        ] {
            let status = asked(&upgrade.replacen(from, to, 1))?;
            expect(status == expected, || format!("an upgrade with {to:?} was answered {status}, not {expected}"))?;
        }
        passed("an upgrade to websocket passes with other offers beside it, and no other upgrade does")
    }

    /// The message is larger than all buffers. A client that is disconnected in the middle of it would not learn the
    /// reason.
    fn tells_who_sends_too_much(&self) -> Result<(), Failure> {
        let mut socket = self.open("")?;
        let text = "x".repeat(8 << 20);
        socket.send(&json!(text)).map_err(Failure::during("sending a message that is too large"))?;
        let code = socket.receive_close(SEEN_WITHIN).map_err(Failure::during("waiting for 1009"))?;
        expect(code == 1009, || format!("a message that is too large is closed with {code}"))?;
        socket.answer_close(code).map_err(Failure::during("answering 1009"))?;
        passed("a client in the middle of a message that is too large is told so")
    }

    fn keeps_the_token_out_of_the_log(&self) -> Result<(), Failure> {
        let (address, token) = (self.fleet.entrance, &self.token);
        let path = format!("/livez?token={token}");
        http::get(address, &path).map_err(Failure::during("asking with a token in the query"))?;
        let log = self.fleet.dir.join("haproxy.log");
        let mut text = String::new();
        eventually("HAProxy logs the request", || {
            text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("/livez")
        })?;
        expect(!text.contains(token.as_str()), || "haproxy.log holds a token".into())?;
        passed("no token stands in HAProxy's log")
    }

    fn cuts_a_frozen_instance(&self) -> Result<(), Failure> {
        let mut sockets = self.one_on_each()?;
        self.signal("-STOP", 3)?;
        let took = sockets[2].wait_for_end().map_err(Failure::during("a socket on the frozen gateway3"));
        let elsewhere = self.open("Cookie: tidegate_server=g3\r\n");
        self.signal("-CONT", 3)?;
        let (took, elsewhere) = (took?, elsewhere?);
        expect(took < FROZEN_CUT_WITHIN, || format!("gateway3's socket was cut after {took:?}"))?;
        expect(elsewhere.cookie("tidegate_server").is_some(), || {
            "a sticky client was sent to the frozen gateway3".into()
        })?;
        self.seen(3, "is UP again after SIGCONT", |server| server.status == "UP")?;
        passed(&format!("a frozen instance's socket was cut after {:.1} s", took.as_secs_f64()))
    }

    fn moves_clients_off_a_draining_instance(&self) -> Result<(), Failure> {
        let _held = self.one_on_each()?;
        self.signal("-TERM", 3)?;
        let sticky =
            || self.open("Cookie: tidegate_server=g3\r\n").map(|socket| socket.cookie("tidegate_server").is_none());
        // The gateway accepts clients until it has read the signal, and HAProxy does not repeat a cookie that was
        // right.
        let deadline = Instant::now() + SEEN_WITHIN;
        while sticky()? {
            expect(Instant::now() < deadline, || "gateway3 goes on taking clients after SIGTERM".into())?;
        }
        // From now on HAProxy retries a 503 on another gateway, whatever its health checks know. The client sees
        // neither.
        for _ in 0..20 {
            expect(!sticky()?, || "a client was sent to the draining gateway3".into())?;
        }
        self.seen(3, "is down after its drain", |server| server.status == "DOWN")?;
        expect(!sticky()?, || "a client was sent to gateway3, which is gone".into())?;
        passed("during a drain every new client was served by another instance")
    }

    fn sends_a_sticky_client_past_a_dead_instance(&self) -> Result<(), Failure> {
        self.signal("-KILL", 2)?;
        let started = Instant::now();
        let again = self.open("Cookie: tidegate_server=g2\r\n")?;
        let took = started.elapsed();
        expect(again.cookie("tidegate_server") == Some("g1"), || "after gateway2's death nobody else answered".into())?;
        // Without `redispatch 1` this takes 2 s. Without `redispatch` the client gets a 503.
        expect(took < Duration::from_secs(1), || format!("the redispatch took {took:?}"))?;
        passed(&format!("a killed instance's client was elsewhere after {} ms", took.as_millis()))
    }

    fn keeps_clients_when_redis_is_gone(&self) -> Result<(), Failure> {
        let mut socket = self.open("")?;
        self.signal_member("-KILL", "redis")?;
        socket.receive("degraded").map_err(Failure::during("waiting for `degraded` on gateway1"))?;
        self.seen(1, "is UP with weight 1 without Redis", |server| server.weight == 1 && server.status == "UP")?;
        self.open("")?;
        passed("without Redis the last instance keeps its sockets, takes new ones, and weighs 1 %")
    }

    /// Tests the time between SIGTERM and the next health check. A stand-in on the address of gateway3 makes it last.
    fn retries_a_refusal_elsewhere(&self) -> Result<(), Failure> {
        let listener = TcpListener::bind(self.fleet.gateways[2].clients).map_err(Failure::during("standing in"))?;
        // The thread ends with the process. The lane uses this address for nothing else.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer_as_draining(stream))));
        self.seen(3, "is UP by the stand-in's health", |server| server.status == "UP")?;
        let again = self.open("Cookie: tidegate_server=g3\r\n")?;
        expect(again.cookie("tidegate_server").is_some(), || "the stand-in's 503 reached a client".into())?;
        passed("a 503 is retried on another instance, and the client does not see it")
    }
}

/// The name of the instance, from its `welcome`.
fn instance(socket: &mut Socket) -> Result<String, Failure> {
    let welcome = socket.receive("welcome").map_err(Failure::during("a welcome"))?;
    Ok(welcome["payload"]["instance"].as_str().unwrap_or_default().to_owned())
}

/// Answers 200 to the health check and 503 to everything else.
fn answer_as_draining(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let bytes = stream.read(&mut request)?;
    let status = if request[..bytes].starts_with(b"GET /ws/health ") { "200 OK" } else { "503 Service Unavailable" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes())
}

/// The status of the answer to these bytes.
fn status_of(fleet: &Fleet, request: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(fleet.entrance)?;
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 64];
    let bytes = stream.read(&mut head)?;
    http::status(&String::from_utf8_lossy(&head[..bytes]))
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + SEEN_WITHIN;
    while !is_so() {
        expect(Instant::now() < deadline, || format!("waited {SEEN_WITHIN:?} until {what}"))?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(otherwise())) }
}

fn passed(what: &str) -> Result<(), Failure> {
    println!("ok: {what}");
    Ok(())
}
