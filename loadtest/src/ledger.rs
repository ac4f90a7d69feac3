//! Counts every expected delivery of every receiver, so that loss is a number and not an impression. Pure.
//!
//! Each stream of messages is numbered from the first one its receivers are owed. A number that is skipped opens
//! a hole; a number that comes late closes it, and is counted as misordered; a number that was already there
//! is a duplicate; what is still open at the end, or was never reached, is missing. A message of somebody else's
//! is misrouted.

use std::fmt;
use std::ops::Range;

/// One account per receiver.
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// Deliveries entered, whatever their number.
    delivered: u64,
    misrouted: u64,
}

#[derive(Debug)]
struct Account {
    /// The number that should come next.
    next: u64,
    /// Numbers passed over and not seen since.
    holes: Vec<Range<u64>>,
    duplicates: u64,
    misordered: u64,
}

/// What the books say once everything published should have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    /// Published but never seen, summed over the receivers.
    pub(crate) missing: u64,
    /// Seen again.
    pub(crate) duplicates: u64,
    /// Seen after a later one.
    pub(crate) misordered: u64,
    /// Seen although never published.
    pub(crate) invented: u64,
    /// Seen by somebody it was not for.
    pub(crate) misrouted: u64,
}

impl Balance {
    /// Whether every receiver got every message once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, duplicates, misordered, invented, misrouted } = self;
        write!(f, "{missing} missing, {duplicates} twice, {misordered} out of order, ")?;
        write!(f, "{invented} never published, {misrouted} for somebody else")
    }
}

impl Ledger {
    /// Opens the books: every one of `receivers` is owed the messages from `first` on.
    pub(crate) fn new(receivers: usize, first: u64) -> Self {
        let account = || Account { next: first, holes: Vec::new(), duplicates: 0, misordered: 0 };
        Self { accounts: std::iter::repeat_with(account).take(receivers).collect(), delivered: 0, misrouted: 0 }
    }

    /// Enters the delivery of message `number` to `receiver`.
    pub(crate) fn enter(&mut self, receiver: usize, number: u64) {
        self.delivered += 1;
        let account = &mut self.accounts[receiver];
        if number == account.next {
            account.next += 1;
        } else {
            account.enter_unexpected(number);
        }
    }

    /// Enters the delivery of a message that was for another receiver.
    pub(crate) fn enter_misrouted(&mut self) {
        self.delivered += 1;
        self.misrouted += 1;
    }

    /// Deliveries entered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Balances the books, when messages up to but not including `end(receiver)` have been published to each receiver.
    pub(crate) fn balance(&self, end: impl Fn(usize) -> u64) -> Balance {
        let mut balance = Balance { misrouted: self.misrouted, ..Balance::default() };
        for (receiver, account) in self.accounts.iter().enumerate() {
            let end = end(receiver);
            let open: u64 = account.holes.iter().map(|hole| hole.end - hole.start).sum();
            balance.missing += open + end.saturating_sub(account.next);
            balance.duplicates += account.duplicates;
            balance.misordered += account.misordered;
            balance.invented += account.next.saturating_sub(end);
        }
        balance
    }
}

impl Account {
    fn enter_unexpected(&mut self, number: u64) {
        if number > self.next {
            self.holes.push(self.next..number);
            self.next = number + 1;
            return;
        }
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&number)) else {
            self.duplicates += 1;
            return;
        };
        self.misordered += 1;
        let hole = self.holes.swap_remove(at);
        let rests = [hole.start..number, number + 1..hole.end];
        self.holes.extend(rests.into_iter().filter(|rest| !rest.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(numbers: &[u64], end: u64) -> Balance {
        let mut ledger = Ledger::new(2, 10);
        // Receiver 1 gets everything: the other one's faults must not hide in a sum.
        (10..end).for_each(|number| ledger.enter(1, number));
        numbers.iter().for_each(|number| ledger.enter(0, *number));
        ledger.balance(|_| end)
    }

    #[test]
    fn every_message_once_and_in_order_is_clean() {
        assert!(books(&[10, 11, 12, 13], 14).is_clean());
        assert!(books(&[], 10).is_clean());
    }

    #[test]
    fn a_lost_message_is_missing_wherever_it_stood() {
        assert_eq!(books(&[11, 12, 13], 14).missing, 1, "the first");
        assert_eq!(books(&[10, 12, 13], 14).missing, 1, "in the middle");
        assert_eq!(books(&[10, 11, 12], 14).missing, 1, "the last");
        assert_eq!(books(&[], 14).missing, 4, "all");
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_and_hides_no_loss() {
        let balance = books(&[10, 10, 12, 13], 14);
        assert_eq!(balance, Balance { missing: 1, duplicates: 1, ..Balance::default() });
    }

    #[test]
    fn a_late_message_is_misordered_and_not_missing() {
        assert_eq!(books(&[10, 12, 11, 13], 14), Balance { misordered: 1, ..Balance::default() });
        assert_eq!(books(&[13, 12, 11, 10], 14), Balance { misordered: 3, ..Balance::default() });
        assert_eq!(
            books(&[13, 11, 11, 10], 14),
            Balance { misordered: 2, missing: 1, duplicates: 1, ..Balance::default() }
        );
    }

    #[test]
    fn a_message_nobody_published_is_noticed() {
        assert_eq!(books(&[10, 11, 12], 12).invented, 1);
        assert_eq!(books(&[9, 10, 11], 12).duplicates, 1, "one from before the books were opened");
    }

    #[test]
    fn a_message_for_somebody_else_is_misrouted_and_the_owner_misses_it() {
        let mut ledger = Ledger::new(2, 0);
        ledger.enter(0, 0);
        ledger.enter_misrouted();
        let balance = ledger.balance(|receiver| [1, 1][receiver]);
        assert_eq!(balance, Balance { missing: 1, misrouted: 1, ..Balance::default() });
    }

    #[test]
    fn receivers_may_be_owed_different_numbers_of_messages() {
        let mut ledger = Ledger::new(2, 0);
        [0, 1].into_iter().for_each(|number| ledger.enter(0, number));
        ledger.enter(1, 0);
        assert!(ledger.balance(|receiver| [2, 1][receiver]).is_clean());
        assert_eq!(ledger.balance(|_| 2).missing, 1);
    }

    #[test]
    fn deliveries_are_counted_whatever_their_number() {
        let mut ledger = Ledger::new(1, 0);
        [0, 0, 5].into_iter().for_each(|number| ledger.enter(0, number));
        assert_eq!(ledger.delivered(), 3);
    }
}
