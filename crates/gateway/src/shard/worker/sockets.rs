//! The sockets of the connections of one shard.

use std::cell::{Ref, RefCell};
use std::net::Shutdown;
use std::rc::Rc;

use crate::shard::members::Slot;
use crate::shard::table::{growth, should_shrink};
use crate::transport::socket::Socket;

/// Sockets by the slots of their connections.
#[derive(Debug, Default)]
pub(super) struct Sockets(RefCell<Vec<Option<Rc<Socket>>>>);

impl Sockets {
    pub(super) fn insert(&self, slot: Slot, socket: Rc<Socket>) {
        let mut sockets = self.0.borrow_mut();
        let at = slot as usize;
        if sockets.len() <= at {
            let more = at + 1 - sockets.len() + growth(sockets.len());
            sockets.reserve_exact(more);
            let capacity = sockets.capacity();
            sockets.resize_with(capacity, || None);
        }
        sockets[at] = Some(socket);
    }

    pub(super) fn get(&self, slot: Slot) -> Option<Ref<'_, Rc<Socket>>> {
        Ref::filter_map(self.0.borrow(), |sockets| sockets.get(slot as usize)?.as_ref()).ok()
    }

    pub(super) fn remove(&self, slot: Slot) {
        drop(self.0.borrow_mut().get_mut(slot as usize).and_then(Option::take));
    }

    /// Whether the slot still belongs to the connection of this socket.
    pub(super) fn has(&self, slot: Slot, socket: &Rc<Socket>) -> bool {
        self.get(slot).is_some_and(|other| Rc::ptr_eq(&other, socket))
    }

    /// Shuts down all sockets. Their readers notice it and remove the connections.
    pub(super) fn shut_down_all(&self) {
        for socket in self.0.borrow().iter().flatten() {
            socket.shutdown(Shutdown::Both);
        }
    }

    /// Shrinks the table after many connections have closed.
    pub(super) fn shrink(&self) {
        let mut sockets = self.0.borrow_mut();
        let used = sockets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if should_shrink(sockets.capacity(), used) {
            sockets.truncate(used);
            sockets.shrink_to_fit();
        }
    }
}
