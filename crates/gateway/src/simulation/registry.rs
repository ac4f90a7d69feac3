//! The registry of the fleet. Instances use it in the order of the product's heartbeat task: they write records of
//! ended sessions and rows of connections, and request sessions to restore. The store is the product's memory store;
//! the conformance suite shows that Redis behaves in the same way. Leases do not end here, and all clocks agree.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use connection_registry::{
    Acquired, ConnectionLimits, Directory, Duty, Heartbeat, Incarnation, Instance, Load, MemoryStore, ROW_CHANGES_MAX,
    SessionCommand, Store, StoreError, Timings, Token,
};
use message_router::ShardIndex;
use wire::InstanceId;

use super::random::Random;
use super::schedule::{InstanceRun, SimulatedEvent};
use super::world::World;
use crate::shard::requests::ToShard;

/// Limit of records per call, in bytes; larger than needed here.
const RECORDS_BYTES_MAX: usize = 1 << 20;
/// Time after which peers remove the rows of a dead instance, in milliseconds.
pub(super) const REAP_MS: u64 = 8_000;

/// The registry that all instances share.
pub(super) struct Registry {
    store: MemoryStore,
    start: Instant,
}

/// The part of one instance.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) directory: Arc<Directory>,
    instance: Instance,
    token: Token,
    number: u64,
}

/// Calls of one instance that are lost on the way, and replies that are lost on the way back, each per thousand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses {
    pub(super) calls: u64,
    pub(super) answers: u64,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { store: MemoryStore::new(ConnectionLimits::default(), Timings::default()), start: Instant::now() }
    }

    /// Returns the instant of a virtual time, for the times of connections.
    pub(super) fn moment(&self, now_ms: u64) -> Instant {
        self.start + Duration::from_millis(now_ms)
    }

    /// Registers a new incarnation of an instance.
    pub(super) fn join(&self, instance_run: InstanceRun) -> Member {
        let instance = Instance {
            id: InstanceId::parse(&format!("gw-{}-{}", instance_run.instance, instance_run.number))
                .expect("a valid name"),
            incarnation: Incarnation::new(0, instance_run.number as u32),
            address: "nowhere".into(),
        };
        let acquired = ready(self.store.acquire(&instance, heartbeat(0)));
        let Ok(Acquired::Granted { token, .. }) = acquired else { unreachable!("no other instance has this name") };
        Member { directory: Arc::default(), instance, token, number: 0 }
    }

    /// Removes a dead instance, as its peers do.
    pub(super) fn reap(&self, dead: &Member) {
        ready(self.store.release(&dead.instance, &dead.token)).expect("no other instance has removed it");
    }

    /// Performs one turn of an instance's heartbeat task, up to the first call that fails.
    fn pump_step(
        &self,
        member: &mut Member,
        now: Instant,
        losses: Losses,
        random: &mut Random,
        session_commands: &mut Vec<SessionCommand>,
    ) -> Result<(), StoreError> {
        let Self { store, .. } = self;
        let Member { directory, instance, token, number } = member;
        let mut call = Calls { losses, random };
        *number += 1;
        let renewed = call.make(|| ready(store.renew(instance, token, heartbeat(*number), *number - 1)))?;
        session_commands
            .extend(renewed.listed.commands.into_iter().flat_map(|command| directory.session_commands(command)));
        let restores = directory.restores();
        loop {
            let left = restores.take_left(ROW_CHANGES_MAX, RECORDS_BYTES_MAX);
            if left.is_empty() {
                break;
            }
            let kept = call.make(|| ready(store.leave_records(instance, token, &left)));
            kept.inspect_err(|_| restores.put_back(left))?;
        }
        let batch = directory.take_undated(ROW_CHANGES_MAX);
        if !batch.is_empty() {
            let written = call.make(|| ready(store.write_rows(instance, token, &batch)));
            let listed = written.inspect_err(|_| directory.put_back(batch))?;
            session_commands
                .extend(listed.commands.into_iter().flat_map(|command| directory.session_commands(command)));
        }
        let mut questions = restores.take_due(ROW_CHANGES_MAX, now);
        questions.retain(|redis_call| directory.is_newest(redis_call.ask.session, redis_call.ask.number));
        if questions.is_empty() {
            return Ok(());
        }
        let answers = call.make(|| ready(store.take_records(instance, token, &questions)));
        let answers = answers.inspect_err(|_| restores.ask_again(questions.clone()))?;
        let settled = questions.into_iter().zip(answers).filter_map(|(asked, kept)| restores.settle(asked, kept, now));
        session_commands.extend(settled.map(|(ask, restored)| SessionCommand::Restored(ask, restored)));
        Ok(())
    }
}

/// Makes calls to the store, and loses some of them.
struct Calls<'a> {
    losses: Losses,
    random: &'a mut Random,
}

impl Calls<'_> {
    fn make<T>(&mut self, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let lost = || StoreError::NoAnswer(Duration::ZERO);
        if self.random.below(1_000) < self.losses.calls {
            return Err(lost());
        }
        let answer = call();
        if self.random.below(1_000) < self.losses.answers { Err(lost()) } else { answer }
    }
}

impl World {
    /// Runs the heartbeat task of an instance: it writes changes and sends requests, if Redis can be reached.
    pub(super) fn heartbeat(&mut self, instance_run: InstanceRun) {
        if self.instance(instance_run).is_none() {
            return;
        }
        let delay_ms = self.random.within(20, 80) + self.slow_ms;
        self.schedule.after(delay_ms, SimulatedEvent::PeerHeartbeat(instance_run));
        let moment = self.registry.moment(self.schedule.now_ms());
        let runs = self.redis.runs[self.redis.primary.0];
        let instance = &mut self.instances[instance_run.instance];
        if !runs || instance.link.is_disconnected {
            self.outages.insert(instance_run.number);
            return;
        }
        let losses = Losses { calls: instance.link.lost_calls, answers: instance.link.lost_answers };
        let mut session_commands = Vec::new();
        let renewed =
            self.registry.pump_step(&mut instance.member, moment, losses, &mut self.random, &mut session_commands);
        if renewed.is_err() {
            self.outages.insert(instance_run.number);
        }
        for session_command in session_commands {
            self.run_session_command(instance_run, session_command);
        }
    }

    fn run_session_command(&mut self, instance_run: InstanceRun, session_command: SessionCommand) {
        let directory = &self.instances[instance_run.instance].member.directory;
        let (shard, item) = match session_command {
            SessionCommand::Close(closing, upto) => match directory.get(closing.session) {
                Some(row) => (row.shard, ToShard::CloseSession(closing, upto)),
                None => return,
            },
            SessionCommand::Restored(ask, restored) => (ask.shard, ToShard::Restored(Box::new((ask, restored)))),
            SessionCommand::Notice(..) => return,
        };
        self.tell_shard(instance_run, ShardIndex(shard as u8), item);
    }

    /// Sends an item to a shard, after the items that were sent before.
    pub(super) fn tell_shard(&mut self, instance_run: InstanceRun, shard: ShardIndex, item: ToShard) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(4));
        let shard_slot = &mut self.instances[instance_run.instance].shards[shard.0 as usize];
        let at_ms = shard_slot.from_pump.through(now_ms, delay_ms);
        self.schedule.at(at_ms, SimulatedEvent::ToShard(instance_run, shard, item));
    }
}

/// Polls a call once: the memory store never waits.
fn ready<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

fn heartbeat(number: u64) -> Heartbeat {
    Heartbeat { number, load: Load { connections: 0, connects_per_second: 0, duty: Duty::Full } }
}
