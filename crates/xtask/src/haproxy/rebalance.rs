//! A full instance beside empty ones: it moves clients to other instances, and their cookies do not bring them back.

use std::thread;
use std::time::{Duration, Instant};

use test_support::haproxy::server_cookie;

use super::client::Client;
use super::{Trial, expect, passed, token};
use crate::failure::Failure;
use crate::socket::Socket;

/// Settings of the gateways: a few young clients are enough to start rebalancing.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("TIDEGATE_REBALANCE_SURPLUS_MIN", "10"), ("TIDEGATE_REBALANCE_SPARE_MS", "1000")];
/// For three instances: the mean is 10, and gateway1 keeps at most 15 once it has begun.
const CLIENTS: usize = 30;
const KEPT: usize = 15;
/// Five heartbeats until rebalancing begins, and three after each of two rounds, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// The channel that each client subscribes to.
const CHANNEL: &str = "collection:rebalanced:ops";

/// A browser: it keeps its cookies and its session id.
struct Browser {
    token: String,
    server: String,
    /// The gateway's cookie, which is not the session id.
    cookie: String,
    client: Client,
}

impl Browser {
    /// Opens a browser whose first socket is on gateway1.
    fn open(trial: &Trial, number: usize) -> Result<Self, Failure> {
        let token = token(&trial.fleet, &format!("browser{number}"))?;
        let server = server_cookie(1);
        let socket = Socket::open(trial.fleet.entrance, &format!("Cookie: tidegate_server={server}\r\n"))
            .map_err(Failure::during("a browser's first socket"))?;
        let cookie = socket.cookie("tidegate_session").ok_or_else(|| Failure::new("no tidegate_session"))?.to_owned();
        expect(socket.cookie("tidegate_server").is_none(), || "a first socket is not on gateway1".into())?;
        let mut client = Client::hello(socket, &token, None)?;
        client.subscribe(CHANNEL, None)?;
        Ok(Self { token, server, cookie, client })
    }

    /// Reconnects at once, with both cookies or with the gateway's cookie alone. Returns the instance that serves it.
    fn come_back(&mut self, trial: &Trial, with_server: bool) -> Result<String, Failure> {
        let server = if with_server { format!("tidegate_server={}; ", self.server) } else { String::new() };
        let cookies = format!("Cookie: {server}tidegate_session={}\r\n", self.cookie);
        let socket = Socket::open(trial.fleet.entrance, &cookies).map_err(Failure::during("coming back"))?;
        // HAProxy sets its cookie only if the cookie of the client was wrong.
        if let Some(server) = socket.cookie("tidegate_server") {
            self.server = server.to_owned();
        }
        self.client = Client::hello(socket, &self.token, Some(&self.client.session))?;
        Ok(self.client.instance.clone())
    }
}

impl Trial {
    pub(super) fn sends_clients_of_a_full_instance_to_empty_ones(&self) -> Result<(), Failure> {
        let browsers = (0..CLIENTS).map(|number| Browser::open(self, number)).collect::<Result<Vec<_>, _>>()?;
        // Each client has read a message and has answered no ping since.
        let mut publisher = self.client(2, "publisher", None)?;
        publisher.publish(CHANNEL, 0..1)?;
        let deadline = Instant::now() + WITHIN;
        let moved: Vec<(Browser, String)> = thread::scope(|scope| {
            let wait = |mut browser: Browser| {
                browser.client.numbers(0..1)?;
                let left = deadline.saturating_duration_since(Instant::now());
                let Ok(code) = browser.client.socket.receive_close(left) else { return Ok(None) };
                expect(code == 1012, || format!("a client is closed with {code}, not moved"))?;
                browser.client.socket.answer_close(code).map_err(Failure::during("answering a close"))?;
                let reached = browser.come_back(self, true)?;
                let restored = browser.client.restored()?;
                expect(restored["repeats"] == false, || format!("a client that is moved is told {restored}"))?;
                Ok(Some((browser, reached)))
            };
            let waiting: Vec<_> = browsers.into_iter().map(|browser| scope.spawn(move || wait(browser))).collect();
            let ended = waiting.into_iter().map(|thread| thread.join().expect("it does not panic"));
            ended.filter_map(Result::transpose).collect::<Result<_, Failure>>()
        })?;
        // One client more or less is accepted, because a socket of an earlier check may still be counted.
        expect(moved.len().abs_diff(CLIENTS - KEPT) <= 1, || {
            format!("{} of {CLIENTS} were sent elsewhere", moved.len())
        })?;
        let back = moved.iter().filter(|(_, reached)| reached == "gateway1").count();
        expect(back == 0, || format!("the cookies of {back} clients brought them back to gateway1"))?;
        for (mut browser, reached) in moved {
            for (with_server, cookies) in [(true, "both cookies"), (false, "tidegate_session alone")] {
                let again = browser.come_back(self, with_server)?;
                expect(again == reached, || format!("{cookies} led to {again}, not to {reached}"))?;
            }
        }
        passed("half of the clients of a full instance went to empty ones, cookies, sessions and all, and stayed there")
    }
}
