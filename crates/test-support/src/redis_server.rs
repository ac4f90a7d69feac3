//! The commands that start `redis-server`.

use std::path::Path;
use std::process::Command;

/// A server on this port of loopback, with its files in `directory`. It stores nothing on disk and rejects writes when
/// its memory is full, unless additional arguments say otherwise.
pub fn command(port: u16, directory: &Path) -> Command {
    let mut command = Command::new("redis-server");
    listen(&mut command, port, directory);
    // `noeviction`: if Redis evicted a stream or its metadata, only half of a scope would remain.
    command.args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]);
    command
}

/// A Sentinel on this port of loopback. It reads `config` and writes to it.
pub fn sentinel_command(config: &Path, port: u16, directory: &Path) -> Command {
    let mut command = Command::new("redis-server");
    command.arg(config).arg("--sentinel");
    listen(&mut command, port, directory);
    command
}

fn listen(command: &mut Command, port: u16, directory: &Path) {
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(directory);
}
