//! Two real servers and their model, which get the same commands.

use keyspace::Library;
use redis_model::{
    Call, Connection, Deployment, Families, FunctionReply, Loses, NodeIndex, Push, Refusal, Retention, Role,
};
use wire::FamilyShape;

use crate::server::{Server, key};

/// Entries of a stream node. The number is small, so that a trace trims many nodes.
const LEAF_ENTRIES_MAX: usize = 4;
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// Name, whether the family has ids, and its retention. `user` is trimmed by whole leaves, `room` exactly. Messages of
/// `brief` expire within a trace.
const FAMILIES: [(&str, bool, Retention); 4] = [
    ("user", true, Retention { ttl_ms: HOUR_MS, entries_max: 201 }),
    ("room", true, Retention { ttl_ms: HOUR_MS, entries_max: 5 }),
    ("brief", true, Retention { ttl_ms: 40, entries_max: 1_000 }),
    ("system", false, Retention { ttl_ms: HOUR_MS, entries_max: 0 }),
];

pub(crate) const SCOPES: [&str; 5] = ["acme/user:1", "acme/user:2", "acme/room:1", "acme/brief:1", "acme/system"];

pub(crate) struct Pair {
    pub(crate) real: [Server; 2],
    pub(crate) model: Deployment,
    pub(crate) received: u64,
}

impl Pair {
    pub(crate) fn start() -> Self {
        let shapes = FAMILIES.map(|(name, keyed, _)| FamilyShape { name: name.into(), keyed });
        let rows =
            shapes.iter().zip(FAMILIES).map(|(shape, (_, _, kept))| (shape, kept.ttl_ms, kept.entries_max as u64));
        let library = Library::new(rows);
        let mut real = [(); 2].map(|()| Server::start(&library, LEAF_ENTRIES_MAX));
        let ids = real.each_mut().map(Server::replication_id);
        let families = Families::new(FAMILIES.map(|(name, _, kept)| (name, kept)));
        Self { real, model: Deployment::new(families, &ids, LEAF_ENTRIES_MAX), received: 0 }
    }

    pub(crate) fn role(&self, at: usize) -> Role {
        self.model.node(NodeIndex(at)).role()
    }

    /// Whether the other node follows this one.
    pub(crate) fn is_followed(&self, at: usize) -> bool {
        self.model.followed(NodeIndex(1 - at)) == Some(NodeIndex(at))
    }

    /// Calls the server and the model, and compares the answers and the received messages.
    pub(crate) fn call(&mut self, at: usize, scope: &str, call: &Call) -> Result<FunctionReply, Refusal> {
        let real = &mut self.real[at];
        let begun_ms = real.now_ms();
        let answer = real.call(scope, call);
        let ended_ms = real.now_ms();
        self.settle(at);
        let received = self.real.each_mut().map(Server::received);
        // Redis' clock advanced during the call. One of these milliseconds is the one that Redis used.
        let mut modelled = None;
        for now_ms in begun_ms..=ended_ms {
            let (mut model, mut out) = (self.model.clone(), Vec::new());
            let expected = model.call(NodeIndex(at), scope, call.clone(), now_ms, &mut out);
            model.replicate(NodeIndex(1 - at), usize::MAX, &mut out);
            let is_equal = expected == answer && by_node(&out) == received;
            modelled.get_or_insert((expected, out));
            if is_equal {
                self.model = model;
                self.received += received.iter().map(|received| received.len() as u64).sum::<u64>();
                self.compare_expiry(at, scope);
                return answer;
            }
        }
        panic!("{call:?} in {scope} on {at}: Redis says {answer:?} and tells {received:?}; the model {modelled:?}");
    }

    /// Changes the server and the model by commands without an answer, and compares the received messages.
    pub(crate) fn change(&mut self, at: usize, words: &[&str], model: impl FnOnce(&mut Deployment, &mut Vec<Push>)) {
        self.real[at].exec(words);
        self.settle(at);
        let mut out = Vec::new();
        model(&mut self.model, &mut out);
        self.model.replicate(NodeIndex(1 - at), usize::MAX, &mut out);
        let received = self.real.each_mut().map(Server::received);
        assert_eq!(by_node(&out), received, "after {words:?}");
        self.received += out.len() as u64;
    }

