//! Planted bugs that show only behind the load balancer. The fault is a guarantee that the lane `haproxy` tests; the
//! kind is the beginning of the failure text. The format is that of [`super::table`].

use super::table::{Edit, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[Mutant {
    name: "half-close: our direction ends with our close frame",
    edits: &[Edit {
        file: "crates/gateway/src/shard/table/closing.rs",
        old: "ends: state == ConnectionState::Finished, wake_ms }",
        new: "ends: true, wake_ms }",
    }],
    fault: "a_disconnected_client_gets_exactly_the_rest",
    kinds: &["repeats"],
}];
