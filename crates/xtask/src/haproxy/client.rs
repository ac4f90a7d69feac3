//! A client behind HAProxy that sends its session id, subscribes, publishes, and reads numbers in order.

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use test_support::haproxy::server_cookie;

use super::{Trial, expect, token};
use crate::failure::Failure;
use crate::socket::Socket;

/// Time limit for a close whose cause has happened already.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) session: String,
    /// The name of its instance, from `welcome`.
    pub(super) instance: String,
}

impl Trial {
    /// A client of the gateway with this number, chosen by cookie. If that gateway takes no clients, another gateway
    /// serves it. The client asks for a session record and continues `session` if one is given.
    pub(super) fn client(&self, number: usize, user: &str, session: Option<&str>) -> Result<Client, Failure> {
        let cookie = format!("Cookie: tidegate_server={}\r\n", server_cookie(number));
        let token = token(&self.fleet, user)?;
        Client::hello(Socket::open(self.fleet.entrance, &cookie).map_err(Failure::during("a socket"))?, &token, session)
    }
}

impl Client {
    pub(super) fn hello(socket: Socket, token: &str, session: Option<&str>) -> Result<Self, Failure> {
        let mut client = Self { socket, session: String::new(), instance: String::new() };
        let mut payload = json!({ "token": token, "restore": true });
        if let Some(session) = session {
            payload["session_id"] = session.into();
        }
        client.say(&json!({ "type": "hello", "payload": payload }))?;
        let welcome = &client.receive_frame("welcome")?["payload"];
        let text = |name: &str| welcome[name].as_str().unwrap_or_default().to_owned();
        (client.session, client.instance) = (text("session_id"), text("instance"));
        Ok(client)
    }

    pub(super) fn say(&mut self, frame: &Value) -> Result<(), Failure> {
        self.socket.send(frame).map_err(Failure::during("sending"))
    }

    /// Returns the next frame of this type.
    pub(super) fn receive_frame(&mut self, kind: &str) -> Result<Value, Failure> {
        self.socket.receive(kind).map_err(Failure::during(format_args!("waiting for `{kind}`")))
    }

    /// Subscribes, after `position` if one is given. Returns the reply, once the instance has reached Redis.
    pub(super) fn subscribe(&mut self, channel: &str, position: Option<&str>) -> Result<Value, Failure> {
        let mut frame = json!({ "type": "subscribe", "channel": channel });
        if let Some(position) = position {
            frame["position"] = position.into();
        }
        self.say(&frame)?;
        loop {
            let answer = self.receive_frame("subscribed")?;
            if answer["payload"]["degraded"] == false {
                return Ok(answer);
            }
        }
    }

    /// Publishes these numbers. Each of them must be stored.
    pub(super) fn publish(&mut self, channel: &str, numbers: Range<u64>) -> Result<(), Failure> {
        for n in numbers {
            let ack = self.publish_one(channel, &n.into())?;
            expect(ack["payload"]["level"] == "durable", || format!("{n} was answered {ack}"))?;
        }
        Ok(())
    }

    /// Publishes one message and returns the reply.
    pub(super) fn publish_one(&mut self, channel: &str, payload: &Value) -> Result<Value, Failure> {
        self.say(&json!({ "type": "publish", "channel": channel, "event": "n", "payload": payload }))?;
        loop {
            let frame = self.next()?;
            if frame["type"] == "ack" || frame["type"] == "error" {
                return Ok(frame);
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Value, Failure> {
        self.socket.next().map_err(Failure::during("reading on"))
    }

    /// Reads these numbers in order. No other message or gap may come before the last one. Returns the last position.
    pub(super) fn numbers(&mut self, numbers: Range<u64>) -> Result<String, Failure> {
        let mut position = String::new();
        for n in numbers {
            let frame = loop {
                let frame = self.next()?;
                if frame["type"] == "n" || frame["type"] == "gap" {
                    break frame;
                }
            };
            expect(frame["payload"] == n, || format!("not {n} but {frame}"))?;
            position = frame["position"].as_str().unwrap_or_default().to_owned();
        }
        Ok(position)
    }

    /// Returns what the gateway reports about the session record.
    pub(super) fn restored(&mut self) -> Result<Value, Failure> {
        Ok(self.receive_frame("restored")?["payload"].take())
    }

    /// Reads up to a close with this code. Returns the socket, which has not answered the close.
    pub(super) fn closed(mut self, code: u16) -> Result<Socket, Failure> {
        let closed = self.socket.receive_close(CLOSED_WITHIN).map_err(Failure::during("waiting for a close"))?;
        expect(closed == code, || format!("closed with {closed}, not {code}"))?;
        Ok(self.socket)
    }

    /// Reads up to a close with this code and answers it.
    pub(super) fn answers_close(self, code: u16) -> Result<(), Failure> {
        self.closed(code)?.answer_close(code).map_err(Failure::during("answering a close"))
    }
}