    pub(crate) fn erase(&mut self, at: usize, scope: &str, kind: &str) {
        let key = key(scope, kind);
        self.change(at, &["DEL", &key], |model, out| match kind {
            "meta" => model.erase_meta(NodeIndex(at), scope, out),
            _ => model.erase_stream(NodeIndex(at), scope, out),
        });
    }

    pub(crate) fn subscribe(&mut self, at: usize, scope: &str, is_wanted: bool) {
        self.real[at].subscribe(scope, is_wanted);
        let (node, connection) = (self.model.node_mut(NodeIndex(at)), Connection(at as u64));
        match is_wanted {
            true => node.subscribe(connection, scope),
            false => node.unsubscribe(connection, scope),
        }
    }

    pub(crate) fn follow(&mut self, replica: usize) {
        let [a, b] = &mut self.real;
        let (real, primary) = if replica == 0 { (a, b) } else { (b, a) };
        real.follow(primary);
        let id = primary.replication_id();
        self.model.follow(NodeIndex(replica), NodeIndex(1 - replica), id);
        // A replica that continued where it had stopped received no snapshot, and still has its old one.
        self.save(replica);
        self.reload(1 - replica);
        self.compare_ids();
    }

    pub(crate) fn promote(&mut self, at: usize) {
        self.real[at].exec(&["REPLICAOF", "NO", "ONE"]);
        let id = self.real[at].replication_id();
        self.model.promote(NodeIndex(at), id);
        self.compare_ids();
    }

    pub(crate) fn restart(&mut self, at: usize, loses: Loses) {
        let is_followed = self.is_followed(at);
        if loses == Loses::Nothing {
            // The servers of this test keep no log of writes: a snapshot at the last moment has the same effect.
            self.save(at);
        }
        self.real[at].restart(loses != Loses::Everything);
        if is_followed {
            // The replica reconnects by itself.
            let [a, b] = &mut self.real;
            let (primary, replica) = if at == 0 { (a, b) } else { (b, a) };
            replica.wait_for_link(primary);
        }
        let id = self.real[at].replication_id();
        let cut = self.model.restart(NodeIndex(at), loses, id);
        assert!(cut.iter().all(|connection| *connection == Connection(at as u64)));
        if is_followed {
            match self.real[at].has_been_copied() {
                true => self.model.follow(NodeIndex(1 - at), NodeIndex(at), id),
                false => self.model.resume(NodeIndex(1 - at), NodeIndex(at)),
            }
            self.reload(at);
        }
        self.compare_ids();
    }

    pub(crate) fn save(&mut self, at: usize) {
        self.real[at].exec(&["SAVE"]);
        self.model.node_mut(NodeIndex(at)).save();
    }

    /// Loads the library again, on this node and on its replica.
    pub(crate) fn reload(&mut self, at: usize) {
        self.real[at].load();
        self.model.node_mut(NodeIndex(at)).forget_library();
        if self.is_followed(at) {
            self.real[at].wait_for_replica();
            self.model.node_mut(NodeIndex(1 - at)).forget_library();
        }
    }

    fn settle(&mut self, at: usize) {
        if self.is_followed(at) {
            self.real[at].wait_for_replica();
        }
    }

    /// The metadata is kept for as long as in the model, to a second: Redis' clock advances during a call.
    fn compare_expiry(&mut self, at: usize, scope: &str) {
        let real = self.real[at].meta_expires_ms(scope);
        let modelled = self.model.node(NodeIndex(at)).meta_expires_ms(scope);
        let is_equal = real.zip(modelled).map_or(real == modelled, |(real, modelled)| real.abs_diff(modelled) < 1_000);
        assert!(is_equal, "the metadata of {scope} expires at {real:?} in Redis, at {modelled:?} in the model");
    }

    /// A replication id changes exactly where the model expects it.
    fn compare_ids(&mut self) {
        let real = self.real.each_mut().map(Server::replication_id);
        let modelled = [0, 1].map(|at| self.model.node(NodeIndex(at)).replication_id());
        assert_eq!(modelled, real, "a replication id changed where the model keeps it, or the other way round");
    }
}

/// The messages that the listener of each node receives.
fn by_node(pushes: &[Push]) -> [Vec<(String, Vec<u8>)>; 2] {
    let of = |at| pushes.iter().filter(move |push| push.connection == Connection(at));
    [0, 1].map(|at| of(at).map(|push| (push.scope.to_string(), push.payload.to_vec())).collect())
}
