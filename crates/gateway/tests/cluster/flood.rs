//! A client that sends without a pause costs the others of its shard little.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dial;
use crate::fleet::Fleet;
use crate::raw::Raw;

/// A masked pong without payload: the cheapest frame there is, which no limit counts.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
/// What a ping is answered by.
const ANSWER: [u8; 2] = [0x8a, 0];
/// As much as the gateway could read in two runs of its scheduler.
const FLOOD_BYTES: usize = 64 * 1024 * 1024;

/// An upgraded connection that nothing is expected of but pongs.
async fn raw(fleet: &Fleet) -> dial::Stream {
    let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    Raw::open(socket, "").await.expect("101").stream
}

async fn ping(stream: &mut dial::Stream) {
    stream.write_all(&PING).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ANSWER);
}

#[tokio::test]
async fn a_client_that_never_pauses_lets_the_others_have_their_turn() {
    // They say no hello, and may be longer about all this than until a ping of the gateway.
    let fleet = Fleet::start(1, None, "[limits]\nhello_timeout_ms = 600000\nping_interval_ms = 600000\n");
    let mut flooder = raw(&fleet).await;
    // The shard with the fewest takes the next, so the third is on the flooder's.
    let _other_shard = raw(&fleet).await;
    let mut bystander = raw(&fleet).await;
    let flood = tokio::spawn(async move {
        let block = PONG.repeat(1 << 16);
        for _ in 0..FLOOD_BYTES / block.len() {
            flooder.write_all(&block).await.unwrap();
        }
        ping(&mut flooder).await;
    });
    let mut answered = 0;
    while !flood.is_finished() {
        ping(&mut bystander).await;
        answered += 1;
    }
    flood.await.unwrap();
    assert!(answered >= 20, "answered {answered} times while another was read");
}
