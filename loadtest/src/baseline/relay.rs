//! The minimum that a server must do to pass messages from Redis to one socket per scope: wait, read, find the socket,
//! write.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use keyspace::Keyspace;
use rustix::event::epoll;
use wire::{Families, TenantId};

use super::{accept_all, from_hex, write_frame};
use crate::failure::Failure;

/// Buffer for the data that Redis sends between two reads.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Number of digits of a scope's number.
const DIGITS: usize = 5;
/// Identifies the descriptor of an event.
const REDIS: u64 = 0;
const STDIN: u64 = 1;

/// Runs the relay until its stdin ends.
pub(crate) fn serve(sockets: usize, redis: SocketAddr, stem: &str) -> Result<(), Failure> {
    let receivers = accept_all(sockets)?;
    let mut redis = subscribe(redis, stem, sockets)?;
    println!("ready");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Failure::io("epoll_create"))?;
    let stdin = std::io::stdin();
    for (fd, data) in [(redis.as_fd(), REDIS), (stdin.as_fd(), STDIN)] {
        let data = epoll::EventData::new_u64(data);
        epoll::add(&epoll, fd, data, epoll::EventFlags::IN).map_err(Failure::io("epoll_ctl"))?;
    }
    let (mut frame, mut scratch, mut kept) = (Vec::new(), vec![0; SCRATCH_BYTES], 0);
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).map_err(Failure::io("epoll_wait"))?;
        for event in &events {
            if event.data.u64() == STDIN {
                let mut line = String::new();
                if stdin.read_line(&mut line).map_err(Failure::io("stdin"))? == 0 {
                    return Ok(());
                }
                let misread = || Failure::Unmeasurable(format!("the relay does not understand {line:?}"));
                frame = line.trim_end().strip_prefix("frame ").and_then(from_hex).ok_or_else(misread)?;
                continue;
            }
            let read = redis.read(&mut scratch[kept..]).map_err(Failure::io("reading Redis"))?;
            let (mut at, end) = (0, kept + read);
            while let Some((receiver, len)) = next_push(&scratch[at..end]) {
                at += len;
                if let Some(receiver) = receiver {
                    write_frame(&receivers[receiver], &frame)?;
                }
            }
            scratch.copy_within(at..end, 0);
            kept = end - at;
            if read == 0 || kept == scratch.len() {
                return Err(Failure::Unmeasurable("Redis hung up, or says what the relay does not understand".into()));
            }
        }
    }
}

/// Subscribes to the scopes `{stem}00000`, `{stem}00001` … and waits for the confirmations.
fn subscribe(addr: SocketAddr, stem: &str, scopes: usize) -> Result<TcpStream, Failure> {
    let mut redis = TcpStream::connect(addr).map_err(Failure::io("connecting to Redis"))?;
    let (keys, families, tenant) = (Keyspace::default(), Families::default(), TenantId::default());
    let mut command = format!("*{}\r\n$9\r\nSUBSCRIBE\r\n", scopes + 1);
    for number in 0..scopes {
        let channel = families.parse_channel(&tenant, &format!("{stem}{number:0DIGITS$}"));
        let channel = channel.map_err(|error| Failure::Unmeasurable(format!("{stem}: {error}")))?;
        let channel = keys.channel(&channel.scope);
        command += &format!("${}\r\n{channel}\r\n", channel.len());
    }
    redis.write_all(command.as_bytes()).map_err(Failure::io("subscribing"))?;
    // `*3 $9 subscribe $n channel :count` has six line ends, and the name of a channel has none.
    let (mut confirmed, mut chunk) = (0, [0; 4096]);
    while confirmed < scopes * 6 {
        let read = redis.read(&mut chunk).map_err(Failure::io("subscribing"))?;
        confirmed += chunk[..read].iter().filter(|byte| **byte == b'\n').count();
        if read == 0 {
            return Err(Failure::Unmeasurable("Redis hung up on the relay".into()));
        }
    }
    Ok(redis)
}

/// The first complete push (RESP2 `*3 $7 message $n channel $m payload`): the number of its scope, and its length. The
/// channel ends in that number and a brace.
fn next_push(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    const HEAD: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
    let rest = bytes.strip_prefix(HEAD)?;
    let (channel, rest) = bulk(rest)?;
    let (_, rest) = bulk(rest)?;
    let digits = channel.strip_suffix(b"}").and_then(|channel| channel.split_last_chunk::<DIGITS>());
    let number = digits.and_then(|(_, digits)| std::str::from_utf8(digits).ok()?.parse().ok());
    Some((number, bytes.len() - rest.len()))
}

/// Splits `$n\r\n…\r\n` into its content and the bytes after it.
fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"$")?;
    let line = rest.iter().position(|byte| *byte == b'\r')?;
    let len: usize = std::str::from_utf8(&rest[..line]).ok()?.parse().ok()?;
    let (text, rest) = rest.get(line + 2..)?.split_at_checked(len)?;
    Some((text, rest.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: &[u8] = b"*3\r\n$7\r\nmessage\r\n$17\r\nx:{d/user:r00042}\r\n$3\r\n1 2\r\n";

    #[test]
    fn a_push_says_whose_it_is() {
        let and_more = [PUSH, b"*3"].concat();
        assert_eq!(next_push(&and_more), Some((Some(42), PUSH.len())));
    }

    #[test]
    fn half_a_push_is_none() {
        assert!((0..PUSH.len()).all(|cut| next_push(&PUSH[..cut]).is_none()));
    }
}
