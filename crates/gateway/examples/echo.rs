//! Echoes messages over [`tidegate_gateway::codec`], for the Autobahn suite (`tests/autobahn/run.py`).
//!
//! `echo [PORT]` listens on loopback; port 0, the default, takes a free one. Prints `listening 127.0.0.1:PORT`.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tidegate_gateway::codec::{CloseFrame, Codec, Input, accept_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::{Opcode, WebSocketFrame};

/// As much as Autobahn's largest message, so that its limit cases run too.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const REQUEST_BYTES_MAX: usize = 8 << 10;
const SCRATCH_BYTES: usize = 64 << 10;
/// How long the client may take to close its side after ours.
const LINGER: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse()).map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(socket).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn serve(mut socket: TcpStream) -> io::Result<()> {
    let mut early = upgrade(&mut socket).await?;
    let mut codec = Codec::new(MESSAGE_BYTES_MAX);
    let mut replies = Vec::new();
    let mut closing = echo(&mut codec, &mut early, &mut replies);
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        for reply in replies.drain(..) {
            socket.write_all(reply.bytes()).await?;
        }
        if closing {
            return linger(socket, &mut scratch).await;
        }
        let size = socket.read(&mut scratch).await?;
        if size == 0 {
            return Ok(());
        }
        closing = echo(&mut codec, &mut scratch[..size], &mut replies);
    }
}

/// Feeds `bytes` and collects the answers. True when a close is the last of them.
fn echo(codec: &mut Codec, bytes: &mut [u8], replies: &mut Vec<WebSocketFrame>) -> bool {
    let mut closing = false;
    let outcome = codec.feed(bytes, |input, _| {
        match input {
            Input::Text(text) => replies.push(WebSocketFrame::new(Opcode::Text, text.as_bytes())),
            Input::Binary(bytes) => replies.push(WebSocketFrame::new(Opcode::Binary, bytes)),
            Input::Ping(payload) => replies.push(WebSocketFrame::new(Opcode::Pong, payload)),
            Input::Pong(_) => {}
            Input::Close(frame) => {
                closing = true;
                replies.push(close(frame));
            }
        }
        ControlFlow::Continue(())
    });
    if let Err(violation) = outcome {
        closing = true;
        let reason = violation.to_string();
        replies.push(close(Some(CloseFrame { code: violation.close().code(), reason: &reason })));
    }
    closing
}

fn close(frame: Option<CloseFrame<'_>>) -> WebSocketFrame {
    let payload = frame.map(|CloseFrame { code, reason }| [&code.to_be_bytes(), reason.as_bytes()].concat());
    WebSocketFrame::new(Opcode::Close, payload.as_deref().unwrap_or_default())
}

/// The server closes first (RFC 6455 §7.1.1), then reads on: a reset for unread bytes could overtake the close frame.
async fn linger(mut socket: TcpStream, scratch: &mut [u8]) -> io::Result<()> {
    socket.shutdown().await?;
    let drained = async { while socket.read(scratch).await.is_ok_and(|size| size > 0) {} };
    let _late = tokio::time::timeout(LINGER, drained).await;
    Ok(())
}

/// Answers the upgrade and gives the bytes that came behind it.
async fn upgrade(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let end = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if request.len() > REQUEST_BYTES_MAX || socket.read_buf(&mut request).await? == 0 {
            return Err(io::Error::other("no HTTP request"));
        }
    };
    let early = request.split_off(end);
    let accept = String::from_utf8_lossy(&request)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .and_then(|(_, key)| accept_key(key.trim()))
        .ok_or_else(|| io::Error::other("no Sec-WebSocket-Key"))?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nServer: tidegate-echo\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes()).await?;
    Ok(early)
}
