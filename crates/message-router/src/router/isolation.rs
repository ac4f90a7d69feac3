//! PURE. The state while the broker is away: what happens to publishes, and which scopes get a gap afterwards.

use hashbrown::{HashMap, HashSet};
use wire::Scope;

use crate::broker::Draft;

/// Most scopes, and most ids, that are remembered until the broker is back. Above this limit local publishes are
/// refused. Some MiB each.
const REMEMBERED_MAX: usize = 65_536;

/// The outcome of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// The broker was asked. It answers with the ticket of the publish.
    Asked,
    /// The members on this instance get the messages. Nobody else ever does.
    Local,
    /// Refused: the broker is away, and the family takes no messages meanwhile.
    ReadOnly,
    /// The members on this instance got the messages before, under the same ids.
    Again,
    /// Refused: the broker is away, and it may have stored the message already, under the same id. It knows when it is
    /// back.
    Doubtful,
    /// Refused: the broker is away, and the limit of remembered scopes or ids is reached.
    Full,
}

/// What is known of a publish id while the broker is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownId {
    /// The message was delivered on this instance.
    Stayed,
    /// The broker may or may not have stored the message.
    Doubtful,
}

/// The state of one time without a broker.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    /// The broker has reported that it is lost. False before its first event: then it may be there in a moment.
    pub(crate) is_on: bool,
    /// The scopes with messages that were delivered on this instance only. A scope stays here when all members have
    /// left: a client that joins before the broker is back gets the gap too.
    scopes: HashSet<Scope>,
    ids: HashMap<(Scope, Box<str>), KnownId>,
}

impl Isolation {
    /// Remembers the scope and the ids, and leaves in `messages` those that must be delivered.
    pub(crate) fn take(&mut self, scope: &Scope, messages: &mut Vec<Draft>) -> Taken {
        let known = |ids: &HashMap<_, KnownId>, draft: &Draft| {
            let id = draft.id.as_ref()?;
            ids.get(&(scope.clone(), id.clone())).copied()
        };
        if messages.iter().any(|draft| known(&self.ids, draft) == Some(KnownId::Doubtful)) {
            return Taken::Doubtful;
        }
        messages.retain(|draft| known(&self.ids, draft).is_none());
        if messages.is_empty() {
            return Taken::Again;
        }
        let named = messages.iter().filter(|draft| draft.id.is_some()).count();
        let is_new = !self.scopes.contains(scope);
        if self.scopes.len() + usize::from(is_new) > REMEMBERED_MAX || self.ids.len() + named > REMEMBERED_MAX {
            return Taken::Full;
        }
        if is_new {
            self.scopes.insert(scope.clone());
        }
        let ids = messages.iter().filter_map(|draft| draft.id.clone());
        self.ids.extend(ids.map(|id| ((scope.clone(), id), KnownId::Stayed)));
        Taken::Local
    }

    /// The broker may or may not have stored the message with this id. Without room the id is not remembered, and the
    /// message may come twice.
    pub(crate) fn doubt(&mut self, scope: Scope, id: Box<str>) {
        if self.ids.len() < REMEMBERED_MAX {
            self.ids.insert((scope, id), KnownId::Doubtful);
        }
    }

    /// The broker is back. Returns the scopes that get a gap, sorted by name. The ids are forgotten: the broker knows
    /// its own.
    pub(crate) fn end(&mut self) -> Vec<Scope> {
        self.is_on = false;
        self.ids = HashMap::new();
        let mut scopes: Vec<_> = std::mem::take(&mut self.scopes).into_iter().collect();
        scopes.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        scopes
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    fn scope(n: usize) -> Scope {
        Families::default().parse_scope(&format!("default/user:{n}")).unwrap()
    }

    fn take(isolation: &mut Isolation, n: usize, ids: &[&str]) -> (Taken, usize) {
        let draft = |id: &&str| Draft { id: (!id.is_empty()).then(|| Box::from(*id)), ..Draft::new("", vec![]) };
        let mut messages = ids.iter().map(draft).collect();
        (isolation.take(&scope(n), &mut messages), messages.len())
    }

    #[test]
    fn further_scopes_are_refused_at_the_limit_and_known_ones_are_not() {
        let mut isolation = Isolation { is_on: true, ..Isolation::default() };
        assert!((0..REMEMBERED_MAX).all(|n| take(&mut isolation, n, &[""]).0 == Taken::Local));
        assert_eq!(take(&mut isolation, REMEMBERED_MAX, &[""]).0, Taken::Full);
        assert_eq!(take(&mut isolation, 0, &[""]).0, Taken::Local, "its members get the gap anyway");
        assert_eq!(isolation.end().len(), REMEMBERED_MAX);
        assert!(!isolation.is_on && isolation.end().is_empty());
    }

    #[test]
    fn further_ids_are_refused_at_the_limit_and_doubts_are_dropped() {
        let mut isolation = Isolation { is_on: true, ..Isolation::default() };
        let ids: Vec<String> = (1..REMEMBERED_MAX).map(|n| n.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(take(&mut isolation, 1, &ids).0, Taken::Local);
        assert_eq!(take(&mut isolation, 1, &["a", "b"]).0, Taken::Full, "there is room for one");
        isolation.doubt(scope(1), "a".into());
        isolation.doubt(scope(1), "b".into());
        assert_eq!(isolation.ids.len(), REMEMBERED_MAX);
        assert_eq!(take(&mut isolation, 1, &["a"]).0, Taken::Doubtful);
        assert_eq!(take(&mut isolation, 1, &["b"]).0, Taken::Full);
        assert_eq!(take(&mut isolation, 1, &["1", ""]), (Taken::Local, 1), "without an id there is room");
    }

    #[test]
    fn an_id_is_delivered_once_and_refused_while_it_is_doubtful() {
        let mut isolation = Isolation { is_on: true, ..Isolation::default() };
        assert_eq!(take(&mut isolation, 1, &["a", "b", ""]), (Taken::Local, 3));
        assert_eq!(take(&mut isolation, 1, &["b", "a"]), (Taken::Again, 0));
        assert_eq!(take(&mut isolation, 1, &["b", "c"]), (Taken::Local, 1), "one of them is new");
        assert_eq!(take(&mut isolation, 2, &["a"]), (Taken::Local, 1), "another scope's is another one");
        isolation.doubt(scope(1), "d".into());
        assert_eq!(take(&mut isolation, 1, &["e", "d"]).0, Taken::Doubtful);
        assert_eq!(take(&mut isolation, 1, &["e"]).0, Taken::Local, "all or none");
        isolation.end();
        isolation.is_on = true;
        assert_eq!(take(&mut isolation, 1, &["d"]).0, Taken::Local, "the broker was there in between");
    }
}
