//! One client's TLS over its TCP socket, without an extra task or buffer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use rustls::ServerConnection;
use tokio::net::TcpStream;

use super::Session;

/// Bytes that may be encrypted while the socket is full: two full records.
const RECORDS_BYTES_MAX: usize = 32 * 1024;

/// A socket whose bytes are TLS records.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TcpStream,
    /// Never borrowed across an await, because the reader and the flusher of a connection are two tasks.
    session: RefCell<Session>,
    /// The last byte of a write whose records are not all in the socket yet (see [`TlsSocket::try_write`]).
    held_back: Cell<Option<u8>>,
}

impl TlsSocket {
    /// Registers a non-blocking socket with the runtime of the calling thread, and continues the edge's TLS session.
    pub(crate) fn register(stream: std::net::TcpStream, mut session: Session) -> io::Result<Self> {
        session.set_buffer_limit(Some(RECORDS_BYTES_MAX));
        let stream = TcpStream::from_std(stream)?;
        Ok(Self { stream, session: RefCell::new(session), held_back: Cell::new(None) })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits until a read may succeed. Only one task may wait.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        // No event announces decrypted bytes in the session, for example bytes that came with the upgrade.
        if !self.session.borrow().wants_read() {
            return Ok(());
        }
        poll_fn(|context| self.stream.poll_read_ready(context)).await
    }

    /// Waits until the socket has room.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Reads decrypted bytes. 0 means that the client has sent `close_notify`. An end without it is an error.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            session.read_tls(&mut Records(&self.stream))?;
            if let Err(error) = session.process_new_packets() {
                // Sends the alert with the cause, which may appear in the client's log.
                drop(self.send(&mut session));
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    /// Encrypts and sends as many of `bytes` as the socket takes.
    ///
    /// Bytes must be encrypted before it is known whether the socket takes them, and cannot be taken back. If the
    /// socket is full after all of `bytes` has been encrypted, the last byte is not counted until its record is in the
    /// socket. So the caller waits for the socket and calls again. The caller's next bytes start with that byte: it is
    /// the end of a frame whose write has begun, and such a frame is neither overtaken nor dropped.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        self.send(&mut session)?;
        let mut taken = 0;
        if let Some(byte) = self.held_back.take() {
            debug_assert_eq!(bytes.first(), Some(&byte), "a frame that was begun is written to its end");
            taken = 1;
        }
        while taken < bytes.len() {
            match session.writer().write(&bytes[taken..])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => taken += n,
            }
            match self.send(&mut session) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if taken == bytes.len() {
                        self.held_back.set(bytes.last().copied());
                        taken -= 1;
                    }
                    return Ok(taken);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Sends `close_notify`, and shuts the connection down in the given direction.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        // If the socket is full, the client does not receive `close_notify`. It does not need it: the close frame, also
        // encrypted, had the same meaning.
        drop(self.send(&mut session));
        // This fails only if the client has already disconnected.
        drop(socket2::SockRef::from(&self.stream).shutdown(how));
    }

    /// Writes all waiting records. Fails with `WouldBlock` if the socket does not take them all.
    fn send(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            match session.write_tls(&mut Records(&self.stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The TCP socket with the traits that rustls needs.
struct Records<'s>(&'s TcpStream);

impl Read for Records<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
