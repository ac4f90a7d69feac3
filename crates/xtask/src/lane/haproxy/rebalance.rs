//! A full instance beside empty ones: its clients are sent on, and their cookies do not bring them back.

use std::thread;
use std::time::{Duration, Instant};

use haproxy_fixture::server_cookie;

use super::{Trial, expect, instance, token, told};
use crate::failure::Failure;
use crate::socket::Socket;

/// For the gateways: few clients are enough, and they need not be old.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("TIDEGATE_REBALANCE_SURPLUS_MIN", "10"), ("TIDEGATE_REBALANCE_SPARE_MS", "1000")];
/// Three instances: 10 is the mean, and 15 the most that gateway1 keeps once it has begun.
const CLIENTS: usize = 30;
const KEPT: usize = 15;
/// Five beats until it begins, and three after each of two rounds, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// A browser: it keeps its cookies.
struct Browser {
    authorization: String,
    server: String,
    session: String,
    socket: Socket,
}

impl Browser {
    /// Its first socket is on gateway1.
    fn open(trial: &Trial, number: usize) -> Result<Self, Failure> {
        let token = token(&trial.fleet, &format!("browser{number}"))?;
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let server = server_cookie(1);
        let socket = Socket::open(trial.fleet.entrance, &format!("{authorization}Cookie: SERVERID={server}\r\n"))
            .map_err(Failure::during("a browser's first socket"))?;
        let session = socket.cookie("session_id").ok_or_else(|| Failure::new("no session_id"))?.to_owned();
        expect(socket.cookie("SERVERID").is_none(), || "a first socket is not on gateway1".into())?;
        Ok(Self { authorization, server, session, socket })
    }

    /// Comes back at once, with both cookies or the gateway's alone, and says to which instance.
    fn come_back(&mut self, trial: &Trial, with_server: bool) -> Result<String, Failure> {
        let server = if with_server { format!("SERVERID={}; ", self.server) } else { String::new() };
        let cookies = format!("Cookie: {server}session_id={}\r\n", self.session);
        let headers = format!("{}{cookies}", self.authorization);
        self.socket = Socket::open(trial.fleet.entrance, &headers).map_err(Failure::during("coming back"))?;
        // HAProxy sets its cookie only when the client's was wrong.
        if let Some(server) = self.socket.cookie("SERVERID") {
            self.server = server.to_owned();
        }
        instance(&mut self.socket)
    }
}

impl Trial {
    pub(super) fn sends_clients_of_a_full_instance_to_empty_ones(&self) -> Result<(), Failure> {
        let browsers = (0..CLIENTS).map(|number| Browser::open(self, number)).collect::<Result<Vec<_>, _>>()?;
        let deadline = Instant::now() + WITHIN;
        let moved: Vec<(Browser, String)> = thread::scope(|scope| {
            let wait = |mut browser: Browser| {
                // A socket waits for ten seconds at a time.
                while Instant::now() < deadline {
                    if browser.socket.receive("reconnect").is_ok() {
                        let reached = browser.come_back(self, true)?;
                        return Ok(Some((browser, reached)));
                    }
                }
                Ok(None)
            };
            let waiting: Vec<_> = browsers.into_iter().map(|browser| scope.spawn(move || wait(browser))).collect();
            let ended = waiting.into_iter().map(|thread| thread.join().expect("it does not panic"));
            ended.filter_map(Result::transpose).collect::<Result<_, Failure>>()
        })?;
        // One more or less, if a socket of an earlier trial was still counted.
        expect(moved.len().abs_diff(CLIENTS - KEPT) <= 1, || {
            format!("{} of {CLIENTS} were sent elsewhere", moved.len())
        })?;
        let back = moved.iter().filter(|(_, reached)| reached == "gateway1").count();
        expect(back == 0, || format!("the cookies of {back} clients brought them back to gateway1"))?;
        for (mut browser, reached) in moved {
            for (with_server, cookies) in [(true, "both cookies"), (false, "session_id alone")] {
                let again = browser.come_back(self, with_server)?;
                expect(again == reached, || format!("{cookies} led to {again}, not to {reached}"))?;
            }
        }
        told("half of the clients of a full instance went to empty ones, cookies and all, and stayed there")
    }
}
