//! What clients behind HAProxy see when Redis hangs, and when an instance is stopped for longer than its lease.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::haproxy::{GATEWAYS, server_cookie};

use super::{Trial, eventually, expect, passed};
use crate::failure::Failure;
use crate::http;
use crate::socket::Socket;

/// Longer than a default lease (6 s).
const SLEEP: Duration = Duration::from_millis(7_000);
const CHANNEL: &str = "collection:42:ops";

impl Trial {
    /// Redis hangs for all instances at once, until the last of them has lost its lease.
    pub(super) fn keeps_every_socket_when_the_whole_fleet_is_isolated(&self) -> Result<(), Failure> {
        let mut sockets = self.one_on_each()?;
        sockets.push(self.open(&format!("Cookie: tidegate_server={}\r\n", server_cookie(1)))?);
        for socket in &mut sockets {
            ask(socket, json!({"type": "subscribe", "channel": CHANNEL}), "subscribed")?;
        }
        self.signal_member("-STOP", "redis")?;
        for socket in &mut sockets {
            receive_frame(socket, "degraded")?;
        }
        for number in 1..=GATEWAYS {
            self.seen(number, "is UP with weight 1 without Redis", |s| s.weight == 1 && s.status == "UP")?;
        }
        thread::sleep(SLEEP);
        for number in 1..=GATEWAYS {
            self.seen(number, "is UP with weight 1 past its lease", |s| s.weight == 1 && s.status == "UP")?;
            let lease = self.metric(number, "tidegate_lease_held");
            expect(lease == Some(0), || format!("gateway{number} says of its lease {lease:?}, and Redis hangs"))?;
        }
        let publish = json!({"type": "publish", "channel": CHANNEL, "event": "note", "payload": 1});
        let ack = ask(&mut sockets[0], publish, "ack")?;
        expect(ack["payload"]["level"] == "local", || format!("published without Redis, and told {ack}"))?;
        receive_frame(&mut sockets[GATEWAYS], "note")?;
        self.signal_member("-CONT", "redis")?;
        for index in [0, GATEWAYS] {
            let gap = receive_frame(&mut sockets[index], "gap")?;
            expect(gap["payload"]["reason"] == "isolated", || format!("Redis is back, and gateway1 told {gap}"))?;
        }
        for socket in &mut sockets[1..GATEWAYS] {
            let frame = receive_frame(socket, "degraded")?;
            expect(frame["payload"]["degraded"] == false, || format!("Redis is back, and a client was told {frame}"))?;
        }
        for number in 1..=GATEWAYS {
            self.seen(number, "has its whole weight again", |s| s.weight == 100 && s.status == "UP")?;
        }
        for number in 1..=GATEWAYS {
            let fences = self.metric(number, "tidegate_fences_total");
            expect(fences == Some(0), || format!("gateway{number} was awake, and was fenced: {fences:?}"))?;
        }
        // The sockets are the ones from before the outage.
        let publish = json!({"type": "publish", "channel": CHANNEL, "event": "after", "payload": 2});
        let ack = ask(&mut sockets[1], publish, "ack")?;
        expect(ack["payload"]["level"] == "durable", || format!("Redis is back, and a publish was told {ack}"))?;
        for socket in &mut sockets {
            receive_frame(socket, "after")?;
        }
        passed("with Redis hanging no socket was cut, members of one instance heard each other, and were told of it")
    }

    /// The current value of one metric of a gateway, summed over its shards.
    pub(super) fn metric(&self, number: usize, name: &str) -> Option<u64> {
        let text = http::get(self.fleet.gateways[number - 1].admin, "/metrics").ok()?.body;
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit_once(' ')?.1.parse::<u64>().ok()
        };
        text.lines().filter_map(value).reduce(|all, one| all + one)
    }

    /// Connects directly to the gateway. HAProxy would have closed the socket in the meantime.
    pub(super) fn fences_an_instance_that_slept_past_its_lease(&self) -> Result<(), Failure> {
        let gateway = self.fleet.gateways[2];
        let mut direct =
            Socket::open(gateway.clients, &self.authorization).map_err(Failure::during("a socket past HAProxy"))?;
        receive_frame(&mut direct, "welcome")?;
        self.signal("-STOP", 3)?;
        thread::sleep(SLEEP);
        self.signal("-CONT", 3)?;
        receive_frame(&mut direct, "reconnect")?;
        direct.wait_for_end().map_err(Failure::during("waiting for the close"))?;
        let admin = |path| http::get(gateway.admin, path).map_or(String::new(), |answer| answer.body);
        eventually("gateway3 is connected again", || admin("/livez").contains("\"connected\""))?;
        let fenced = admin("/metrics").lines().any(|line| line == "tidegate_fences_total 1");
        expect(fenced, || "gateway3 slept past its lease and was not fenced".into())?;
        self.seen(3, "has its whole weight again", |server| server.weight == 100 && server.status == "UP")?;
        let again = self.open("Cookie: tidegate_server=g3\r\n")?;
        expect(again.cookie("tidegate_server").is_none(), || "gateway3 begins anew and takes no clients".into())?;
        passed("an instance that slept past its lease moved its clients and began anew")
    }
}

fn ask(socket: &mut Socket, frame: Value, kind: &str) -> Result<Value, Failure> {
    socket.send(&frame).map_err(Failure::during("sending"))?;
    receive_frame(socket, kind)
}

fn receive_frame(socket: &mut Socket, kind: &str) -> Result<Value, Failure> {
    socket.receive(kind).map_err(Failure::during(format_args!("waiting for `{kind}`")))
}
