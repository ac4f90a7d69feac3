//! PURE. When tables give memory back after many connections have closed.

/// Tables up to this size are not made smaller.
pub(super) const TABLE_KEPT: usize = 1_024;

/// Whether less than a quarter of a table is used.
pub(crate) fn should_shrink(capacity: usize, len: usize) -> bool {
    capacity > TABLE_KEPT && capacity / 4 > len
}

/// By how much a table with one row per connection grows: doubling would leave up to half of it empty.
pub(crate) fn growth(len: usize) -> usize {
    (len / 8).max(64)
}
