//! The cluster on which all checks run, and the operations that they share.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use test_support::haproxy::{GATEWAYS, Server, server_cookie};

use super::guarantees::FAMILIES;
use super::{Proof, SEEN_WITHIN, SETTINGS, eventually, token};
use crate::cluster::Fleet;
use crate::failure::Failure;
use crate::socket::Socket;
use crate::step::Step;
use crate::workspace;

/// A cluster on which the checks run one after another. The later checks break it permanently.
pub(super) struct Trial {
    pub(super) fleet: Fleet,
    pub(super) binary: PathBuf,
    /// The token of the user `alice`.
    pub(super) token: String,
    pub(super) authorization: String,
    /// The names of the checks that have passed.
    proven: BTreeSet<&'static str>,
}

impl Trial {
    pub(super) fn start(binary: &Path) -> Result<Self, Failure> {
        let dir = workspace::target().join("haproxy-lane");
        let fleet = Fleet::start(binary, &dir, &SETTINGS, &AtomicBool::new(false))?;
        let token = token(&fleet, "alice")?;
        let authorization = format!("Authorization: Bearer {token}\r\n");
        Ok(Self { fleet, binary: binary.to_owned(), token, authorization, proven: BTreeSet::new() })
    }

    /// Runs a check. A check that several rows need runs only once.
    pub(super) fn prove(&mut self, proof: &Proof) -> Result<(), Failure> {
        if self.proven.insert(proof.name) {
            println!("trying {}", proof.name);
            (proof.run)(self).map_err(|failure| Failure::new(format!("{}: {failure}", proof.name)))?;
        }
        Ok(())
    }

    pub(super) fn open(&self, headers: &str) -> Result<Socket, Failure> {
        let headers = format!("{}{headers}", self.authorization);
        Socket::open(self.fleet.entrance, &headers).map_err(Failure::during("a WebSocket through HAProxy"))
    }

    /// A command of the product, configured for this fleet.
    pub(super) fn tidegate(&self, args: &[&str]) -> Step {
        let (families, rows) = FAMILIES;
        let step = Step::new(&self.binary).args(args).env(families, rows);
        step.env("TIDEGATE_REDIS_URL", format!("redis://{}", self.fleet.redis))
    }

    /// Waits until the directory lists a connection of this user, which happens a moment after `welcome`.
    pub(super) fn is_listed(&self, user: &str) -> Result<(), Failure> {
        eventually("the directory lists a client", || self.tidegate(&["who", user]).succeeds())
    }

    /// Runs one command whose arguments need no quoting. Returns the first line of the reply.
    pub(super) fn redis(&self, command: &str) -> Result<String, Failure> {
        let ask = || {
            let mut stream = TcpStream::connect(self.fleet.redis)?;
            stream.set_read_timeout(Some(SEEN_WITHIN))?;
            stream.write_all(format!("{command}\r\n").as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line)
        };
        let answer = ask().map_err(Failure::during(format_args!("{command} of Redis")))?;
        if answer.starts_with('-') { Err(Failure::new(format!("{command}: {answer}"))) } else { Ok(answer) }
    }

    /// One socket on each gateway, in the order of the gateways.
    pub(super) fn one_on_each(&self) -> Result<Vec<Socket>, Failure> {
        (1..=GATEWAYS)
            .map(|number| self.open(&format!("Cookie: tidegate_server={}\r\n", server_cookie(number))))
            .collect()
    }

    pub(super) fn signal(&self, signal: &str, number: usize) -> Result<(), Failure> {
        self.signal_member(signal, &format!("gateway{number}"))
    }

    pub(super) fn signal_member(&self, signal: &str, name: &str) -> Result<(), Failure> {
        let member = self.fleet.members.iter().find(|member| member.name == name);
        let pid = member.ok_or_else(|| Failure::new(format!("no member {name}")))?.pid();
        Step::new("kill").args([signal, &pid.to_string()]).run()
    }

    pub(super) fn seen(&self, number: usize, what: &str, is_so: impl Fn(&Server) -> bool) -> Result<(), Failure> {
        eventually(&format!("gateway{number} {what}"), || {
            self.fleet.server(number).is_some_and(|server| is_so(&server))
        })
    }
}
