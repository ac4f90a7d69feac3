//! A Sentinel without a process. The test sets its answers and the time at which they are sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::SENTINEL_MASTER;

/// A staged Sentinel. Dropping it ends its connections, and it accepts no further ones.
#[derive(Debug)]
pub struct StagedSentinel {
    port: u16,
    stage: Arc<Mutex<Stage>>,
}

#[derive(Debug)]
struct Stage {
    report: Report,
    /// The delay before each answer.
    delay: Duration,
    is_gone: bool,
    /// Clones of all sockets, which end them.
    sockets: Vec<TcpStream>,
    /// Sockets that subscribe to failovers.
    listeners: Vec<TcpStream>,
    /// Number of queries for the primary.
    questions: usize,
}

#[derive(Debug, Clone, Copy)]
enum Report {
    /// The configuration epoch, and the port of the primary on loopback.
    Primary { epoch: Option<u64>, port: u16 },
    /// The Sentinel reads queries and never answers.
    Silent,
}

// === impl StagedSentinel ===

impl StagedSentinel {
    /// Starts a Sentinel that names the server on this port of loopback as the primary.
    pub fn start(epoch: u64, primary: u16) -> Self {
        Self::begin(Report::Primary { epoch: Some(epoch), port: primary })
    }

    /// Starts a Sentinel that accepts connections and never answers.
    pub fn silent() -> Self {
        Self::begin(Report::Silent)
    }

    /// The URL of a primary that these Sentinels watch.
    pub fn url(sentinels: &[Self]) -> String {
        let nodes: Vec<_> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SENTINEL_MASTER}", nodes.join(","))
    }

    fn begin(report: Report) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let stage = Arc::new(Mutex::new(Stage {
            report,
            delay: Duration::ZERO,
            is_gone: false,
            sockets: Vec::new(),
            listeners: Vec::new(),
            questions: 0,
        }));
        let shared = Arc::clone(&stage);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, shared) = (socket.expect("loopback takes connections"), Arc::clone(&shared));
                let mut stage = locked(&shared);
                if stage.is_gone {
                    return;
                }
                stage.sockets.push(socket.try_clone().expect("a socket can be shared"));
                drop(stage);
                thread::spawn(move || serve(socket, &shared));
            }
        });
        Self { port, stage }
    }

    /// From now on the Sentinel names this primary to clients that query it. It announces nothing.
    pub fn learn(&self, epoch: u64, primary: u16) {
        locked(&self.stage).report = Report::Primary { epoch: Some(epoch), port: primary };
    }

    /// From now on the Sentinel names this primary, without an epoch in the answer.
    pub fn learn_without_epoch(&self, primary: u16) {
        locked(&self.stage).report = Report::Primary { epoch: None, port: primary };
    }

    /// Announces to the listeners that another server is the primary. The answers do not change.
    pub fn announce(&self, old: u16, new: u16) {
        let text = format!("{SENTINEL_MASTER} 127.0.0.1 {old} 127.0.0.1 {new}");
        let push = format!(">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{text}\r\n", text.len());
        for listener in &mut locked(&self.stage).listeners {
            // This fails for a listener that has left.
            let _ = listener.write_all(push.as_bytes());
        }
    }

    /// Delays each answer from now on.
    pub fn slow_down(&self, delay: Duration) {
        locked(&self.stage).delay = delay;
    }

    /// Answers no more queries. Announcements are still sent.
    pub fn fall_silent(&self) {
        locked(&self.stage).report = Report::Silent;
    }

    /// Number of listeners for failovers, including those that have left.
    pub fn listeners(&self) -> usize {
        locked(&self.stage).listeners.len()
    }

    /// Number of queries for the primary.
    pub fn questions(&self) -> usize {
        locked(&self.stage).questions
    }
}

impl Drop for StagedSentinel {
    fn drop(&mut self) {
        let mut stage = locked(&self.stage);
        stage.is_gone = true;
        for socket in stage.sockets.drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        drop(stage);
        // The connection wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(socket: TcpStream, stage: &Mutex<Stage>) {
    let mut reader = BufReader::new(socket.try_clone().expect("a socket can be shared"));
    let (mut socket, mut is_resp3) = (socket, false);
    while let Some(command) = read_command(&mut reader) {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let delay = locked(stage).delay;
        thread::sleep(delay);
        let mut stage = locked(stage);
        if matches!(stage.report, Report::Silent) {
            continue;
        }
        is_resp3 |= words[0].eq_ignore_ascii_case("HELLO");
        if words[0].eq_ignore_ascii_case("SUBSCRIBE") {
            stage.listeners.push(socket.try_clone().expect("a socket can be shared"));
        }
        let answer = stage.answer(&words, is_resp3);
        // The write is done under the lock, so that no announcement comes between. It fails for a client that has left.
        let _ = socket.write_all(answer.as_bytes());
    }
}

impl Stage {
    fn answer(&mut self, words: &[&str], is_resp3: bool) -> String {
        let Report::Primary { epoch, port } = self.report else { unreachable!("the silent do not answer") };
        let words: Vec<_> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["HELLO", ..] => "%1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n".to_owned(),
            ["SUBSCRIBE", ..] => ">3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n".to_owned(),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", ..] => {
                self.questions += 1;
                format!("*2\r\n{}{}", text("127.0.0.1"), text(&port.to_string()))
            }
            ["SENTINEL", "MASTER", ..] => {
                let mut fields = vec![text("name"), text(SENTINEL_MASTER)];
                fields.extend(epoch.into_iter().flat_map(|epoch| [text("config-epoch"), text(&epoch.to_string())]));
                match is_resp3 {
                    true => format!("%{}\r\n{}", fields.len() / 2, fields.concat()),
                    false => format!("*{}\r\n{}", fields.len(), fields.concat()),
                }
            }
            other => format!("-ERR this Sentinel is staged and does not know {other:?}\r\n"),
        }
    }
}

fn text(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Reads a command in RESP, as clients write it. Returns `None` when the connection has ended.
fn read_command(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = read_length(reader)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = read_length(reader)?;
        let mut bytes = vec![0; length + 2];
        reader.read_exact(&mut bytes).ok()?;
        words.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    Some(words)
}

/// Reads the number after `*` or `$`.
fn read_length(reader: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn locked(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().expect("nobody panics while holding it")
}
