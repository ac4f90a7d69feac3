//! Clients that wait for a place while the instance is full.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;

/// Clients that wait at most. `maxqueue` in `haproxy.cfg` has the same value.
const WAITING_MAX: usize = 100;
/// How long a client waits. `timeout queue` in `haproxy.cfg` has the same value.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the first client looks for a place. Places become free on other threads.
const POLL: Duration = Duration::from_millis(20);

/// A queue in front of a full instance. Used by one thread.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    waiting: Cell<usize>,
    /// Held by the client that is first. The others wait for it in the order of their arrival.
    first: Mutex<()>,
}

/// One client in the queue.
struct Waiting<'r>(&'r Cell<usize>);

impl WaitingRoom {
    /// Whether a client may take a place at once: there is one, and nobody waits for it.
    pub(super) fn is_passed(&self, has_room: impl Fn() -> bool) -> bool {
        self.waiting.get() == 0 && has_room()
    }

    /// Waits for this client's turn, and until `has_room`. Returns false if the queue or the time is over. The caller
    /// takes the place before it waits for anything else. `make_room` is called once, when the client is first and
    /// there is none.
    pub(super) async fn enter(&self, has_room: impl Fn() -> bool, make_room: impl FnOnce()) -> bool {
        if self.is_passed(&has_room) {
            return true; // Usually.
        }
        if self.waiting.get() >= WAITING_MAX {
            return false;
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        let turn = async {
            let _first = self.first.lock().await;
            if !has_room() {
                make_room();
            }
            while !has_room() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, turn).await.is_ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn a_bounded_number_waits_in_order_and_not_for_ever() {
        let (room, places, entered) = (Rc::new(WaitingRoom::default()), Rc::new(Cell::new(1)), Rc::new(Cell::new(0)));
        let enter = |number: usize| {
            let (room, places, entered) = (Rc::clone(&room), Rc::clone(&places), Rc::clone(&entered));
            async move {
                let is_in = room.enter(|| places.get() > 0, || ()).await;
                if is_in {
                    assert_eq!(entered.replace(number), number - 1, "in the order of arrival");
                    places.set(places.get() - 1);
                }
                is_in
            }
        };
        let test = async {
            assert!(enter(1).await, "there is room");
            let mut waiting = Vec::new();
            for number in 2..WAITING_MAX + 2 {
                waiting.push(tokio::task::spawn_local(enter(number)));
                yield_now().await;
            }
            assert!(!enter(1_000).await, "the queue is full");
            places.set(3);
            let mut taken = 0;
            for waiting in waiting {
                taken += usize::from(waiting.await.unwrap());
            }
            assert_eq!((taken, places.get()), (3, 0));
            assert_eq!(room.waiting.get(), 0, "who gave up has left the queue");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn the_first_asks_for_room_once() {
        let (room, asked) = (WaitingRoom::default(), Cell::new(0));
        assert!(room.enter(|| asked.get() > 0, || asked.set(asked.get() + 1)).await);
        assert!(!room.enter(|| false, || asked.set(asked.get() + 1)).await);
        assert_eq!(asked.get(), 2);
    }
}
