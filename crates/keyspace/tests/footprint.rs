//! `docs/redis.md` shows the table that this crate prints, and grants gateways the commands that the functions use.

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

/// Redis checks the rights for each command within a function too, and a function that is refused half-way has done
/// half of its work.
#[test]
fn the_documented_rights_are_enough_for_all_functions() {
    let doc = include_str!("../../../docs/redis.md");
    let rights = |user: &str| {
        let lines = doc.lines().filter(|line| line.starts_with(&format!("ACL SETUSER {user} ")));
        lines.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix('+')).collect::<Vec<_>>()
    };
    let rights = rights("gateway");
    let library = keyspace::Library::new([]);
    let called = |text: &str| {
        let command: String = text.chars().take_while(char::is_ascii_uppercase).collect();
        (!command.is_empty()).then(|| command.to_lowercase())
    };
    let commands: Vec<_> = ["call('", "pcall_redis('"]
        .iter()
        .flat_map(|by| library.source().split(by).skip(1))
        .filter_map(called)
        .collect();
    assert!(commands.len() > 100 && commands.contains(&"hgetall".to_owned()), "{commands:?}");
    for command in commands {
        let is_given = |right: &&str| *right == command || right.starts_with(&format!("{command}|"));
        assert!(rights.iter().any(is_given), "docs/redis.md gives gateways no +{command}");
    }
}

/// The shipped ACL file has the documented users.
#[test]
fn the_shipped_acl_file_has_the_documented_users() {
    let doc = include_str!("../../../docs/redis.md").lines();
    let documented = doc.filter_map(|line| line.strip_prefix("ACL SETUSER ")).filter(|line| line.contains(" on >"));
    let expected: Vec<String> = documented.map(|line| format!("user {line}")).collect();
    let shipped: Vec<&str> = include_str!("../../../deploy/redis-users.acl").lines().collect();
    assert_eq!(shipped[0], "user default off");
    assert_eq!(shipped[1..], expected);
}
