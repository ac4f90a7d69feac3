//! `docs/redis.md` shows the table that this crate prints.

use keyspace::Keyspace;

const BEGIN: &str = "<!-- footprint: begin -->\n";
const END: &str = "<!-- footprint: end -->";

#[test]
fn the_documented_footprint_is_the_printed_one() {
    let doc = include_str!("../../../docs/redis.md");
    let (_, rest) = doc.split_once(BEGIN).expect("the section has a beginning");
    let (section, _) = rest.split_once(END).expect("the section has an end");
    let printed = Keyspace::footprint_table();
    assert_eq!(section, printed, "put this between the two marks in docs/redis.md:\n\n{printed}");
}
