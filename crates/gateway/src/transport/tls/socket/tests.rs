//! A [`TlsSocket`] as a shard gets it, and rustls' own client at the other end of a real TCP connection.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::transport::hand_over::HandOver as _;
use crate::transport::tls::Tls;

const CERTIFICATE: &[u8] = include_bytes!("../../../../tests/keys/test_only_tls_certificate.pem");
const KEY: &[u8] = include_bytes!("../../../../tests/keys/test_only_tls_key.pem");

/// Long enough for a slow machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// Small, so that a few writes fill them.
const KERNEL_BUFFER_BYTES: usize = 8 * 1024;

type Client = client::TlsStream<TcpStream>;

/// Both ends. `before` is sent by the client and `taken` bytes of it are read at the edge before the hand-over.
async fn pair_after(before: &[u8], taken: usize) -> (TlsSocket, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Inherited by what is accepted.
    socket2::SockRef::from(&listener).set_send_buffer_size(KERNEL_BUFFER_BYTES).unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES as u32).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let connect = async {
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let mut client = connector.connect("gateway".try_into().unwrap(), stream).await.unwrap();
        client.write_all(before).await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = Tls::from_pem(CERTIFICATE, KEY).unwrap().accept(stream).await.unwrap();
        stream.read_exact(&mut vec![0; taken]).await.unwrap();
        stream.hand_over().await.unwrap()
    };
    let (client, (stream, session)) = tokio::join!(connect, accept);
    (TlsSocket::register(stream, session.expect("it spoke TLS")).unwrap(), client)
}

async fn pair() -> (TlsSocket, Client) {
    pair_after(b"", 0).await
}

/// As a connection's loop reads: waits, then takes what is there.
async fn read(socket: &TlsSocket) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        timeout(PATIENCE, socket.readable()).await.expect("something to read")?;
        match socket.try_read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read.map(|n| bytes[..n].to_vec()),
        }
    }
}

/// As a shard writes: brings again what was not taken, waits only when told that the socket is full.
async fn write(socket: &TlsSocket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(n) => {
                let full = n < bytes.len();
                bytes = &bytes[n..];
                if !full {
                    continue;
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        timeout(PATIENCE, socket.writable()).await.expect("the client reads").unwrap();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn what_the_edge_has_decrypted_is_read_first_and_needs_no_event() {
    let (socket, _client) = pair_after(b"request and frame", 8).await;
    assert_eq!(read(&socket).await.unwrap(), b"and frame");
    // And nothing is made up behind it.
    let error = socket.try_read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_write_is_counted_whole_only_when_all_of_it_is_on_the_socket() {
    let (socket, mut client) = pair().await;
    let message = pattern(1_000);
    let mut sent = Vec::new();
    let rest = loop {
        match socket.try_write(&message) {
            Ok(n) if n == message.len() => {
                assert!(!socket.session.borrow().wants_write(), "counted, and its record still waits");
                sent.extend_from_slice(&message);
            }
            Ok(n) => {
                sent.extend_from_slice(&message);
                break &message[n..];
            }
            Err(error) => panic!("a full socket is noticed by the write that fills it: {error}"),
        }
    };
    assert_eq!(rest.len(), 1, "all was encrypted, all but a byte is counted");
    let error = socket.try_write(rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the socket is still full");
    // The caller brings the byte again, with more behind it; the client sees it once.
    let again = [rest, &message].concat();
    sent.extend_from_slice(&message);
    let mut received = vec![0; sent.len()];
    let (_, read) = tokio::join!(write(&socket, &again), timeout(PATIENCE, client.read_exact(&mut received)));
    read.expect("everything arrives without another call").unwrap();
    assert!(received == sent, "in order, nothing twice, nothing missing");
}

#[tokio::test]
async fn a_large_write_is_encrypted_little_by_little() {
    let (socket, mut client) = pair().await;
    let message = pattern(1 << 20);
    let taken = socket.try_write(&message).unwrap();
    assert!(taken < message.len(), "the socket holds less");
    let waiting = socket.session.borrow_mut().process_new_packets().unwrap().tls_bytes_to_write();
    assert!((1..RECORDS_BYTES_MAX + 1024).contains(&waiting), "{waiting} bytes encrypted ahead");
    let mut received = vec![0; message.len()];
    let (_, read) =
        tokio::join!(write(&socket, &message[taken..]), timeout(PATIENCE, client.read_exact(&mut received)));
    read.expect("everything arrives").unwrap();
    assert!(received == message);
}

#[tokio::test]
async fn a_record_in_pieces_is_waited_for() {
    let (socket, client) = pair().await;
    let (mut stream, mut session) = client.into_inner();
    session.writer().write_all(b"whole").unwrap();
    let mut record = Vec::new();
    session.write_tls(&mut record).unwrap();
    for byte in &record[..record.len() - 1] {
        stream.write_all(&[*byte]).await.unwrap();
        timeout(PATIENCE, socket.readable()).await.expect("a byte").unwrap();
        assert_eq!(socket.try_read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    stream.write_all(&record[record.len() - 1..]).await.unwrap();
    assert_eq!(read(&socket).await.unwrap(), b"whole");
}

#[tokio::test]
async fn close_notify_is_the_end_and_a_bare_end_is_an_error() {
    let (socket, client) = pair().await;
    let (mut stream, mut session) = client.into_inner();
    session.writer().write_all(b"last").unwrap();
    session.send_close_notify();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    // The TCP connection stays open: the alert alone says it.
    stream.write_all(&records).await.unwrap();
    assert_eq!(read(&socket).await.unwrap(), b"last");
    assert_eq!(read(&socket).await.unwrap(), b"");
    assert_eq!(read(&socket).await.unwrap(), b"", "and so it stays");

    let (socket, client) = pair().await;
    let (mut stream, _session) = client.into_inner();
    stream.shutdown().await.unwrap();
    assert_eq!(read(&socket).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn shutdown_says_that_nothing_more_comes() {
    let (socket, mut client) = pair().await;
    write(&socket, b"bye").await;
    socket.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    // rustls gives an error for an end without close_notify.
    timeout(PATIENCE, client.read_to_end(&mut received)).await.expect("the end").unwrap();
    assert_eq!(received, b"bye");
    // The other direction is open still.
    client.write_all(b"you too").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(read(&socket).await.unwrap(), b"you too");
    let (mut stream, _session) = client.into_inner();
    let end = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("TCP ends in this direction too");
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_that_is_cut_ends_for_its_own_reader_too() {
    let (socket, _client) = pair().await;
    socket.shutdown(Shutdown::Both);
    // Not by a close_notify, which the client has not said.
    assert_eq!(read(&socket).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_forged_record_ends_the_connection_and_the_client_is_told_why() {
    let (socket, client) = pair().await;
    let (mut stream, mut session) = client.into_inner();
    // Application data that no key of this session has sealed.
    stream.write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).await.unwrap();
    assert_eq!(read(&socket).await.unwrap_err().kind(), ErrorKind::InvalidData);
    drop(socket);
    let mut records = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut records)).await.expect("the end").unwrap();
    let mut records = &records[..];
    while !records.is_empty() {
        session.read_tls(&mut records).unwrap();
        if let Err(error) = session.process_new_packets() {
            assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
            return;
        }
    }
    panic!("no alert");
}
