//! The connections whose request head has not arrived yet. When there are too many, the one that has waited longest is
//! given up: a client that sends its head slowly, or not at all, cannot keep others out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

/// The waiting connections of one port, used by one thread.
#[derive(Debug)]
pub(crate) struct WaitingHeads {
    most: usize,
    /// In the order of arrival, by number.
    waiting: RefCell<VecDeque<(u64, Rc<Notify>)>>,
    next: Cell<u64>,
}

/// One connection whose head is awaited.
#[derive(Debug)]
pub(crate) struct WaitingHead {
    heads: Rc<WaitingHeads>,
    number: u64,
    given_up: Rc<Notify>,
}

impl WaitingHeads {
    /// Room for `most` connections.
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { most, waiting: RefCell::default(), next: Cell::new(0) })
    }

    /// One more connection. If there is no room, the oldest is given up.
    pub(crate) fn enter(self: &Rc<Self>) -> WaitingHead {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.len() >= self.most
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        let (number, given_up) = (self.next.get(), Rc::new(Notify::new()));
        self.next.set(number + 1);
        waiting.push_back((number, Rc::clone(&given_up)));
        WaitingHead { heads: Rc::clone(self), number, given_up }
    }
}

impl WaitingHead {
    /// The head is here: the connection is no longer given up for others.
    pub(crate) fn arrived(&self) {
        let mut waiting = self.heads.waiting.borrow_mut();
        if let Ok(at) = waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            waiting.remove(at);
        }
    }

    /// Waits until the connection is given up. Never returns if its head arrives first.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

impl Drop for WaitingHead {
    fn drop(&mut self) {
        self.arrived();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_given_up(head: &WaitingHead) -> bool {
        head.given_up().now_or_never().is_some()
    }

    #[test]
    fn the_one_that_waits_longest_goes_first_and_nobody_whose_head_is_here() {
        let heads = WaitingHeads::new(3);
        let [first, second, third] = [(); 3].map(|()| heads.enter());
        second.arrived();
        let fourth = heads.enter();
        assert!(!is_given_up(&first), "one place was free");
        let fifth = heads.enter();
        assert!(is_given_up(&first) && !is_given_up(&second) && !is_given_up(&third));
        drop(third);
        let sixth = heads.enter();
        assert!(!is_given_up(&fourth), "one place was free");
        let seventh = heads.enter();
        assert!(is_given_up(&fourth) && !is_given_up(&second));
        assert!([fifth, sixth, seventh].iter().all(|head| !is_given_up(head)));
        first.arrived(); // It is out already.
        assert_eq!(heads.waiting.borrow().len(), 0);
    }
}
