//! The worker with a socket, and nobody who turns its loop: what must not wait for the next second.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use message_router::{Joiner, Start};
use records::{DeadLetterQueue, DeadLetterQueueConfig};
use socket2::SockRef;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::timeout;
use wire::{ClientFrame, Families, Message, Position, Scope, SessionId, TenantId, UserId};

use super::*;
use crate::auth::grants::{GrantList, Grants};
use crate::auth::token::Identity;
use crate::config::{Config, RawConfig, Sources};
use crate::health::watchdog::{FROZEN_AFTER, Watchdog};
use crate::host::reloadable::Reloadable;
use crate::instance::gateway::rules;
use crate::protocol::outgoing::Outgoing;
use crate::shard::catch_up_page::CatchUpPage;
use crate::shard::handoff::Opening;
use wire::Timestamp;

/// More than the sockets below hold, and than may wait before a replay pauses; an outbox holds it.
const PAGE_BYTES: usize = 3 * 1024 * 1024;
const SOCKET_BYTES: usize = 64 * 1024;
/// Longer than reading a page takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn worker(pump: &Arc<Mailbox<PumpRequest>>) -> Rc<Worker> {
    let config = Config::check(&mut RawConfig::gather(Sources::default())).expect("no configuration is dev mode");
    let shard = ShardHandle { inbox: Arc::new(Mailbox::new(1 << 20)), counters: Arc::default() };
    let mut rules = rules(&config);
    // A page that is larger than what may wait would be thinned out.
    rules.limits.outbox_bytes_max = 2 * PAGE_BYTES;
    let shared = Shared {
        pages: Reloadable::new(config.http.allowed_origins.clone().into()),
        rules: Arc::new(rules),
        library: config.policies.library(),
        health: Arc::new(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now()))),
        hub: Hub::new(vec![shard]),
        pump: Arc::default(),
        dead_letter_queue: Arc::new(DeadLetterQueue::new(DeadLetterQueueConfig { message_bytes_max: 1024 })),
        receipt_buffer: Arc::default(),
        leave: Arc::default(),
        presence_inbox: Arc::new(Mailbox::new(1 << 20)),
        presence: Arc::default(),
        stop: watch::channel(false).1,
        config: Arc::new(config),
    };
    let registers = Registers { directory: Arc::default(), presence: Arc::default() };
    Worker::new(ShardIndex(0), &shared, registers, Arc::clone(pump), Clock::start())
}

/// A client's socket, and the other end of it as the edge hands it over.
fn connect(worker: &Worker) -> (TcpStream, Handoff) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BYTES).unwrap();
    SockRef::from(&client).set_recv_buffer_size(SOCKET_BYTES).unwrap();
    let grants = GrantList::parse(&Families::default(), &["collection:*"]).unwrap();
    let identity = Identity {
        tenant: TenantId::default(),
        user: UserId::parse("alice").unwrap(),
        grants: Grants::new(grants.clone(), grants),
        expires_at_unix_s: u64::from(u32::MAX),
        info: None,
        mark: Default::default(),
    };
    let (early, session_id, path_tenant) = (Bytes::new(), SessionId::from_random(1), None);
    let (reservation, opening) = (worker.hub.reserve(), Opening::Authenticated(identity));
    (client, Handoff { reservation, socket, tls: None, early, session_id, path_tenant, opening })
}

fn page(scope: &Scope) -> CatchUpPage {
    let text = format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(1 << 20));
    let message = |offset| {
        let position = Some(Position::new(7, offset));
        let message = Message::parse(text.as_bytes()).unwrap();
        Outgoing::new(&message, scope, Bytes::from_static(b"ops"), Timestamp(0), position)
    };
    let offsets = 2..2 + (PAGE_BYTES >> 20) as u64;
    let upto = Some(Position::new(7, offsets.end - 1));
    let messages = offsets.map(message).collect();
    CatchUpPage { start: Start::Resumed, lost: Vec::new(), messages, upto, more: true }
}

async fn joins(pump: &Mailbox<PumpRequest>) -> (Joiner, Option<Position>) {
    let mut requests = Vec::new();
    timeout(DEADLINE, pump.take_all(&mut requests)).await.expect("the pump is asked");
    match &requests[..] {
        [PumpRequest::Join { joiner, after, .. }] => (*joiner, after.lowest()),
        other => panic!("one join, not {other:?}"),
    }
}

/// Somebody who replays megabytes must not wait for a second behind each.
#[test]
fn the_next_page_is_asked_for_as_soon_as_the_last_has_left() {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let pump = Arc::new(Mailbox::new(1 << 20));
        let worker = worker(&pump);
        let (mut client, handoff) = connect(&worker);
        worker.adopt(handoff);
        worker.step(0, |shard, now| {
            let frame = r#"{"type":"subscribe","channel":"collection:42:*","position":"7-1"}"#;
            shard.frame(0, ClientFrame::parse(frame), now);
        });
        let (joiner, after) = joins(&pump).await;
        assert_eq!(after, Some(Position::new(7, 1)));
        let scope = Families::default().parse_scope("default/collection:42").unwrap();
        worker.handle(ToShard::Joined(joiner, Box::new(page(&scope))), &mut Vec::new());
        worker.flush_dirty().await;
        let mut requests = Vec::new();
        let early = timeout(Duration::ZERO, pump.take_all(&mut requests)).await;
        assert!(early.is_err(), "a client that has not read a page is read no other: {requests:?}");
        // The loop is not running: nothing but the socket tells the worker.
        let reader = std::thread::spawn(move || {
            let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
            while bytes < PAGE_BYTES {
                bytes += client.read(&mut buffer).expect("the worker writes");
            }
            client
        });
        assert_eq!(joins(&pump).await, (joiner, Some(Position::new(7, 4))));
        drop(reader.join());
    });
}

/// A shard that writes to thousands of clients is busy. Before, its first report came when all of them were done.
#[tokio::test]
async fn a_flush_that_makes_progress_is_a_report() {
    let pump = Arc::new(Mailbox::new(1 << 20));
    LocalSet::new()
        .run_until(async {
            let worker = worker(&pump);
            let (_client, handoff) = connect(&worker);
            worker.adopt(handoff);
            let began = Instant::now();
            worker.reported.set(began.checked_sub(FROZEN_AFTER).expect("the machine is up for longer"));
            worker.flush_dirty().await;
            assert!(worker.reported.get() >= began);
        })
        .await;
}
