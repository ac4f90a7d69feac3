//! One line of the log: what somebody outside the product did or saw, and when.
//!
//! The order of the lines is an order of time: a line about something done is written before it is done, a line about
//! something seen after it was seen.

use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began, of a clock that does not jump.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line: what the run may be judged by.
    Run {
        /// What is going to be broken.
        fault: String,
        /// Whether Redis itself loses what it has taken. If not, a gap is an anomaly.
        loses: bool,
        /// Families whose channels have no id.
        keyless: Vec<String>,
        /// Families that keep nothing: an interruption gives them gaps.
        no_history: Vec<String>,
        /// Families whose messages stay within one instance while Redis is away.
        local: Vec<String>,
        /// Families that keep only the newest message of each topic for a client that reads too slowly.
        #[serde(default)]
        newest: Vec<String>,
        /// Whether what a session held may be forgotten: an instance dies or stays without Redis, or Redis loses what it
        /// has taken. If not, a session of which nothing is known is an anomaly.
        #[serde(default)]
        forgets: bool,
    },
    /// A message is about to be sent. `value` is unique in the run and stands in the payload as `v`.
    Publish {
        /// Its name.
        value: String,
        /// Where it goes.
        channel: String,
        /// Through which instance; none when straight into Redis.
        via: Option<String>,
        /// Whether it was sent before.
        retry: Retry,
    },
    /// What the publisher was told about the last `Publish` of this value.
    Answered {
        /// Which message.
        value: String,
        /// In the words that came.
        answer: PublishAnswer,
    },
    /// A client has a new WebSocket.
    Opened {
        /// Who; the same across all its connections.
        client: String,
        /// Unique in the run.
        connection: u64,
        /// To which instance.
        instance: String,
        /// It reads too slowly, on purpose: it may be told so, and its being late is no recovery.
        #[serde(default)]
        reads_slowly: bool,
    },
    /// A client is about to send this text.
    Sent {
        /// On which connection.
        connection: u64,
        /// As it goes over the wire.
        text: String,
    },
    /// A client received this text.
    Received {
        /// On which connection.
        connection: u64,
        /// As it came over the wire.
        text: String,
    },
    /// A connection has ended, or the client is about to end it.
    Closed {
        /// Which one.
        connection: u64,
        /// For the reader of the log.
        why: String,
        /// The client left of its own accord.
        intended: bool,
        /// Of the gateway's close frame, if one came.
        #[serde(default)]
        code: Option<u16>,
    },
    /// The client will not come back, and wants nothing more.
    Retired {
        /// Who.
        client: String,
    },
    /// The fault is about to be injected.
    FaultBegan,
    /// The fault has been taken away.
    FaultEnded {
        /// What shows that it was there.
        proof: String,
    },
    /// Publishers have stopped, everything had time to settle. What is published from here on are the sentinels, one for
    /// each scope.
    Quiesced,
    /// The last line. Who is connected here must have everything.
    End,
}

/// How a publish relates to earlier ones of the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It is the first.
    No,
    /// It carries the same idempotency id: there must be one message.
    SameId,
    /// Nothing tells it from the first: there may be two.
    Blind,
}

/// What a publisher was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishAnswer {
    /// The frame that a gateway answered with.
    Frame(String),
    /// What Redis replied to the call.
    Reply(String),
    /// The error that Redis replied with.
    Error(String),
    /// Nothing came; why the publisher stopped waiting.
    Nothing(String),
}
