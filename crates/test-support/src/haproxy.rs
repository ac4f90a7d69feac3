//! HAProxy with the shipped `haproxy/haproxy.cfg` in front of a test's gateways: the file's variables, its cookie, and
//! HAProxy's statistics of each server.
//!
//! The caller starts and ends the process.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Number of gateways that have a line in the shipped file.
pub const GATEWAYS: usize = 3;
/// HAProxy answers within milliseconds. A busy machine takes longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The two addresses on which HAProxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listeners {
    /// The address to which clients connect.
    pub clients: SocketAddr,
    /// The address that serves statistics over HTTP.
    pub statistics: SocketAddr,
}

/// The listening addresses of one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// The address for clients and health checks.
    pub address: SocketAddr,
    /// The port for agent checks, at the same host.
    pub agent_port: u16,
}

/// One gateway in HAProxy's statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `UP`, `DOWN`, `NOLB` while it drains, or a state between them, for example `UP 1/3`.
    pub status: String,
    pub weight: u32,
    /// Number of connections that HAProxy has sent to the gateway so far.
    pub connections: u64,
    /// Number of times that HAProxy marked the gateway as down.
    pub times_down: u64,
}

/// The path of the shipped file.
pub fn config() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate lies in crates/test-support").join("haproxy/haproxy.cfg")
}

/// The command that runs HAProxy with the shipped file in the foreground. The socket of its runtime API is in
/// `directory`.
pub fn command(program: &Path, directory: &Path, listeners: Listeners, gateways: &[Backend; GATEWAYS]) -> Command {
    let mut command = Command::new(program);
    command.arg("-f").arg(config()).arg("-C").arg(directory);
    command
        .env("LB_BIND", listeners.clients.to_string())
        .env("LB_STATS", listeners.statistics.to_string())
        // The path is relative to `directory`, because the path of a Unix socket has at most 107 bytes.
        .env("LB_SOCKET", "unix@haproxy.sock")
        // A test has all its clients at one address.
        .env("LB_ADDRESS_CONNECTIONS", "100000")
        .env("LB_ADDRESS_CONNECTS_10S", "1000000")
        .env_remove("LB_RESOLVER");
    for (number, gateway) in (1..).zip(gateways) {
        command
            .env(format!("GATEWAY{number}_ADDR"), gateway.address.to_string())
            .env(format!("GATEWAY{number}_AGENT_PORT"), gateway.agent_port.to_string());
    }
    command
}

/// The value of HAProxy's cookie `tidegate_server` for gateway `number`, counted from 1.
pub fn server_cookie(number: usize) -> String {
    format!("g{number}")
}

/// The statistics of every gateway, in the order of their numbers.
pub fn servers(statistics: SocketAddr) -> io::Result<[Server; GATEWAYS]> {
    let table = get(statistics, "/;csv")?;
    let all: Option<Vec<Server>> = (1..=GATEWAYS).map(|number| parse(&table, number)).collect();
    let all = all.and_then(|all| all.try_into().ok());
    all.ok_or_else(|| io::Error::other(format!("HAProxy's statistics do not name every gateway: {table}")))
}

/// Returns the whole response with its head and chunk sizes. A table of this size is one chunk.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Parses the row of gateway `number`, below the line that names the columns.
fn parse(answer: &str, number: usize) -> Option<Server> {
    let mut lines = answer.lines();
    let columns: Vec<&str> = lines.find_map(|line| line.strip_prefix("# "))?.split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let [name, status, weight, connections, times_down] = ["svname", "status", "weight", "stot", "chkdown"].map(column);
    let (wanted, name) = (format!("gateway{number}"), name?);
    let row = lines.map(|line| line.split(',').collect::<Vec<_>>()).find(|row| row.get(name) == Some(&&*wanted))?;
    let count = |column: Option<usize>| row.get(column?)?.parse::<u64>().ok();
    Some(Server {
        status: (*row.get(status?)?).to_owned(),
        weight: row.get(weight?)?.parse().ok()?,
        connections: count(connections)?,
        times_down: count(times_down)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format of HAProxy 2.6, without the columns in between.
    const TABLE: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nBC9\r\n\
                         # pxname,svname,scur,stot,status,weight,chkfail,chkdown,\n\
                         clients,FRONTEND,7,90,OPEN,,,,\n\
                         gateways,gateway1,3,40,UP,100,0,0,\n\
                         gateways,gateway2,0,12,DOWN,1,4,2,\n\
                         gateways,BACKEND,3,52,UP,100,,0,\n";

    #[test]
    fn a_server_is_found_by_its_name_and_read_by_the_columns_names() {
        let server = |status: &str, weight, connections, times_down| Server {
            status: status.into(),
            weight,
            connections,
            times_down,
        };
        assert_eq!(parse(TABLE, 1), Some(server("UP", 100, 40, 0)));
        assert_eq!(parse(TABLE, 2), Some(server("DOWN", 1, 12, 2)));
        assert_eq!(parse(TABLE, 3), None);
        assert_eq!(parse("# pxname,svname\n", 1), None);
    }

    #[test]
    fn every_variable_that_is_set_stands_in_the_file() {
        let text = std::fs::read_to_string(config()).expect("the shipped file is there");
        let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let gateways = [Backend { address: anywhere, agent_port: 2 }; GATEWAYS];
        let listeners = Listeners { clients: anywhere, statistics: anywhere };
        let command = command(Path::new("haproxy"), Path::new("/tmp"), listeners, &gateways);
        for (name, _) in command.get_envs() {
            let name = name.to_string_lossy();
            assert!(text.contains(&*name), "haproxy.cfg does not know {name}");
        }
        assert_eq!(text.matches("    server gateway").count(), GATEWAYS);
        for number in 1..=GATEWAYS {
            let line = text.lines().find(|line| line.trim().starts_with(&format!("server gateway{number} ")));
            let cookie = format!("cookie {}", server_cookie(number));
            assert!(line.is_some_and(|line| line.ends_with(&cookie)), "{line:?}");
        }
    }
}
