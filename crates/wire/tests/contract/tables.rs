//! The tables of `docs/protocol.md`, `close_codes.json` and `errors.json` list what the code has, and nothing else.

use std::borrow::Cow;

use wire::{AckLevel, ClientFrame, Close, ErrorCode, GapReason, PresenceMember, ServerFrame, Timestamp, Welcome};

use crate::document::Document;
use crate::vectors::Vectors;

/// Every type that a client may send, in the order of the document.
pub(crate) fn client_types() -> &'static [&'static str] {
    &["hello", "subscribe", "unsubscribe", "publish", "receipt", "presence", "refresh", "ping", "pong"]
}

/// Every type of control frame that the gateway sends, in the order of the document.
pub(crate) fn server_types() -> &'static [&'static str] {
    &[
        "welcome",
        "restored",
        "subscribed",
        "unsubscribed",
        "ack",
        "receipt",
        "presence",
        "joined",
        "left",
        "error",
        "refreshed",
        "pong",
        "position",
        "gap",
        "degraded",
        "reconnect",
        "notice",
        "bye",
    ]
}

fn yes_or_no(cell: &str) -> bool {
    match cell {
        "yes" => true,
        "no" => false,
        other => panic!("yes or no, not {other:?}"),
    }
}

#[test]
fn frame_types() {
    let document = Document::load();
    assert_eq!(document.column("client frames", 0), client_types());
    assert_eq!(document.column("gateway frames", 0), server_types());
    // The lists above equal those of the code.
    let bodies = client_types().iter().map(|kind| {
        let text = format!(r#"{{"type":"{kind}","channel":"system","position":"7-1","payload":{{"token":"t"}}}}"#);
        let frame = ClientFrame::parse(&text).map(|frame| crate::client_frames::type_of(&frame.body));
        (*kind, frame.map_err(|bad| bad.code))
    });
    for (kind, parsed) in bodies {
        assert_eq!(parsed, Ok(kind));
    }
    for kind in server_types().iter().filter(|kind| !client_types().contains(kind)) {
        let refused = ClientFrame::parse(&format!(r#"{{"type":"{kind}"}}"#)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownType, "{kind}");
    }
    let sentence = ClientFrame::parse(r#"{"type":"?"}"#).unwrap_err().message;
    let (last, others) = client_types().split_last().unwrap();
    assert!(sentence.contains(&format!("{} and {last}", others.join(", "))), "{sentence}");
    assert_eq!(sample_frames().map(|frame| frame.kind()), *server_types());
}

/// One of each.
fn sample_frames() -> [ServerFrame<'static>; 18] {
    let welcome = Welcome {
        session_id: "".into(),
        user: "".into(),
        tenant: "".into(),
        instance: "".into(),
        expires_in_ms: 0,
        ping_interval_ms: 0,
        message_bytes_max: 0,
        messages_per_second: 0,
        channels_max: 0,
    };
    let (channel, correlation_id, position) = (|| Cow::Borrowed(""), None::<Cow<'static, str>>, None);
    let code = ErrorCode::Internal;
    let member = PresenceMember { user: "".into(), since: Timestamp(0), info: None };
    [
        ServerFrame::Welcome(welcome),
        ServerFrame::Restored { record: None, session_id: None, correlation_id: correlation_id.clone() },
        ServerFrame::Subscribed {
            channel: channel(),
            position,
            resumed: false,
            degraded: false,
            correlation_id: correlation_id.clone(),
        },
        ServerFrame::Unsubscribed { channel: channel(), correlation_id: correlation_id.clone() },
        ServerFrame::Ack {
            channel: channel(),
            position,
            level: AckLevel::Durable,
            duplicate: false,
            correlation_id: correlation_id.clone(),
        },
        ServerFrame::Receipt {
            channel: channel(),
            position: wire::Position::default(),
            correlation_id: correlation_id.clone(),
        },
        ServerFrame::Presence {
            channel: channel(),
            count: 0,
            members: Vec::new(),
            stale: false,
            correlation_id: correlation_id.clone(),
        },
        ServerFrame::Joined { channel: channel(), member, count: 1 },
        ServerFrame::Left { channel: channel(), user: "".into(), count: 0 },
        ServerFrame::Error {
            code,
            message: "".into(),
            channel: None,
            retry_after_ms: None,
            correlation_id: correlation_id.clone(),
        },
        ServerFrame::Refreshed { expires_in_ms: 0, correlation_id: correlation_id.clone() },
        ServerFrame::Pong { correlation_id: correlation_id.clone() },
        ServerFrame::Position { channel: channel(), position: wire::Position::default() },
        ServerFrame::Gap { channel: channel(), after: None, upto: None, reason: GapReason::Expired, certain: false },
        ServerFrame::Degraded { degraded: false },
        ServerFrame::Reconnect { after_ms: 0 },
        ServerFrame::Notice(wire::Notice::new("n", "null").unwrap()),
        ServerFrame::Bye { code: 1000, reason: "".into() },
    ]
}

#[test]
fn close_codes() {
    let own =
        |close: Close| (close.code().to_string(), close.reason().to_owned(), Close::should_reconnect(close.code()));
    let code_has = Close::ALL.map(own);
    let rows = Document::load().table("close codes");
    let listed: Vec<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone(), yes_or_no(&row[2]))).collect();
    assert_eq!(listed, code_has, "the table of close codes in docs/protocol.md");
    let vectors = Vectors::load("close_codes.json");
    let frozen = |case: &crate::vectors::Case<'_>| {
        (case.number("code").to_string(), case.text("reason").to_owned(), case.flag("reconnect"))
    };
    assert_eq!(vectors.cases("codes").iter().map(frozen).collect::<Vec<_>>(), code_has);
    for case in vectors.cases("others") {
        let code = u16::try_from(case.number("code")).unwrap();
        assert!(Close::ALL.iter().all(|close| close.code() != code), "{}: is one of ours", case.at);
        assert_eq!(Close::should_reconnect(code), case.flag("reconnect"), "{}: {code}", case.at);
    }
}

#[test]
fn ranges_of_close_codes() {
    let rows = Document::load().table("close ranges");
    let mut listed = vec![None; 65_536];
    for row in &rows {
        for part in row[0].split(", ") {
            let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("{text:?} is a close code"));
            let (first, last) = part.split_once('–').unwrap_or((part, part));
            let (first, last) = (number(first), number(last));
            for (code, listed) in (first..).zip(&mut listed[first..=last]) {
                assert_eq!(listed.replace(yes_or_no(&row[1])), None, "{code} stands in two rows");
            }
        }
    }
    for (code, listed) in (0..=u16::MAX).zip(listed) {
        let expected = Close::should_reconnect(code);
        match listed {
            Some(listed) => assert_eq!(listed, expected, "{code}"),
            None => assert!(!expected && !(1000..=4999).contains(&code), "{code} stands in no row"),
        }
    }
}

#[test]
fn error_codes() {
    let code_has = ErrorCode::ALL.map(|code| (code.as_str().to_owned(), code.retryable()));
    let rows = Document::load().table("error codes");
    let listed: Vec<_> = rows.iter().map(|row| (row[0].clone(), yes_or_no(&row[1]))).collect();
    assert_eq!(listed, code_has, "the table of error codes in docs/protocol.md");
    let vectors = Vectors::load("errors.json");
    let frozen: Vec<_> =
        vectors.cases("codes").iter().map(|case| (case.text("code").to_owned(), case.flag("retryable"))).collect();
    assert_eq!(frozen, code_has);
}

/// Each code that tells a client not to retry has a row that says who can cause it.
#[test]
fn final_codes() {
    let closes = Close::ALL.map(Close::code).into_iter().filter(|code| !Close::should_reconnect(*code));
    let errors = ErrorCode::ALL.into_iter().filter(|code| !code.retryable());
    let code_has: Vec<String> =
        closes.map(|code| code.to_string()).chain(errors.map(|code| code.as_str().to_owned())).collect();
    let rows = Document::load().table("final codes");
    let listed: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(listed, code_has, "who can cause a final code, in docs/protocol.md");
    assert!(rows.iter().all(|row| row[1..].iter().all(|cell| !cell.is_empty()) && row.len() == 3), "{rows:?}");
}

#[test]
fn ack_levels() {
    let listed = Document::load().column("ack levels", 0);
    assert_eq!(listed, AckLevel::ALL.map(AckLevel::as_str));
}

#[test]
fn gap_reasons() {
    let listed = Document::load().column("gap reasons", 0);
    assert_eq!(listed, GapReason::ALL.map(GapReason::as_str));
}

/// The names in `pub const NAME: …` of `limits.rs`. A new limit fails the test until the document has it.
fn names_of_limits() -> Vec<&'static str> {
    let lines = include_str!("../../src/limits.rs").lines();
    lines.filter_map(|line| line.strip_prefix("pub const ")).map(|rest| rest.split(':').next().unwrap()).collect()
}

