//! Writes the outboxes of a shard to its sockets.

use super::*;

impl Worker {
    /// Writes to every connection that has something to write, in slices, until none has.
    pub(super) async fn flush_dirty(self: &Rc<Self>) {
        let mut dirty = self.dirty.take();
        loop {
            self.shard.borrow_mut().take_dirty(&mut dirty);
            if dirty.is_empty() {
                break;
            }
            let mut slice_start = Instant::now();
            self.report_progress(slice_start);
            self.check_lease(slice_start);
            for (n, slot) in (1..).zip(dirty.drain(..)) {
                self.flush(slot);
                if n % WRITES_PER_TURN == 0 || (n % 32 == 0 && slice_start.elapsed() >= WRITE_SLICE_MAX) {
                    task::yield_now().await;
                    slice_start = Instant::now();
                    self.report_progress(slice_start);
                    self.check_lease(slice_start);
                }
            }
        }
        self.dirty.replace(dirty);
        // A client whose outbox is empty may need the next page of its replay.
        self.forward();
    }

    /// Makes one write. What does not fit waits for the socket. Further entries wait for the next round.
    pub(super) fn flush(self: &Rc<Self>, slot: Slot) {
        let Some(socket) = self.sockets.get(slot) else { return };
        let mut scratch = self.scratch_out.borrow_mut();
        let flushed = self.shard.borrow_mut().flush(slot, self.clock.now(), &mut scratch, |bytes| {
            self.counters.writes.add(1);
            let n = socket.try_write(bytes)?;
            self.counters.bytes_out.add(n as u64);
            Ok(n)
        });
        // The reader gets the same error and removes the connection.
        let Ok(Flushed { is_blocked, ends, wake_ms }) = flushed else { return socket.shutdown(Shutdown::Both) };
        if ends {
            // The other direction stays open until the client closes it, or its time is over.
            socket.shutdown(Shutdown::Write);
        }
        if let Some(at_ms) = wake_ms {
            self.wheel.borrow_mut().schedule(slot, at_ms);
        }
        if is_blocked {
            self.wait_for(slot, &socket);
        }
    }

    /// Flushes a connection again when its socket has room.
    pub(super) fn wait_for(self: &Rc<Self>, slot: Slot, socket: &Rc<Socket>) {
        let (worker, socket) = (Rc::clone(self), Rc::clone(socket));
        let is_bounded = !self.shard.borrow().has_answers(slot);
        if is_bounded {
            socket.set_user_timeout(self.silence.full);
        }
        task::spawn_local(async move {
            // The reader handles errors. Here an error only ends the wait.
            drop(socket.writable().await);
            if is_bounded {
                socket.set_user_timeout(worker.silence.unacknowledged);
            }
            worker.unblock(slot, &socket);
            worker.flush_dirty().await;
        });
    }

    pub(super) fn unblock(self: &Rc<Self>, slot: Slot, socket: &Rc<Socket>) {
        if !self.sockets.has(slot, socket) {
            return; // The slot belongs to another connection now.
        }
        self.shard.borrow_mut().unblock(slot);
    }
}
