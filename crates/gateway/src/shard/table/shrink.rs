//! PURE. When tables release memory after many connections have closed.

/// Tables of at most this many entries are not shrunk.
pub(super) const TABLE_KEPT: usize = 1_024;

/// Whether less than a quarter of a table is used.
pub(crate) fn should_shrink(capacity: usize, len: usize) -> bool {
    capacity > TABLE_KEPT && capacity / 4 > len
}

/// How many entries a table with one row per connection grows by. Doubling would leave up to half of it empty.
pub(crate) fn growth(len: usize) -> usize {
    (len / 8).max(64)
}