#[test]
fn limits() {
    macro_rules! limits {
        ($($name:ident),*) => { vec![$((stringify!($name).to_owned(), wire::$name.to_string())),*] };
    }
    let code_has = limits![
        CHANNEL_BYTES_MAX,
        NAME_BYTES_MAX,
        TYPE_BYTES_MAX,
        CORRELATION_ID_BYTES_MAX,
        PUBLISH_ID_BYTES_MAX,
        CHANNELS_PER_CONNECTION_MAX,
        TOKEN_BYTES_MAX,
        BINARY_HEADER_BYTES_MAX,
        BATCH_MESSAGES_MAX,
        NOTICE_BYTES_MAX,
        PRESENCE_MEMBERS_MAX,
        PRESENCE_INFO_BYTES_MAX,
        SUBPROTOCOL
    ];
    assert_eq!(code_has.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), names_of_limits());
    let rows = Document::load().table("limits");
    let listed: Vec<_> = rows.iter().map(|row| (row[0].clone(), row[1].replace(' ', ""))).collect();
    assert_eq!(listed, code_has, "the table of limits in docs/protocol.md");
}

/// The reason of a close frame follows a code of two bytes and has at most 123 bytes (RFC 6455 §5.5).
#[test]
fn reasons_fit_a_close_frame() {
    for close in Close::ALL {
        assert!(close.reason().len() <= 123, "{close:?}");
    }
}
