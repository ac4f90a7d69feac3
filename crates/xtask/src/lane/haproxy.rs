//! Lane `haproxy`: the shipped file is valid without a warning, and in front of three real gateways it does what its
//! comments say.

mod outages;
mod rebalance;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use haproxy_fixture::{GATEWAYS, Server, server_cookie};
use serde_json::json;

use crate::cluster::Fleet;
use crate::failure::Failure;
use crate::socket::Socket;
use crate::step::Step;
use crate::{http, package, workspace};

const CONFIG: &str = "haproxy/haproxy.cfg";
/// HAProxy cuts a frozen gateway after 1.7 to 2.2 s; one more for a busy machine.
const FROZEN_CUT_WITHIN: Duration = Duration::from_millis(3_200);
/// For what HAProxy learns by its checks, several rounds of them, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(15);

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::HAPROXY, package::REDIS])?;
    // -dW: a warning is a mistake too.
    Step::new("haproxy").args(["-c", "-dW", "-f", CONFIG]).run()?;
    Step::new("haproxy").args(["-c", "-dW", "-f", CONFIG]).env("LB_RESOLVER", "127.0.0.11:53").run()?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls"]).run()?;
    let binary = workspace::target().join("debug/tidegate");
    let fleet = Fleet::start(
        &binary,
        &workspace::target().join("haproxy-lane"),
        &rebalance::SETTINGS,
        &AtomicBool::new(false),
    )?;
    let token = token(&fleet, "alice")?;
    let trial = Trial { fleet, authorization: format!("Authorization: Bearer {token}\r\n") };
    trial.spreads_and_sticks()?;
    trial.sends_clients_of_a_full_instance_to_empty_ones()?;
    trial.delivers_to_every_instance(&binary)?;
    trial.refuses_other_upgrades()?;
    trial.keeps_the_token_out_of_the_log(&token)?;
    trial.keeps_every_socket_when_the_whole_fleet_is_isolated()?;
    trial.cuts_a_frozen_instance()?;
    trial.fences_an_instance_that_slept_past_its_lease()?;
    trial.moves_clients_off_a_draining_instance()?;
    trial.sends_a_sticky_client_past_a_dead_instance()?;
    trial.keeps_clients_when_redis_is_gone()?;
    trial.retries_a_refusal_elsewhere()
}

/// From the page's own door, through HAProxy.
fn token(fleet: &Fleet, user: &str) -> Result<String, Failure> {
    let path = format!("/dev/token?user={user}");
    let answer = http::get(fleet.entrance, &path).map_err(Failure::during("asking for a token"))?;
    match answer.status {
        200 => Ok(answer.body.trim().to_owned()),
        status => Err(Failure::new(format!("/dev/token was answered {status}: {}", answer.body))),
    }
}

/// A cluster on which one thing after another is tried; the later ones break it for good.
struct Trial {
    fleet: Fleet,
    authorization: String,
}

impl Trial {
    fn spreads_and_sticks(&self) -> Result<(), Failure> {
        let mut sockets = (0..2 * GATEWAYS).map(|_| self.open("")).collect::<Result<Vec<_>, _>>()?;
        for number in 1..=GATEWAYS {
            let name = server_cookie(number);
            let held = sockets.iter().filter(|socket| socket.cookie("SERVERID") == Some(&name)).count();
            expect(held == 2, || format!("leastconn gave {name} {held} of {} sockets, not 2", sockets.len()))?;
        }
        for first in &mut sockets {
            let reached = instance(first)?;
            let server = first.cookie("SERVERID").ok_or_else(|| Failure::new("HAProxy set no SERVERID"))?;
            let session = first.cookie("session_id").ok_or_else(|| Failure::new("the gateway set no session_id"))?;
            for cookie in [format!("SERVERID={server}"), format!("session_id={session}")] {
                // HAProxy's cookie would not tell: who was led by `session_id` is not given one.
                let again = instance(&mut self.open(&format!("Cookie: {cookie}\r\n"))?)?;
                expect(again == reached, || format!("{cookie} led to {again}, not to {reached}"))?;
            }
        }
        told("sockets spread over the instances, and both cookies lead back")
    }

