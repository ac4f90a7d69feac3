//! How many connections each client address has, and how fast it opens them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::host::rate::{Rate, RateLimit};
use crate::http::client_address::AddressKey;
use crate::shard::reservation::AddressPlace;

/// Limits of one address: an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressLimits {
    /// Most connections.
    pub(crate) connections_max: u64,
    /// Most attempts per second, in the long run and at once; 0 means no limit.
    pub(crate) connects_per_second: u32,
}

/// When a client may come back if its address has too many connections, in milliseconds.
const COME_BACK_MS: u64 = 5_000;
/// How often addresses without connections are forgotten, in milliseconds.
const SWEEP_MS: u64 = 1_000;

/// The addresses that are connected, or were a moment ago. Used by one thread.
#[derive(Debug)]
pub(super) struct Addresses {
    by_key: RefCell<HashMap<AddressKey, Address>>,
    limits: AddressLimits,
    swept_ms: Cell<u64>,
}

#[derive(Debug, Default)]
struct Address {
    /// Each connection has a clone.
    places: Arc<()>,
    attempts: Rate,
}

/// Why an address gets no further connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressRefusal {
    pub(super) message: &'static str,
    pub(super) retry_after_ms: u64,
}

impl Addresses {
    pub(super) fn new(limits: AddressLimits) -> Self {
        Self { by_key: RefCell::default(), limits, swept_ms: Cell::new(0) }
    }

    /// Counts one more connection of an address, or refuses it.
    pub(super) fn enter(&self, key: AddressKey, now_ms: u64) -> Result<AddressPlace, AddressRefusal> {
        self.sweep(now_ms);
        let AddressLimits { connections_max, connects_per_second } = self.limits;
        let mut by_key = self.by_key.borrow_mut();
        let address = by_key.entry(key).or_default();
        if connects_per_second > 0 {
            let limit = RateLimit::new(connects_per_second, connects_per_second);
            address.attempts.take(limit, now_ms).map_err(|retry_after_ms| AddressRefusal {
                message: "too many connection attempts from this address; come back a little later",
                retry_after_ms,
            })?;
        }
        if address.connections() >= connections_max {
            let message = "this address has as many connections as it may; close one, or come back later";
            return Err(AddressRefusal { message, retry_after_ms: COME_BACK_MS });
        }
        Ok(AddressPlace::new(&address.places))
    }

    fn sweep(&self, now_ms: u64) {
        if now_ms < self.swept_ms.get() + SWEEP_MS {
            return;
        }
        self.swept_ms.set(now_ms);
        let mut by_key = self.by_key.borrow_mut();
        by_key.retain(|_, address| address.connections() > 0 || !address.attempts.is_idle(now_ms));
        if by_key.capacity() > 64 && by_key.len() < by_key.capacity() / 4 {
            by_key.shrink_to_fit();
        }
    }
}

impl Address {
    fn connections(&self) -> u64 {
        Arc::strong_count(&self.places) as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AddressKey {
        AddressKey::of(text.parse().unwrap())
    }

    fn addresses(connections_max: u64, connects_per_second: u32) -> Addresses {
        Addresses::new(AddressLimits { connections_max, connects_per_second })
    }

    #[test]
    fn an_address_has_so_many_connections_and_the_others_have_theirs() {
        let addresses = addresses(2, 0);
        let enter = |text| addresses.enter(key(text), 10);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::ffff:1").unwrap();
        assert_eq!(enter("2001:db8::2").unwrap_err().retry_after_ms, COME_BACK_MS, "the same /64");
        let _others =
            [enter("2001:db8:0:1::1").unwrap(), enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_err(), "the same address in another spelling");
        drop(first);
        assert!(enter("2001:db8::2").is_ok(), "a place is free again");
    }

    #[test]
    fn attempts_are_limited_whether_or_not_they_stay() {
        let addresses = addresses(1_000, 10);
        let attempts = (0..30).filter(|_| addresses.enter(key("192.0.2.1"), 5_000).is_ok()).count();
        assert_eq!(attempts, 10);
        let refusal = addresses.enter(key("192.0.2.1"), 5_000).unwrap_err();
        assert_eq!(refusal.retry_after_ms, 100);
        assert!(addresses.enter(key("192.0.2.2"), 5_000).is_ok());
        assert!(addresses.enter(key("192.0.2.1"), 5_100).is_ok());
    }

    #[test]
    fn addresses_that_have_left_are_forgotten() {
        let addresses = addresses(1_000, 10);
        for last in 0..=255 {
            drop(addresses.enter(AddressKey::of([192, 0, 2, last].into()), 1_000));
        }
        let _stays = addresses.enter(key("192.0.2.7"), 1_000).unwrap();
        drop(addresses.enter(key("198.51.100.1"), 3_000));
        assert_eq!(addresses.by_key.borrow().len(), 2);
    }
}
