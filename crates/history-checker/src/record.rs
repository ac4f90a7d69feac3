//! One line of the log: what a participant outside the product did or saw, and when.
//!
//! The order of the lines is the order of time. A line about an action is written before the action; a line about an
//! observation is written after it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began, by a clock that does not jump.
    pub at_us: u64,
    /// The event of this line.
    #[serde(flatten)]
    pub event: Event,
}

/// The events of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line: the rules by which the run is judged.
    Run {
        /// The fault that will be injected.
        fault: String,
        /// Whether Redis itself loses data that it has acknowledged. If not, a gap is an anomaly.
        loses: bool,
        /// Families whose channels have no id.
        keyless: Vec<String>,
        /// Families without history: after an interruption they get gaps.
        no_history: Vec<String>,
        /// Families whose messages stay on one instance while Redis is away.
        local: Vec<String>,
        /// Families that keep only the newest message of each topic for a client that reads too slowly.
        #[serde(default)]
        newest: Vec<String>,
        /// Whether session records may be lost: an instance dies or is without Redis, or Redis loses data that it has
        /// acknowledged. If not, a session that is not found is an anomaly.
        #[serde(default)]
        forgets: bool,
    },
    /// A message is about to be sent. `value` is unique in the run and is the field `v` of the payload.
    Publish {
        /// The name of the message.
        value: String,
        /// The channel to which it is published.
        channel: String,
        /// The instance that it is sent through; none if it is sent to Redis directly.
        via: Option<String>,
        /// Whether the message was sent before.
        retry: Retry,
    },
    /// The answer to the last `Publish` of this value.
    Answered {
        /// The name of the message.
        value: String,
        /// The answer in its original text.
        answer: PublishAnswer,
    },
    /// A client has opened a connection, or is about to request an event stream.
    Opened {
        /// The client; it keeps its name over all its connections.
        client: String,
        /// The number of the connection, unique in the run.
        connection: u64,
        /// The instance that it is connected to. The `welcome` of an event stream names it again, because behind a balancer
        /// nobody knows it before.
        instance: String,
        /// The client reads too slowly on purpose: it may get gaps for that, and its delay does not count as recovery
        /// time.
        #[serde(default)]
        reads_slowly: bool,
        /// The transport of the connection.
        #[serde(default)]
        transport: Transport,
    },
    /// A client is about to request an event stream.
    Requested {
        /// Number of the connection, as in `Opened`.
        connection: u64,
        /// Path and query of the request.
        target: String,
        /// The id of the last complete event; none if the client begins anew.
        last_event_id: Option<String>,
    },
    /// A request for an event stream was answered by another status than 200. A browser does not send it again.
    Refused {
        /// Number of the connection, as in `Opened`.
        connection: u64,
        /// The status of the answer.
        status: u16,
    },
    /// A client is about to send this text.
    Sent {
        /// Number of the connection, as in `Opened`.
        connection: u64,
        /// The text of the frame.
        text: String,
    },
    /// A client received this text.
    Received {
        /// Number of the connection, as in `Opened`.
        connection: u64,
        /// The text of the frame, or the lines of the event, the blank line that ends it included. Without that line the
        /// end of the stream has cut the event.
        text: String,
    },
    /// A connection has ended, or the client is about to end it.
    Closed {
        /// Number of the connection, as in `Opened`.
        connection: u64,
        /// The reason, for people who read the log.
        why: String,
        /// The client left on its own initiative.
        intended: bool,
        /// The code of the gateway's close frame, if there was one.
        #[serde(default)]
        code: Option<u16>,
    },
    /// The client will not reconnect, and expects nothing more.
    Retired {
        /// The client that has left.
        client: String,
    },
    /// The fault is about to be injected.
    FaultBegan,
    /// The fault has been removed.
    FaultEnded {
        /// The evidence that the fault was effective.
        proof: String,
    },
    /// Publishers have stopped, and there was time for everything to settle. From here on only the sentinels are
    /// published, one for each scope.
    Quiesced,
    /// The last line. Clients that are connected now must have every message.
    End,
}

/// The transport between a client and a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A WebSocket: frames in both directions.
    #[default]
    #[serde(rename = "websocket")]
    WebSocket,
    /// Server-sent events: the client's request says everything, and it only receives.
    #[serde(rename = "sse")]
    EventStream,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "sse",
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::WebSocket, Self::EventStream];
        let named = all.into_iter().find(|transport| transport.to_string() == text);
        named.ok_or_else(|| String::from("a transport is `websocket` or `sse`"))
    }
}

/// How a publish relates to earlier publishes of the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It is the first publish of the value.
    No,
    /// It carries the same idempotency id: there must be one message.
    SameId,
    /// It carries no id: there may be two messages.
    Blind,
}

/// The answer that a publisher got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishAnswer {
    /// The frame of a gateway.
    Frame(String),
    /// The reply of Redis to the call.
    Reply(String),
    /// The error of Redis.
    Error(String),
    /// There was no answer; the reason why the publisher stopped waiting.
    Nothing(String),
}
