//! Runs the router by a written script: each line has an input, a bar, and the outputs that the router must produce.
//!
//! ```text
//!   join 0 a after 7-3          | subscribe
//!   subscribed                  | read 1 after 7-3
//!   history 1 top 7-5 has 7-4 7-5 | joined a resumed upto 7-5 with 7-4 7-5
//!   message 7-6..7-7            | deliver 0 7-6..7-7 after 7-5
//! ```
//!
//! All lines are about the scope `user:1` of tenant `default`, unless a line begins with another one (`@system`). `!`
//! after a reason means that messages are certainly missing.

use bytes::Bytes;
use message_router::{
    BrokerError, Command, Draft, Entry, Event, Gap, History, Joined, Joiner, Output, Policies, Positions, Publish,
    Router, RouterConfig, ShardIndex, ShardSet, Start, Taken, Ticket,
};
use wire::{Envelope, Position, Scope, TenantId, Timestamp};

const SCOPE: &str = "user:1";
/// The bit that marks tickets of the router. Scripts omit it.
const ROUTERS: u64 = 1 << 63;

/// Runs a script with this configuration, and returns the router for further checks.
pub(crate) fn run_with(config: RouterConfig, script: &str) -> Router {
    let policies = config.policies.clone();
    let mut router = Router::new(config);
    let mut now_ms = 0;
    for (number, line) in script.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (input, expected) = line.split_once('|').unwrap_or((line, ""));
        let mut words = input.split_whitespace().peekable();
        let name = words.next_if(|word| word.starts_with('@')).map_or(SCOPE, |word| &word[1..]);
        let scope = policies.families().parse(&TenantId::default(), name).expect("a channel").scope;
        let mut out = Vec::new();
        let taken = happen(&mut router, &scope, &words.collect::<Vec<_>>(), &mut now_ms, &mut out);
        let taken = taken.map(|taken| format!("{taken:?}").to_lowercase());
        let wanted: Vec<_> = out.iter().map(render).chain(taken).collect();
        let expected: Vec<_> = expected.split(';').map(squeeze).filter(|text| !text.is_empty()).collect();
        assert_eq!(wanted, expected, "line {number}: {}", line.trim());
    }
    router
}

/// Runs a script with the default configuration and the broker up.
pub(crate) fn run(script: &str) -> Router {
    run_with(RouterConfig::default(), &format!("up | recovered\n{script}"))
}

/// The default configuration, but no family keeps a history.
pub(crate) fn without_history() -> RouterConfig {
    let defaults = Policies::default();
    let family = |(index, shape): (_, &wire::FamilyShape)| {
        let policy = message_router::FamilyPolicy { history_entries_max: 0, ..*defaults.policy(index) };
        (shape.clone(), policy)
    };
    let policies = Policies::new(defaults.families().iter().map(family).collect());
    RouterConfig { policies, ..RouterConfig::default() }
}

/// Plays one line. Returns the outcome if it is a publish.
fn happen(
    router: &mut Router,
    scope: &Scope,
    words: &[&str],
    now_ms: &mut u64,
    out: &mut Vec<Output>,
) -> Option<Taken> {
    let event = match words {
        ["join", shard, joiner, rest @ ..] => {
            let after = rest.iter().skip(1).map(|text| position(text));
            let after: Positions = after.collect();
            router.join(shard_index(shard), joiner_of(joiner), scope.clone(), after, out);
            return None;
        }
        ["publish", count] => {
            let count = count.parse().expect("a number");
            let messages = (0..count).map(|_| Draft::new("", b"{}".to_vec())).collect();
            let publish = Publish { ticket: Ticket(0), scope: scope.clone(), messages, replicated: false };
            return Some(router.publish(publish, out));
        }
        ["leave", shard] => {
            router.leave(shard_index(shard), scope, *now_ms);
            return None;
        }
        ["sweep", at_ms] => {
            *now_ms = at_ms.parse().expect("milliseconds");
            router.sweep(*now_ms, out);
            return None;
        }
        ["up"] => Event::Up,
        ["down"] => Event::Down("the script says so".into()),
        ["lost"] => Event::Lost(scope.clone()),
        ["tops", ticket, tops @ ..] => {
            let top = |text: &&str| (*text != "-").then(|| position(text));
            Event::Tops { ticket: ticket_of(ticket), result: Ok(tops.iter().map(top).collect()) }
        }
        ["tops_failed", ticket] => {
            Event::Tops { ticket: ticket_of(ticket), result: Err(BrokerError::Unavailable("script".into())) }
        }
        ["subscribed"] => Event::Subscribed(scope.clone()),
        ["message", extent] => message(scope, extent),
        ["history", ticket, "top", top, rest @ ..] => {
            Event::History { ticket: ticket_of(ticket), result: Ok(history(position(top), rest)) }
        }
        ["noted", ticket] => Event::LossNoted { ticket: ticket_of(ticket), result: Ok(()) },
        ["not_noted", ticket] => {
            let result = Err(BrokerError::Unavailable("script".into()));
            Event::LossNoted { ticket: ticket_of(ticket), result }
        }
        ["failed", ticket] => {
            Event::History { ticket: ticket_of(ticket), result: Err(BrokerError::Unavailable("script".into())) }
        }
        _ => panic!("the script language has no {words:?}"),
    };
    router.handle(event, *now_ms, out);
    None
}

