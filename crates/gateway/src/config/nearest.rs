//! Finds the known name that is closest to a misspelt one.

/// Returns the element of `known` that is closest to `name`; of equally close ones, the first. A name that begins
/// with `name` is closer than any misspelt name.
///
/// # Panics
/// If `known` is empty.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    known
        .min_by_key(|candidate| (!candidate.starts_with(name), distance(name, candidate)))
        .expect("`known` is not empty")
}

/// Levenshtein distance in bytes, computed row by row: the number of insertions, deletions and replacements.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte_a) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, byte_b) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte_a != byte_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
