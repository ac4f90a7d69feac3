//! Redis as the cluster sees it: two model nodes with their clocks, the current primary, and the log of all stored
//! messages.

use bytes::Bytes;
use hashbrown::HashMap;
use message_router::{BrokerError, Entry, History, Policies, Stored};
use redis_model::{
    Call, Connection, Deployment, Draft, Families, FunctionReply, Loses, NodeIndex, Push, Refusal, ReplicationId,
    Retention, Role,
};
use wire::{Envelope, Position, Scope, Timestamp};

use super::plan::{Mutant, Plan};
use super::publish_log::{Message, PublishLog};
use super::random::Random;

/// Wall-clock time at the beginning of a run, in milliseconds since 1970.
pub(super) const UNIX_MS: u64 = 1_790_000_000_000;
/// Small, so that short runs trim streams.
const LEAF_ENTRIES_MAX: usize = 4;

pub(super) const A: NodeIndex = NodeIndex(0);
pub(super) const B: NodeIndex = NodeIndex(1);

#[derive(Debug)]
pub(super) struct Redis {
    pub(super) deployment: Deployment,
    pub(super) publish_log: PublishLog,
    /// The node that an instance is directed to when it asks for the primary.
    pub(super) primary: NodeIndex,
    /// Clock offset of each node, in milliseconds.
    pub(super) skew_ms: [i64; 2],
    /// Whether the process of each node runs.
    pub(super) runs: [bool; 2],
    /// Whether replicas receive the changes of their primary.
    pub(super) replicates: bool,
    pub(super) mutant: Option<Mutant>,
    /// Time at which a message was last stored, by scope.
    pub(super) stored_ms: HashMap<Scope, u64>,
    random: Random,
}

/// The result of a call.
pub(super) type FunctionOutcome = Result<FunctionReply, Refusal>;

pub(super) fn other(node: NodeIndex) -> NodeIndex {
    NodeIndex(1 - node.0)
}

impl Redis {
    pub(super) fn new(policies: &Policies, plan: &Plan, mut random: Random) -> Self {
        let kept = |(index, shape): (_, &wire::FamilyShape)| {
            let policy = policies.policy(index);
            let entries_max = policy.history_entries_max as usize;
            (shape.name.clone(), Retention { ttl_ms: policy.ttl_ms, entries_max })
        };
        let families: Vec<_> = policies.families().iter().map(kept).collect();
        let families = Families::new(families.iter().map(|(name, kept)| (name.as_str(), *kept)));
        let ids = [ReplicationId(random.next()), ReplicationId(random.next())];
        let mut redis = Self {
            deployment: Deployment::new(families, &ids, LEAF_ENTRIES_MAX),
            publish_log: PublishLog::default(),
            primary: A,
            skew_ms: [0; 2],
            runs: [true; 2],
            replicates: true,
            mutant: plan.mutant,
            stored_ms: HashMap::new(),
            random,
        };
        let id = redis.fresh_id();
        redis.deployment.follow(B, A, id);
        redis
    }

    pub(super) fn fresh_id(&mut self) -> ReplicationId {
        match self.mutant {
            Some(Mutant::OneGeneration) => self.deployment.node(A).replication_id(),
            // Another id with the same first bits: only a counter is left of the generation.
            Some(Mutant::CountedGenerations) => ReplicationId(self.random.next() >> 16),
            _ => ReplicationId(self.random.next()),
        }
    }

    pub(super) fn is_primary(&self, node: NodeIndex) -> bool {
        self.runs[node.0] && self.deployment.node(node).role() == Role::Primary
    }

    /// Runs a function, and adds the messages that it stored to the publish log.
    pub(super) fn call(
        &mut self,
        node: NodeIndex,
        scope: &Scope,
        call: Call,
        now_ms: u64,
        out: &mut Vec<Push>,
    ) -> Result<FunctionOutcome, String> {
        let drafts = match &call {
            Call::Publish(drafts) | Call::PublishOnce(drafts) => drafts.clone(),
            Call::Read { .. } | Call::Open { .. } | Call::Lost(_) | Call::Probe => Vec::new(),
        };
        let clock_ms = self.clock_ms(node, now_ms);
        if self.mutant == Some(Mutant::PublishesFirst) && self.deployment.node(node).is_full && !drafts.is_empty() {
            self.publish_unstored(node, scope, &drafts, clock_ms, out);
        }
        let outcome = self.deployment.call(node, scope.as_str(), call, clock_ms, out);
        self.note_generation(node, scope);
        let positions = match &outcome {
            Ok(FunctionReply::Stored(last)) => {
                let first = last.offset + 1 - drafts.len() as u64;
                (first..=last.offset).map(|offset| (Position::new(last.generation, offset), false)).collect()
            }
            Ok(FunctionReply::StoredOnce(positions)) => positions.clone(),
            _ => Vec::new(),
        };
        for (draft, (position, _)) in drafts.iter().zip(positions).filter(|(_, (_, known))| !known) {
            let number = number_of(&draft.message);
            let message = Message { number, topic: draft.topic.clone(), at_ms: now_ms };
            // If the clock jumps, the lifetime of an id may end at once.
            let once = self.skew_ms == [0; 2];
            self.publish_log.store(scope.as_str(), position, message, once)?;
            self.stored_ms.insert(scope.clone(), now_ms);
        }
        Ok(outcome)
    }

