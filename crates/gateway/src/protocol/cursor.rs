//! `Last-Event-ID`: the positions of a session's event stream.
//!
//! ```text
//!   SESSION ; CHANNEL,CHANNEL/POSITION ; CHANNEL/POSITION ; CHANNEL
//! ```
//!
//! Clients treat it as opaque. The channels that moved last come last, so a message appends the same bytes for all its
//! receivers. Names contain no semicolon, comma or slash.

use std::io::Write as _;

use wire::{CHANNELS_PER_CONNECTION_MAX, Position, SessionId};

/// Longest cursor in bytes. Proxies and servers limit a request head to 8 KiB or more.
pub(crate) const CURSOR_BYTES_MAX: usize = 4096;

/// Longest position in bytes: two integers of 64 bits and a hyphen.
const POSITION_BYTES_MAX: usize = 41;

/// A session and its channels, each with the last position that its client received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) session: SessionId,
    pub(crate) channels: Vec<(String, Option<Position>)>,
}

impl Cursor {
    /// Parses a cursor that a client sent back.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > CURSOR_BYTES_MAX {
            return None;
        }
        let (session, groups) = text.split_once(';')?;
        let mut channels = Vec::new();
        for group in groups.split(';') {
            let (names, position) = match group.split_once('/') {
                Some((names, position)) => (names, Some(position.parse().ok()?)),
                None => (group, None),
            };
            channels.extend(names.split(',').map(|name| (name.to_owned(), position)));
        }
        let is_bounded = channels.len() <= CHANNELS_PER_CONNECTION_MAX;
        let is_whole = channels.iter().all(|(name, _)| !name.is_empty());
        (is_bounded && is_whole).then_some(Self { session: SessionId::parse(session)?, channels })
    }

    /// Whether a cursor with these channels fits, whatever their positions are.
    pub(crate) fn has_room_for<'c>(channels: impl Iterator<Item = &'c str>) -> bool {
        let session = 32;
        let channels: usize = channels.map(|channel| channel.len() + 2 + POSITION_BYTES_MAX).sum();
        session + channels <= CURSOR_BYTES_MAX
    }
}

/// Appends a cursor up to the position of its last group.
pub(crate) fn write_head<'c>(
    session: &str,
    others: impl Iterator<Item = (&'c str, Option<Position>)>,
    moved: impl Iterator<Item = &'c str>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(session.as_bytes());
    for (channel, position) in others {
        out.push(b';');
        out.extend_from_slice(channel.as_bytes());
        if let Some(position) = position {
            write!(out, "/{position}").expect("a Vec takes everything");
        }
    }
    let mut separator = b';';
    for channel in moved {
        out.push(separator);
        out.extend_from_slice(channel.as_bytes());
        separator = b',';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let session = SessionId::from_random(7);
        let at = |offset| Some(Position::new(u64::MAX, offset));
        let others = [("user:auth0|5f@x=y+~", at(4)), ("system", None)];
        let mut out = Vec::new();
        write_head(
            &session.to_string(),
            others.into_iter(),
            ["collection:42:*", "collection:42"].into_iter(),
            &mut out,
        );
        let text = format!("{}/{}", String::from_utf8(out).unwrap(), at(9).unwrap());
        let expected =
            [("user:auth0|5f@x=y+~", at(4)), ("system", None), ("collection:42:*", at(9)), ("collection:42", at(9))];
        let cursor = Cursor::parse(&text).unwrap();
        assert_eq!(cursor.session, session);
        assert_eq!(cursor.channels, expected.map(|(channel, position)| (channel.to_owned(), position)));
    }

    #[test]
    fn what_is_no_cursor_is_not_read() {
        let session = "0".repeat(32);
        let long = format!("{session};{}", "x".repeat(CURSOR_BYTES_MAX));
        for text in [
            "",
            ";",
            &session,
            &format!("{session};"),
            &format!("{session};a/b"),
            &format!("{session};a/1-2;"),
            &format!("{session};a,,b"),
            "1;a",
            &long,
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
        let many = vec!["a"; CHANNELS_PER_CONNECTION_MAX + 1].join(",");
        assert_eq!(Cursor::parse(&format!("{session};{many}")), None);
    }

    #[test]
    fn a_cursor_has_room_for_what_it_may_hold() {
        let names: Vec<String> = (0..68).map(|n| format!("collection:{n:03}:*")).collect();
        let longest = || {
            let mut out = Vec::new();
            let at = Some(Position::new(u64::MAX, u64::MAX));
            let others = names.iter().map(|name| (name.as_str(), at));
            write_head(&SessionId::from_random(u128::MAX).to_string(), others, std::iter::empty(), &mut out);
            out.len()
        };
        assert!(Cursor::has_room_for(names.iter().map(String::as_str)));
        assert!(longest() <= CURSOR_BYTES_MAX);
        let more = names.iter().map(String::as_str).chain(["collection:068:*"; 2]);
        assert!(!Cursor::has_room_for(more));
    }
}
