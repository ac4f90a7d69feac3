//! The registry of the fleet, and what its instances tell it in the order of the product's heartbeat task: what sessions left,
//! who is connected where, and who wants its session back. Its store is the product's own of one process; that a real
//! Redis is the same the conformance suite shows. Leases do not end here, and no clock is off.

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

/// Longer than any of its records is needed.
const RECORDS_BYTES_MAX: usize = 1 << 20;
/// After this much time the rows of a dead instance are removed by its peers.
pub(super) const REAP_MS: u64 = 8_000;

/// What all instances share.
pub(super) struct Registry {
    store: MemoryStore,
    start: Instant,
}

/// What one instance has of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) directory: Arc<Directory>,
    instance: Instance,
    token: Token,
    number: u64,
}

/// Of the calls of one instance, so many in a thousand never come there, and so many answers never come back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses {
    pub(super) calls: u64,
    pub(super) answers: u64,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { store: MemoryStore::new(ConnectionLimits::default(), Timings::default()), start: Instant::now() }
    }

    /// The run's time, as connections are dated.
    pub(super) fn moment(&self, now_ms: u64) -> Instant {
        self.start + Duration::from_millis(now_ms)
    }

    /// A life of an instance begins.
    pub(super) fn join(&self, instance_run: InstanceRun) -> Member {
        let instance = Instance {
            id: InstanceId::parse(&format!("gw-{}-{}", instance_run.instance, instance_run.number)).expect("a name"),
            incarnation: Incarnation::new(0, instance_run.number as u32),
            address: "nowhere".into(),
        };
        let acquired = ready(self.store.acquire(&instance, pulse(0)));
        let Ok(Acquired::Granted { token, .. }) = acquired else { unreachable!("no other has its name") };
        Member { directory: Arc::default(), instance, token, number: 0 }
    }

    /// Its peers have found a dead instance.
    pub(super) fn reap(&self, dead: &Member) {
        ready(self.store.release(&dead.instance, &dead.token)).expect("nobody else has done so");
    }

    /// What an instance says and hears in one turn, up to the first call without an answer.
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
        let renewed = call.make(|| ready(store.renew(instance, token, pulse(*number), *number - 1)))?;
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

/// Makes calls, and loses some of them.
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
    /// An instance's heartbeat task: writes what is new, and asks, if Redis can be reached.
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

    /// Something is on its way to a shard, behind what was sent before.
    pub(super) fn tell_shard(&mut self, instance_run: InstanceRun, shard: ShardIndex, item: ToShard) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.below(4));
        let shard_slot = &mut self.instances[instance_run.instance].shards[shard.0 as usize];
        let at_ms = shard_slot.from_pump.through(now_ms, delay_ms);
        self.schedule.at(at_ms, SimulatedEvent::ToShard(instance_run, shard, item));
    }
}

/// The store of one process waits for nothing.
fn ready<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("it is all in memory"),
    }
}

fn pulse(number: u64) -> Heartbeat {
    Heartbeat { number, load: Load { connections: 0, connects_per_second: 0, duty: Duty::Full } }
}