fn message(scope: &Scope, extent: &str) -> Event {
    let (first, last) = extent.split_once("..").unwrap_or((extent, extent));
    let (first, last) = (position(first), position(last));
    let items = (first.offset..=last.offset).map(|_| ("", &b"{}"[..]));
    let scope = Bytes::copy_from_slice(scope.as_str().as_bytes());
    Event::Message { scope, envelope: Bytes::from(Envelope::write(first, Timestamp(0), items)) }
}

fn history(top: Position, words: &[&str]) -> History {
    let mut history = History { top, earlier: Vec::new(), torn: Vec::new(), entries: Vec::new(), more: false };
    let mut is_earlier = false;
    for word in words {
        match *word {
            "earlier" => is_earlier = true,
            "has" => is_earlier = false,
            "more" => history.more = true,
            text if is_earlier => {
                let end = position(text.trim_end_matches('+'));
                history.earlier.push((end.generation, end.offset));
                history.torn.extend(text.ends_with('+').then_some(end.generation));
            }
            text => history.entries.push(entry(position(text))),
        }
    }
    history
}

fn entry(position: Position) -> Entry {
    Entry { position, time: Timestamp(0), topic: Box::from(""), message: Bytes::from_static(b"{}") }
}

fn position(text: &str) -> Position {
    text.parse().expect("a position")
}

fn shard_index(text: &str) -> ShardIndex {
    ShardIndex(text.parse().expect("a shard"))
}

fn joiner_of(text: &str) -> Joiner {
    Joiner(u64::from(text.as_bytes()[0]))
}

fn ticket_of(text: &str) -> Ticket {
    Ticket(ROUTERS | text.parse::<u64>().expect("a ticket"))
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes an output in the words of the script.
fn render(output: &Output) -> String {
    match output {
        Output::Command(Command::Subscribe(scope)) => within(scope, "subscribe".into()),
        Output::Command(Command::Unsubscribe(scope)) => within(scope, "unsubscribe".into()),
        Output::Command(Command::Read { ticket, scope, after, .. }) => {
            within(scope, format!("read {} after {}", ticket.0 ^ ROUTERS, place(*after)))
        }
        Output::Command(Command::Publish(publish)) => {
            within(&publish.scope, format!("publish {}", publish.messages.len()))
        }
        Output::Command(Command::Tops { ticket, scopes, .. }) => {
            let names: Vec<_> = scopes.iter().map(Scope::name).collect();
            format!("tops {} of {}", ticket.0 ^ ROUTERS, names.join(" "))
        }
        Output::Command(Command::Lost { ticket, scope, position }) => {
            within(scope, format!("lost {} at {position}", ticket.0 ^ ROUTERS))
        }
        Output::Command(Command::Reset(reason)) => panic!("the router resets nothing: {reason}"),
        Output::Deliver { shards, scope, envelope, after } => {
            let envelope = Envelope::parse(envelope).expect("checked");
            let last = envelope.items().last().expect("not empty").expect("checked").0;
            let extent = if last == envelope.first { last.to_string() } else { format!("{}..{last}", envelope.first) };
            within(scope, format!("deliver {} {extent} after {after}", set(*shards)))
        }
        Output::Replay { shards, scope, entries } => {
            within(scope, format!("replay {} {}", set(*shards), positions(entries)))
        }
        Output::Joined { joiner, joined, .. } => within(&joined.scope, render_joined(*joiner, joined)),
        Output::Gap { shards, scope, gap } => {
            let text = format!("gap {} after {} upto {} {}", set(*shards), place(gap.after), gap.upto, reason(gap));
            within(scope, text)
        }
        Output::Local { shards, scope, messages } => {
            within(scope, format!("local {} {}", set(*shards), messages.len()))
        }
        Output::Isolated { shards, scope } => within(scope, format!("isolated {}", set(*shards))),
        Output::Degraded { degraded } => if *degraded { "degraded" } else { "recovered" }.into(),
    }
}

fn render_joined(joiner: Joiner, joined: &Joined) -> String {
    let name = char::from(u8::try_from(joiner.0).expect("a letter"));
    let start = match &joined.start {
        Start::Fresh => "fresh".into(),
        Start::Resumed => "resumed".into(),
        Start::Degraded => "degraded".into(),
        Start::Gap(gap) if Some(gap.upto) == joined.upto => format!("gap {}", reason(gap)),
        Start::Gap(gap) => format!("gap {} over {}", reason(gap), gap.upto),
    };
    let lost = joined.lost.iter().map(|gap| format!(" lost {} {} over {}", place(gap.after), reason(gap), gap.upto));
    let lost: String = lost.collect();
    let with = if joined.entries.is_empty() { String::new() } else { format!(" with {}", positions(&joined.entries)) };
    let more = if joined.more { " more" } else { "" };
    format!("joined {name} {start}{lost} upto {}{with}{more}", place(joined.upto))
}

fn within(scope: &Scope, text: String) -> String {
    if scope.name() == SCOPE { text } else { format!("@{} {text}", scope.name()) }
}

fn place(position: Option<Position>) -> String {
    position.map_or("-".into(), |position| position.to_string())
}

fn positions(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.position.to_string()).collect::<Vec<_>>().join(" ")
}

fn set(shards: ShardSet) -> String {
    shards.iter().map(|shard| shard.0.to_string()).collect::<Vec<_>>().join("+")
}

fn reason(gap: &Gap) -> String {
    format!("{}{}", gap.reason.as_str(), if gap.certain { "!" } else { "" })
}