    fn delivers_to_every_instance(&self, binary: &Path) -> Result<(), Failure> {
        let mut sockets = self.one_on_each()?;
        for socket in &mut sockets {
            let subscribe = json!({"type": "subscribe", "channel": "system:news"});
            socket.send(&subscribe).map_err(Failure::during("subscribing"))?;
            socket.receive("subscribed").map_err(Failure::during("subscribing"))?;
        }
        let redis = format!("redis://{}", self.fleet.redis);
        Step::new(binary)
            .args(["publish", "--redis-url", &redis, "--type", "note", "system:news", r#"{"text":"to all"}"#])
            .run()?;
        for (index, socket) in sockets.iter_mut().enumerate() {
            let note = socket.receive("note").map_err(Failure::during(format_args!("gateway{}", index + 1)))?;
            expect(note["payload"]["text"] == "to all", || format!("gateway{} delivered {note}", index + 1))?;
        }
        told("one publish reached a socket on every instance")
    }

    fn refuses_other_upgrades(&self) -> Result<(), Failure> {
        let asked = |headers| status_with(&self.fleet, headers).map_err(Failure::during("asking for /livez"));
        expect(asked("")? == 200, || "/livez is not answered 200".into())?;
        for headers in ["Connection: upgrade\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n"] {
            let status = asked(headers)?;
            expect(status == 400, || format!("{headers:?} was answered {status}, not 400"))?;
        }
        told("an upgrade to anything but a WebSocket is answered 400")
    }

    fn keeps_the_token_out_of_the_log(&self, token: &str) -> Result<(), Failure> {
        let address = self.fleet.entrance;
        let path = format!("/livez?token={token}");
        http::get(address, &path).map_err(Failure::during("asking with a token in the query"))?;
        let log = self.fleet.dir.join("haproxy.log");
        let mut text = String::new();
        eventually("HAProxy logs the request", || {
            text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("/livez")
        })?;
        expect(!text.contains(token), || "haproxy.log holds a token".into())?;
        told("no token stands in HAProxy's log")
    }

    fn cuts_a_frozen_instance(&self) -> Result<(), Failure> {
        let mut sockets = self.one_on_each()?;
        self.signal("-STOP", 3)?;
        let took = sockets[2].wait_for_end().map_err(Failure::during("a socket on the frozen gateway3"));
        let elsewhere = self.open("Cookie: SERVERID=g3\r\n");
        self.signal("-CONT", 3)?;
        let (took, elsewhere) = (took?, elsewhere?);
        expect(took < FROZEN_CUT_WITHIN, || format!("gateway3's socket was cut after {took:?}"))?;
        expect(elsewhere.cookie("SERVERID").is_some(), || "a sticky client was sent to the frozen gateway3".into())?;
        self.seen(3, "is UP again after SIGCONT", |server| server.status == "UP")?;
        told(&format!("a frozen instance's socket was cut after {:.1} s", took.as_secs_f64()))
    }

    fn moves_clients_off_a_draining_instance(&self) -> Result<(), Failure> {
        let _held = self.one_on_each()?;
        self.signal("-TERM", 3)?;
        let sticky = || self.open("Cookie: SERVERID=g3\r\n").map(|socket| socket.cookie("SERVERID").is_none());
        // Until the gateway has read the signal it takes clients, and a cookie that was right is not repeated.
        let deadline = Instant::now() + SEEN_WITHIN;
        while sticky()? {
            expect(Instant::now() < deadline, || "gateway3 goes on taking clients after SIGTERM".into())?;
        }
        // From then on 503 is retried elsewhere, whatever HAProxy knows: the client sees neither.
        for _ in 0..20 {
            expect(!sticky()?, || "a client was sent to the draining gateway3".into())?;
        }
        self.seen(3, "is down after its drain", |server| server.status == "DOWN")?;
        expect(!sticky()?, || "a client was sent to gateway3, which is gone".into())?;
        told("during a drain every new client was served by another instance")
    }

    fn sends_a_sticky_client_past_a_dead_instance(&self) -> Result<(), Failure> {
        self.signal("-KILL", 2)?;
        let started = Instant::now();
        let again = self.open("Cookie: SERVERID=g2\r\n")?;
        let took = started.elapsed();
        expect(again.cookie("SERVERID") == Some("g1"), || "after gateway2's death nobody else answered".into())?;
        // Without `redispatch 1` this takes 2 s, without `redispatch` it is a 503.
        expect(took < Duration::from_secs(1), || format!("the redispatch took {took:?}"))?;
        told(&format!("a killed instance's client was elsewhere after {} ms", took.as_millis()))
    }

    fn keeps_clients_when_redis_is_gone(&self) -> Result<(), Failure> {
        let mut socket = self.open("")?;
        self.signal_member("-KILL", "redis")?;
        socket.receive("degraded").map_err(Failure::during("waiting for `degraded` on gateway1"))?;
        self.seen(1, "is UP with weight 1 without Redis", |server| server.weight == 1 && server.status == "UP")?;
        self.open("")?;
        told("without Redis the last instance keeps its sockets, takes new ones, and weighs 1 %")
    }

    /// The moment between SIGTERM and the next health check, held still by a stand-in on gateway3's address.
    fn retries_a_refusal_elsewhere(&self) -> Result<(), Failure> {
        let listener = TcpListener::bind(self.fleet.gateways[2].clients).map_err(Failure::during("standing in"))?;
        // Ends with the process: a lane has no other use for the address.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer_as_draining(stream))));
        self.seen(3, "is UP by the stand-in's health", |server| server.status == "UP")?;
        let again = self.open("Cookie: SERVERID=g3\r\n")?;
        expect(again.cookie("SERVERID").is_some(), || "the stand-in's 503 reached a client".into())?;
        told("a 503 is retried on another instance, and the client does not see it")
    }

    fn open(&self, headers: &str) -> Result<Socket, Failure> {
        let headers = format!("{}{headers}", self.authorization);
        Socket::open(self.fleet.entrance, &headers).map_err(Failure::during("a WebSocket through HAProxy"))
    }

    /// A socket on each gateway, in their order.
    fn one_on_each(&self) -> Result<Vec<Socket>, Failure> {
        (1..=GATEWAYS).map(|number| self.open(&format!("Cookie: SERVERID={}\r\n", server_cookie(number)))).collect()
    }

    fn signal(&self, signal: &str, number: usize) -> Result<(), Failure> {
        self.signal_member(signal, &format!("gateway{number}"))
    }

    fn signal_member(&self, signal: &str, name: &str) -> Result<(), Failure> {
        let member = self.fleet.members.iter().find(|member| member.name == name);
        let pid = member.ok_or_else(|| Failure::new(format!("no member {name}")))?.pid();
        Step::new("kill").args([signal, &pid.to_string()]).run()
    }

    fn seen(&self, number: usize, what: &str, is_so: impl Fn(&Server) -> bool) -> Result<(), Failure> {
        eventually(&format!("gateway{number} {what}"), || {
            self.fleet.server(number).is_some_and(|server| is_so(&server))
        })
    }
}

/// Who answers, in its own words.
fn instance(socket: &mut Socket) -> Result<String, Failure> {
    let welcome = socket.receive("welcome").map_err(Failure::during("a welcome"))?;
    Ok(welcome["payload"]["instance"].as_str().unwrap_or_default().to_owned())
}

/// 200 to the health check, 503 to everything else.
fn answer_as_draining(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let bytes = stream.read(&mut request)?;
    let status = if request[..bytes].starts_with(b"GET /ws/health ") { "200 OK" } else { "503 Service Unavailable" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes())
}

/// The status of a page request with these header lines; a gateway would answer 200.
fn status_with(fleet: &Fleet, headers: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(fleet.entrance)?;
    stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())?;
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

fn told(what: &str) -> Result<(), Failure> {
    println!("ok: {what}");
    Ok(())
}
