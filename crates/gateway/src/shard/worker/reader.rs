//! The read loop of one socket: read, parse, pass to the session, write the result.

use std::ops::ControlFlow;
use std::rc::Rc;

use wire::{ClientFrame, Close, ErrorCode, Opcode};

use crate::host::clock::Now;
use crate::protocol::encoder::control;
use crate::protocol::outbound::Outbound;
use crate::shard::members::Slot;
use crate::shard::reservation::AddressPlace;
use crate::shard::table::Shard;
use crate::shard::worker::Worker;
use crate::transport::socket::Socket;
use crate::transport::websocket::codec::{CloseFrame, Codec, Input};

/// Reads in one turn of the loop at most. Then other connections get their turn.
const READS_PER_TURN: usize = 4;

/// Serves one connection until its socket ends. Its state is in the shard's table; only the parser is here.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps each argument twice, as captured and as moved into the body: 256 bytes per connection"
)]
pub(crate) fn run(
    worker: Rc<Worker>,
    slot: Slot,
    socket: Rc<Socket>,
    mut codec: Codec,
    place: Option<AddressPlace>,
) -> impl Future<Output = ()> {
    async move {
        while socket.readable().await.is_ok() {
            match turn(&worker, slot, &socket, &mut codec) {
                ControlFlow::Continue(More::No) => {}
                // The socket of a client that sends without a pause is always readable, so waiting for it would not let
                // other tasks run.
                ControlFlow::Continue(More::Perhaps) => tokio::task::yield_now().await,
                ControlFlow::Break(()) => break,
            }
        }
        worker.remove(slot);
        drop(place);
    }
}

/// Bytes that the client of an event stream may send after its request. They have no meaning.
const EVENT_STREAM_INPUT_MAX: usize = 16 * 1024;

/// Waits until the client of an event stream disconnects.
#[expect(clippy::manual_async_fn, reason = "as for `run`")]
pub(crate) fn run_event_stream(
    worker: Rc<Worker>,
    slot: Slot,
    socket: Rc<Socket>,
    place: Option<AddressPlace>,
) -> impl Future<Output = ()> {
    async move {
        let mut received = 0;
        while received <= EVENT_STREAM_INPUT_MAX && socket.readable().await.is_ok() {
            let mut scratch = worker.take_scratch();
            let read = socket.try_read(&mut scratch);
            worker.give_scratch(scratch);
            match read {
                Ok(0) => break,
                Ok(n) => received += n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        worker.remove(slot);
        drop(place);
    }
}

/// Whether there may be more to read after a turn.
enum More {
    No,
    Perhaps,
}

/// Reads what has arrived, through the scratch buffer that all connections of the shard share.
fn turn(worker: &Rc<Worker>, slot: Slot, socket: &Socket, codec: &mut Codec) -> ControlFlow<(), More> {
    let mut scratch = worker.take_scratch();
    let mut flow = ControlFlow::Continue(More::Perhaps);
    for _ in 0..READS_PER_TURN {
        match socket.try_read(&mut scratch) {
            Ok(0) => flow = ControlFlow::Break(()),
            Ok(n) => {
                take(worker, slot, codec, &mut scratch[..n]);
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => flow = ControlFlow::Continue(More::No),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => flow = ControlFlow::Break(()),
        }
        break;
    }
    worker.give_scratch(scratch);
    flow
}

/// Parses bytes, carries out the frames, and writes the result.
pub(crate) fn take(worker: &Rc<Worker>, slot: Slot, codec: &mut Codec, bytes: &mut [u8]) {
    let message_bytes_max = worker.message_bytes_max(true);
    worker.step(slot, |shard, now| parse(shard, slot, codec, bytes, message_bytes_max, now));
    worker.note_unfinished(slot, codec.unfinished());
}

fn parse(shard: &mut Shard, slot: Slot, codec: &mut Codec, bytes: &mut [u8], message_bytes_max: usize, now: Now) {
    shard.peer_alive(slot);
    let parsed = codec.feed(bytes, |input, limit| {
        match input {
            Input::Text(text) => shard.frame(slot, ClientFrame::parse(text), now),
            Input::Binary(bytes) => shard.frame(slot, ClientFrame::parse_binary(bytes), now),
            Input::Ping(payload) => shard.answer(slot, control(Opcode::Pong, payload)),
            Input::Pong(payload) => shard.pong(slot, payload, now),
            Input::Close(frame) => {
                let code = frame.as_ref().map(|frame| frame.code);
                shard.end(slot, code, Some(close_answer(frame)));
                return ControlFlow::Break(());
            }
        }
        if *limit < message_bytes_max && shard.holder(slot).is_some() {
            *limit = message_bytes_max;
        }
        ControlFlow::Continue(())
    });
    if let Err(violation) = parsed {
        let (code, message) = match violation.close() {
            Close::TooBig if shard.holder(slot).is_none() => (
                ErrorCode::TooBig,
                format!("{violation} until the hello with the token; send that first, then subscribe"),
            ),
            Close::TooBig => (ErrorCode::TooBig, violation.to_string()),
            _ => (ErrorCode::Malformed, violation.to_string()),
        };
        shard.refuse(slot, code, &message, violation.close());
    }
    if codec.is_closed() {
        // The client's close frame has arrived, or cannot be read. The shard does not wait for it.
        shard.end(slot, None, None);
    }
}

/// The answer carries the code of the client's close frame (RFC 6455 §5.5.1).
fn close_answer(frame: Option<CloseFrame<'_>>) -> Outbound {
    let code = frame.map(|frame| frame.code.to_be_bytes());
    control(Opcode::Close, code.as_ref().map_or(&[], |code| &code[..]))
}
