//! Counts every expected delivery of every receiver, so that loss is an exact number. Pure.
//!
//! Each stream of messages is numbered from the first message that its receivers expect. A skipped number opens a hole.
//! A late number closes the hole and counts as misordered. A number that was already received is a duplicate. A number
//! that is still open at the end, or was never reached, is missing. A message for another receiver is misrouted.

use std::fmt;
use std::ops::Range;

/// One tally per receiver, and the totals.
#[derive(Debug)]
pub(crate) struct DeliveryTally {
    tallies: Vec<ReceiverTally>,
    /// Number of recorded deliveries, duplicates included.
    delivered: u64,
    misrouted: u64,
}

#[derive(Debug)]
struct ReceiverTally {
    /// The number that is expected next.
    next: u64,
    /// Skipped numbers that have not been received since.
    holes: Vec<Range<u64>>,
    duplicates: u64,
    misordered: u64,
}

/// The result of the tally after every published message should have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeliveryCounts {
    /// Messages that were published but never received, summed over the receivers.
    pub(crate) missing: u64,
    /// Messages that were received again.
    pub(crate) duplicates: u64,
    /// Messages that were received after a later one.
    pub(crate) misordered: u64,
    /// Messages that were received although they were never published.
    pub(crate) invented: u64,
    /// Messages that a wrong receiver received.
    pub(crate) misrouted: u64,
}

impl DeliveryCounts {
    /// Whether every receiver received every message once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for DeliveryCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, duplicates, misordered, invented, misrouted } = self;
        write!(f, "{missing} missing, {duplicates} twice, {misordered} out of order, ")?;
        write!(f, "{invented} never published, {misrouted} for somebody else")
    }
}

impl DeliveryTally {
    /// A tally in which each of `receivers` expects the messages from `first` on.
    pub(crate) fn new(receivers: usize, first: u64) -> Self {
        let tally = || ReceiverTally { next: first, holes: Vec::new(), duplicates: 0, misordered: 0 };
        Self { tallies: std::iter::repeat_with(tally).take(receivers).collect(), delivered: 0, misrouted: 0 }
    }

    /// Records the delivery of message `number` to `receiver`.
    pub(crate) fn record_delivery(&mut self, receiver: usize, number: u64) {
        self.delivered += 1;
        let tally = &mut self.tallies[receiver];
        if number == tally.next {
            tally.next += 1;
        } else {
            tally.record_unexpected(number);
        }
    }

    /// Records the delivery of a message that was for another receiver.
    pub(crate) fn record_misrouted(&mut self) {
        self.delivered += 1;
        self.misrouted += 1;
    }

    /// Number of deliveries recorded so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Compares the records with the published messages: those before `end(receiver)` were published to each receiver.
    pub(crate) fn counts(&self, end: impl Fn(usize) -> u64) -> DeliveryCounts {
        let mut counts = DeliveryCounts { misrouted: self.misrouted, ..DeliveryCounts::default() };
        for (receiver, tally) in self.tallies.iter().enumerate() {
            let end = end(receiver);
            let open: u64 = tally.holes.iter().map(|hole| hole.end - hole.start).sum();
            counts.missing += open + end.saturating_sub(tally.next);
            counts.duplicates += tally.duplicates;
            counts.misordered += tally.misordered;
            counts.invented += tally.next.saturating_sub(end);
        }
        counts
    }
}

impl ReceiverTally {
    fn record_unexpected(&mut self, number: u64) {
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

    fn tally_of(numbers: &[u64], end: u64) -> DeliveryCounts {
        let mut delivery_tally = DeliveryTally::new(2, 10);
        // Receiver 1 receives everything. A sum over both must not hide the faults of the other one.
        (10..end).for_each(|number| delivery_tally.record_delivery(1, number));
        numbers.iter().for_each(|number| delivery_tally.record_delivery(0, *number));
        delivery_tally.counts(|_| end)
    }

    #[test]
    fn every_message_once_and_in_order_is_clean() {
        assert!(tally_of(&[10, 11, 12, 13], 14).is_clean());
        assert!(tally_of(&[], 10).is_clean());
    }

    #[test]
    fn a_lost_message_is_missing_wherever_it_stood() {
        assert_eq!(tally_of(&[11, 12, 13], 14).missing, 1, "the first");
        assert_eq!(tally_of(&[10, 12, 13], 14).missing, 1, "in the middle");
        assert_eq!(tally_of(&[10, 11, 12], 14).missing, 1, "the last");
        assert_eq!(tally_of(&[], 14).missing, 4, "all");
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_and_hides_no_loss() {
        let counts = tally_of(&[10, 10, 12, 13], 14);
        assert_eq!(counts, DeliveryCounts { missing: 1, duplicates: 1, ..DeliveryCounts::default() });
    }

    #[test]
    fn a_late_message_is_misordered_and_not_missing() {
        assert_eq!(tally_of(&[10, 12, 11, 13], 14), DeliveryCounts { misordered: 1, ..DeliveryCounts::default() });
        assert_eq!(tally_of(&[13, 12, 11, 10], 14), DeliveryCounts { misordered: 3, ..DeliveryCounts::default() });
        assert_eq!(
            tally_of(&[13, 11, 11, 10], 14),
            DeliveryCounts { misordered: 2, missing: 1, duplicates: 1, ..DeliveryCounts::default() }
        );
    }

    #[test]
    fn a_message_nobody_published_is_noticed() {
        assert_eq!(tally_of(&[10, 11, 12], 12).invented, 1);
        assert_eq!(tally_of(&[9, 10, 11], 12).duplicates, 1, "one from before the books were opened");
    }

    #[test]
    fn a_message_for_somebody_else_is_misrouted_and_the_owner_misses_it() {
        let mut delivery_tally = DeliveryTally::new(2, 0);
        delivery_tally.record_delivery(0, 0);
        delivery_tally.record_misrouted();
        let counts = delivery_tally.counts(|receiver| [1, 1][receiver]);
        assert_eq!(counts, DeliveryCounts { missing: 1, misrouted: 1, ..DeliveryCounts::default() });
    }

    #[test]
    fn receivers_may_be_owed_different_numbers_of_messages() {
        let mut delivery_tally = DeliveryTally::new(2, 0);
        [0, 1].into_iter().for_each(|number| delivery_tally.record_delivery(0, number));
        delivery_tally.record_delivery(1, 0);
        assert!(delivery_tally.counts(|receiver| [2, 1][receiver]).is_clean());
        assert_eq!(delivery_tally.counts(|_| 2).missing, 1);
    }

    #[test]
    fn deliveries_are_counted_whatever_their_number() {
        let mut delivery_tally = DeliveryTally::new(1, 0);
        [0, 0, 5].into_iter().for_each(|number| delivery_tally.record_delivery(0, number));
        assert_eq!(delivery_tally.delivered(), 3);
    }
}