    /// Publishes like a script that publishes before it stores, when Redis is full.
    fn publish_unstored(
        &mut self,
        node: NodeIndex,
        scope: &Scope,
        drafts: &[Draft],
        clock_ms: u64,
        out: &mut Vec<Push>,
    ) {
        let Some(meta) = self.deployment.node(node).meta(scope.as_str()) else { return };
        let items = drafts.iter().map(|draft| (&*draft.topic, &draft.message[..]));
        let envelope = Envelope::write(meta.top().next(), Timestamp(clock_ms), items);
        self.deployment.publish_bare(node, scope.as_str(), envelope.into(), out);
    }

    /// Sends PUBLISH with an envelope whose position is far above the stored ones.
    pub(super) fn publish_unstored_message(&mut self, node: NodeIndex, scope: &Scope, out: &mut Vec<Push>) -> bool {
        let Some(meta) = self.deployment.node(node).meta(scope.as_str()) else { return false };
        let Position { generation, offset } = meta.top();
        let first = Position::new(generation, offset + 1_000_000);
        let items = [("ghost", &br#"{"type":"ghost","payload":0}"#[..])];
        let envelope = Envelope::write(first, Timestamp(0), items.into_iter());
        self.deployment.publish_bare(node, scope.as_str(), Bytes::from(envelope), out);
        true
    }

    pub(super) fn restart(&mut self, node: NodeIndex, loses: Loses) -> Vec<Connection> {
        let id = self.fresh_id();
        self.deployment.restart(node, loses, id)
    }

    pub(super) fn promote(&mut self, node: NodeIndex) {
        let id = self.fresh_id();
        self.deployment.promote(node, id);
    }

    pub(super) fn follow(&mut self, replica: NodeIndex, primary: NodeIndex) {
        let id = self.fresh_id();
        self.deployment.follow(replica, primary, id);
    }

    pub(super) fn clock_ms(&self, node: NodeIndex, now_ms: u64) -> u64 {
        if self.mutant == Some(Mutant::CountedGenerations) {
            return UNIX_MS;
        }
        (UNIX_MS + now_ms).saturating_add_signed(self.skew_ms[node.0])
    }

    /// Records a generation that has begun on a node.
    fn note_generation(&mut self, node: NodeIndex, scope: &Scope) {
        let Some(meta) = self.deployment.node(node).meta(scope.as_str()) else { return };
        self.publish_log.begin(scope.as_str(), meta.generation, meta.earlier.last().copied());
    }
}

/// Returns a message whose payload is its number.
pub(super) fn message(number: u64) -> Bytes {
    Bytes::from(format!(r#"{{"type":"m","payload":{number}}}"#))
}

fn number_of(message: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(message).expect("messages of a simulation are JSON");
    value["payload"].as_u64().expect("messages contain their number")
}

/// Converts the result of a read as the broker does for the router.
pub(super) fn history(outcome: FunctionOutcome) -> Result<History, BrokerError> {
    let page = match outcome {
        Ok(FunctionReply::Page(page)) => page,
        Ok(other) => panic!("{other:?} answers no read"),
        Err(refusal) => return Err(BrokerError::Unavailable(refusal.to_string())),
    };
    let entry = |entry: redis_model::Entry| Entry {
        position: entry.position,
        time: Timestamp(entry.time_ms),
        topic: entry.topic,
        message: entry.message,
    };
    Ok(History {
        top: page.top,
        earlier: page.earlier.iter().map(|p| (p.generation, p.offset)).collect(),
        torn: page.torn,
        entries: page.entries.into_iter().map(entry).collect(),
        more: page.more,
    })
}

/// Converts the result of a publish as the broker does for the publisher.
pub(super) fn stored(outcome: FunctionOutcome) -> Result<Stored, BrokerError> {
    match outcome {
        Ok(FunctionReply::Stored(position)) => Ok(Stored::at(position)),
        Ok(FunctionReply::StoredOnce(positions)) => {
            let (position, _) = *positions.last().expect("a batch is not empty");
            let duplicate = positions.iter().all(|(_, known)| *known);
            Ok(Stored { duplicate, ..Stored::at(position) })
        }
        Ok(other) => panic!("{other:?} answers no publish"),
        Err(refusal) => Err(BrokerError::Unavailable(refusal.to_string())),
    }
}
