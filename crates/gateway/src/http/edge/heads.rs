//! Requests whose head has not arrived. A client that sends its head slowly holds a place that others need, so the
//! oldest goes first when places are short.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hashbrown::HashMap;
use tokio::sync::Notify;

use crate::http::client_address::AddressKey;

/// Slow heads of one address at most: an eighth of all places. A proxy that sends whole heads does not notice it.
const HEADS_PER_ADDRESS_MAX: usize = 512;

/// The heads in progress. Used by one thread.
#[derive(Debug, Default)]
pub(super) struct Heads(RefCell<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By number, so the oldest is first.
    by_number: BTreeMap<u64, (AddressKey, Rc<Notify>)>,
    by_address: HashMap<AddressKey, BTreeSet<u64>>,
    next: u64,
}

/// One head in progress. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Head<'h> {
    heads: &'h Heads,
    number: u64,
    /// Notified when this head has to make room.
    pub(super) evicted: Rc<Notify>,
}

impl Heads {
    /// A connection of this address begins to send its head. Above the limit of the address, its oldest goes.
    pub(super) fn begin(&self, address: AddressKey) -> Head<'_> {
        let mut table = self.0.borrow_mut();
        let number = table.next;
        table.next += 1;
        let evicted = Rc::new(Notify::new());
        table.by_number.insert(number, (address, Rc::clone(&evicted)));
        let numbers = table.by_address.entry(address).or_default();
        numbers.insert(number);
        if numbers.len() > HEADS_PER_ADDRESS_MAX {
            table.evict_oldest_of(address);
        }
        Head { heads: self, number, evicted }
    }

    /// All places are taken: of the address with the most heads in progress, the oldest goes. Returns false if there is
    /// none.
    pub(super) fn evict(&self) -> bool {
        let mut table = self.0.borrow_mut();
        // Of several with as many, the one whose head is the oldest.
        let rank =
            |(_, numbers): &(&AddressKey, &BTreeSet<u64>)| (numbers.len(), std::cmp::Reverse(numbers.first().copied()));
        let most = table.by_address.iter().max_by_key(rank).map(|(address, _)| *address);
        most.is_some_and(|address| table.evict_oldest_of(address))
    }
}

impl Table {
    fn evict_oldest_of(&mut self, address: AddressKey) -> bool {
        let oldest = self.by_address.get(&address).and_then(BTreeSet::first).copied();
        let Some(number) = oldest else { return false };
        if let Some((_, evicted)) = self.by_number.get(&number) {
            evicted.notify_one();
        }
        self.remove(number);
        true
    }

    fn remove(&mut self, number: u64) {
        let Some((address, _)) = self.by_number.remove(&number) else { return };
        if let Some(numbers) = self.by_address.get_mut(&address) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Head<'_> {
    fn drop(&mut self) {
        self.heads.0.borrow_mut().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> AddressKey {
        AddressKey::of([192, 0, 2, last].into())
    }

    async fn is_evicted(head: &Head<'_>) -> bool {
        tokio::time::timeout(Duration::ZERO, head.evicted.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_head_of_the_address_with_the_most_goes_first() {
        let heads = Heads::default();
        let honest = heads.begin(address(1));
        let [first, second] = [heads.begin(address(2)), heads.begin(address(2))];
        assert!(heads.evict());
        assert!(is_evicted(&first).await && !is_evicted(&second).await && !is_evicted(&honest).await);
        // One each: the older one.
        assert!(heads.evict());
        assert!(is_evicted(&honest).await && !is_evicted(&second).await);
        assert!(heads.evict() && is_evicted(&second).await);
        assert!(!heads.evict(), "there is none");
        drop((honest, first, second));
        assert!(heads.0.borrow().by_number.is_empty() && heads.0.borrow().by_address.is_empty());
    }

    #[tokio::test]
    async fn one_address_has_a_part_of_the_places() {
        let heads = Heads::default();
        let honest = heads.begin(address(1));
        let many: Vec<_> = (0..=HEADS_PER_ADDRESS_MAX).map(|_| heads.begin(address(2))).collect();
        assert!(is_evicted(&many[0]).await && !is_evicted(&many[1]).await && !is_evicted(&honest).await);
    }
}
