//! The traffic between instances and Redis: connections begin and end, and calls and pushes travel.

use bytes::Bytes;
use message_router::{BrokerError, Command, Event, Ticket};
use redis_model::{Call, Connection, Draft, FunctionReply, NodeIndex, Push, Refusal, Role};
use wire::Scope;

use super::link::{Pending, Up};
use super::plan::Mutant;
use super::redis::{history, other, stored};
use super::schedule::{InstanceRun, LinkNumber, Pipe, RedisCall, RedisRequest, SimulatedEvent};
use super::tally::{Fault, Race};
use super::world::World;

/// Interval of the probes of a connection pair, in milliseconds.
const PROBE_MS: u64 = 1_000;
/// Longest time that an instance waits for a reply, in milliseconds.
const DEADLINE_MS: u64 = 1_000;
/// The link number of replies without a link.
const NO_LINK: LinkNumber = LinkNumber(0);

impl World {
    pub(super) fn attempt(&mut self, instance_run: InstanceRun) {
        let calls_at = self.redis.primary;
        let is_there = self.redis.is_primary(calls_at);
        let replica = other(calls_at);
        let has_replica = self.redis.runs[replica.0] && self.redis.deployment.followed(replica) == Some(calls_at);
        let replicates = self.redis.replicates;
        let number = self.next_number();
        let Some(instance) = self.instance(instance_run) else { return };
        if instance.link.up.is_some() {
            return;
        }
        if !is_there || instance.link.is_disconnected {
            let delay_ms = self.random.within(50, 400);
            return self.schedule.after(delay_ms, SimulatedEvent::Attempt(instance_run));
        }
        let strays = std::mem::take(&mut instance.link.strays) && has_replica && replicates;
        let subscribed_at = if strays { replica } else { calls_at };
        instance.link.up = Some(Up {
            number: LinkNumber(number),
            subscriber: Connection(number),
            subscribed_at,
            calls_at,
            to_subscriber: Pipe::default(),
            from_subscriber: Pipe::default(),
            pending: Default::default(),
            received: Default::default(),
            missed: 0,
            has_received: true,
        });
        self.note(|| format!("link {number} of {instance_run:?} to {calls_at:?}, subscribed at {subscribed_at:?}"));
        self.schedule.after(PROBE_MS, SimulatedEvent::Probe(instance_run, LinkNumber(number)));
        self.pump_step(instance_run, |pump| pump.handle_event(Event::Up));
    }

    /// Evaluates a probe: it has returned since the last interval, or not.
    pub(super) fn probe(&mut self, instance_run: InstanceRun, number: LinkNumber) {
        let redis = &self.redis;
        let Some(instance) =
            self.instances.get_mut(instance_run.instance).filter(|instance| instance.instance_run == instance_run)
        else {
            return;
        };
        let is_disconnected = instance.link.is_disconnected;
        let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
        let answers = redis.runs[up.calls_at.0] && !is_disconnected;
        let follows = || redis.replicates && redis.deployment.followed(up.subscribed_at) == Some(up.calls_at);
        let probe_returns = answers && redis.runs[up.subscribed_at.0] && (up.subscribed_at == up.calls_at || follows());
        let refused = answers && redis.deployment.node(up.calls_at).role() == Role::Replica;
        let receives = std::mem::take(&mut up.has_received) || probe_returns;
        up.missed = if answers && receives { 0 } else { up.missed + 1 };
        let is_dead = up.missed >= 2;
        if refused {
            self.end_link(instance_run, Some(number), "READONLY");
        } else if is_dead {
            self.end_link(instance_run, Some(number), "no sign of life");
        } else {
            self.schedule.after(PROBE_MS, SimulatedEvent::Probe(instance_run, number));
        }
    }

    pub(super) fn end_link(&mut self, instance_run: InstanceRun, number: Option<LinkNumber>, why: &str) {
        let Some(instance) = self.instance(instance_run) else { return };
        let is_it = |up: &mut Up| number.is_none_or(|number| up.number == number);
        let Some(up) = instance.link.up.take_if(|up| is_it(up)) else { return };
        self.redis.deployment.node_mut(up.subscribed_at).close(up.subscriber);
        self.note(|| format!("link {:?} of {instance_run:?} ends: {why}", up.number));
        self.pump_step(instance_run, |pump| {
            pump.handle_event(Event::Down(why.into()));
            for (ticket, pending) in up.pending {
                pump.handle_event(late(Ticket(ticket), &pending));
            }
        });
        let delay_ms = self.random.within(20, 300);
        self.schedule.after(delay_ms, SimulatedEvent::Attempt(instance_run));
    }

    /// Disconnects all instances from a node.
    pub(super) fn disconnect_links_of(&mut self, node: NodeIndex) {
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            let Some(up) = &instance.link.up else { continue };
            if up.subscribed_at == node || up.calls_at == node {
                let (instance_run, number) = (instance.instance_run, up.number);
                let delay_ms = self.random.within(1, 30);
                self.schedule.after(delay_ms, SimulatedEvent::LinkEnds(instance_run, number, "Redis closed it"));
            }
        }
    }

    // === Calls ===

    pub(super) fn command(&mut self, instance_run: InstanceRun, command: Command) {
        let Some(instance) = self.instance(instance_run) else { return };
        let Some(up) = &instance.link.up else { return self.refuse(instance_run, command) };
        let (number, subscriber, subscribed_at, calls_at) = (up.number, up.subscriber, up.subscribed_at, up.calls_at);
        match command {
            Command::Subscribe(scope) => {
                self.ask_subscriber(instance_run, number, subscribed_at, RedisRequest::Subscribe(subscriber, scope));
            }
            Command::Unsubscribe(scope) => {
                self.ask_subscriber(instance_run, number, subscribed_at, RedisRequest::Unsubscribe(subscriber, scope));
            }
            Command::Read { ticket, scope, after, entries_max } => {
                let pending = Pending::Read { scope: scope.clone(), answered_in: None };
                self.call(instance_run, ticket, pending, calls_at, RedisCall::Read { scope, after, entries_max });
            }
            Command::Tops { ticket, scopes, .. } => {
                self.call(instance_run, ticket, Pending::Tops, calls_at, RedisCall::Tops(scopes))
            }
            Command::Lost { ticket, scope, position } => {
                self.call(instance_run, ticket, Pending::Lost, calls_at, RedisCall::Lost(scope, position));
            }
            Command::Reset(why) => self.end_link(instance_run, Some(number), &why),
            Command::Publish(publish) => {
                self.call(instance_run, publish.ticket, Pending::Publish, calls_at, RedisCall::Publish(publish));
            }
        }
    }

    /// Returns the error of a broker that is not connected.
    fn refuse(&mut self, instance_run: InstanceRun, command: Command) {
        let error = BrokerError::Unavailable("not connected".into());
        let (ticket, event) = match command {
            Command::Subscribe(_) | Command::Unsubscribe(_) | Command::Reset(_) => return,
            Command::Tops { ticket, .. } => (ticket, Event::Tops { ticket, result: Err(error) }),
            Command::Read { ticket, .. } => (ticket, Event::History { ticket, result: Err(error) }),
            Command::Lost { ticket, .. } => (ticket, Event::LossNoted { ticket, result: Err(error) }),
            Command::Publish(publish) => {
                (publish.ticket, Event::Published { ticket: publish.ticket, result: Err(error) })
            }
        };
        self.schedule.after(0, SimulatedEvent::Answered(instance_run, NO_LINK, ticket, event));
    }

    fn ask_subscriber(&mut self, instance_run: InstanceRun, number: LinkNumber, node: NodeIndex, ask: RedisRequest) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.path_ms());
        let Some(up) = self.instances[instance_run.instance].link.up.as_mut() else { return };
        let at_ms = up.to_subscriber.through(now_ms, delay_ms);
        self.schedule.at(at_ms, SimulatedEvent::AtRedis(instance_run, number, node, ask));
    }

    fn call(
        &mut self,
        instance_run: InstanceRun,
        ticket: Ticket,
        pending: Pending,
        node: NodeIndex,
        redis_call: RedisCall,
    ) {
        let (delay_ms, chance) = (self.path_ms(), self.random.below(1_000));
        let link = &mut self.instances[instance_run.instance].link;
        let is_lost = chance < link.lost_calls;
        let Some(up) = link.up.as_mut() else { return };
        let (number, event) = (up.number, late(ticket, &pending));
        up.pending.insert(ticket.0, pending);
        if is_lost {
            self.fault(Fault::CallLost);
            self.schedule.after(DEADLINE_MS, SimulatedEvent::Answered(instance_run, number, ticket, event));
        } else {
            self.schedule.after(
                delay_ms,
                SimulatedEvent::AtRedis(instance_run, number, node, RedisRequest::Call(ticket, redis_call)),
            );
        }
    }

    pub(super) fn at_redis(
        &mut self,
        instance_run: InstanceRun,
        number: LinkNumber,
        node: NodeIndex,
        ask: RedisRequest,
    ) {
        let instance = &mut self.instances[instance_run.instance];
        let is_disconnected = instance.instance_run == instance_run && instance.link.is_disconnected;
        let up = instance.link.up.as_mut().filter(|up| up.number == number);
        if !self.redis.runs[node.0] || is_disconnected {
            // Redis does not answer. The request times out, unless the link ends first.
            if let RedisRequest::Call(ticket, redis_call) = ask {
                let event = late(ticket, &pending_of(&redis_call));
                self.schedule.after(DEADLINE_MS, SimulatedEvent::Answered(instance_run, number, ticket, event));
            }
            return;
        }
        match ask {
            RedisRequest::Subscribe(connection, scope) => {
                let Some(up) = up else { return };
                up.received.insert(scope.as_str().into());
                self.redis.deployment.node_mut(node).subscribe(connection, scope.as_str());
                self.wanted.remove(&(instance_run.number, scope.clone()));
                self.push_later(instance_run, number, Event::Subscribed(scope));
            }
            RedisRequest::Unsubscribe(connection, scope) => {
                if let Some(up) = up {
                    up.received.remove(scope.as_str());
                }
                self.redis.deployment.node_mut(node).unsubscribe(connection, scope.as_str());
            }
            RedisRequest::Call(ticket, redis_call) => self.answer(instance_run, number, node, ticket, redis_call),
        }
    }

    /// Executes a call at Redis, even if the instance does not wait for the reply any more.
    fn answer(
        &mut self,
        instance_run: InstanceRun,
        number: LinkNumber,
        node: NodeIndex,
        ticket: Ticket,
        redis_call: RedisCall,
    ) {
        let late = late(ticket, &pending_of(&redis_call));
        let mut pushes = Vec::new();
        let outcome = match redis_call {
            RedisCall::Publish(publish) => self.publish(node, publish, &mut pushes),
            RedisCall::Tops(scopes) => Ok((Event::Tops { ticket, result: Ok(self.tops(node, &scopes)) }, None)),
            RedisCall::Lost(scope, position) => self.mark_loss(node, ticket, &scope, position),
            RedisCall::Read { scope, after, entries_max } => {
                self.read(instance_run, node, ticket, &scope, after, entries_max)
            }
        };
        self.push(pushes);
        let (event, refusal) = match outcome {
            Ok(answered) => answered,
            Err(wrong) => return self.fail(wrong),
        };
        if self.random.below(1_000) < self.instances[instance_run.instance].link.lost_answers {
            self.fault(Fault::AnswerLost);
            let late = match late {
                Event::Published { ticket, .. } if self.redis.mutant == Some(Mutant::RefusesUnknown) => {
                    Event::Published { ticket, result: Err(BrokerError::Unavailable("late".into())) }
                }
                late => late,
            };
            return self.schedule.after(DEADLINE_MS, SimulatedEvent::Answered(instance_run, number, ticket, late));
        }
        let delay_ms = self.path_ms();
        self.schedule.after(delay_ms, SimulatedEvent::Answered(instance_run, number, ticket, event));
        if refusal == Some(Refusal::ReadOnly) {
            self.schedule.after(delay_ms, SimulatedEvent::LinkEnds(instance_run, number, "READONLY"));
        }
    }

    fn publish(
        &mut self,
        node: NodeIndex,
        publish: message_router::Publish,
        pushes: &mut Vec<Push>,
    ) -> Result<(Event, Option<Refusal>), String> {
        let is_named = publish.messages.iter().any(|draft| draft.id.is_some());
        let drafts = publish.messages.into_iter().map(|draft| Draft {
            topic: draft.topic,
            message: Bytes::from(draft.message),
            id: draft.id,
        });
        let drafts = drafts.collect();
        let call = if is_named { Call::PublishOnce(drafts) } else { Call::Publish(drafts) };
        let outcome = self.store(node, &publish.scope, call, pushes)?;
        let refusal = outcome.as_ref().err().copied();
        Ok((Event::Published { ticket: publish.ticket, result: stored(outcome) }, refusal))
    }

    /// Executes a publish, and counts the races that it reaches.
    pub(super) fn store(
        &mut self,
        node: NodeIndex,
        scope: &Scope,
        call: Call,
        pushes: &mut Vec<Push>,
    ) -> Result<super::redis::FunctionOutcome, String> {
        let outcome = self.redis.call(node, scope, call, self.schedule.now_ms(), pushes)?;
        if matches!(outcome, Ok(FunctionReply::Stored(_) | FunctionReply::StoredOnce(_))) {
            let mut met = Vec::new();
            for instance in &self.instances {
                if self.wanted.contains_key(&(instance.instance_run.number, scope.clone())) {
                    met.push(Race::StoredBeforeSubscribed);
                }
                let reads = |up: &&Up| up.received.contains(scope.as_str()) && up.is_reading(scope, true);
                if instance.link.up.as_ref().filter(reads).is_some() {
                    met.push(Race::StoredBeforeRead);
                }
            }
            met.into_iter().for_each(|race| self.race(race));
        }
        Ok(outcome)
    }

    fn mark_loss(
        &mut self,
        node: NodeIndex,
        ticket: Ticket,
        scope: &Scope,
        position: wire::Position,
    ) -> Result<(Event, Option<Refusal>), String> {
        let mut pushes = Vec::new();
        let outcome = self.redis.call(node, scope, Call::Lost(position), self.schedule.now_ms(), &mut pushes)?;
        self.note(|| format!("loss of {position} in {scope} reported to {node:?}: {outcome:?}"));
        let refusal = outcome.as_ref().err().copied();
        let result = outcome.map(drop).map_err(|refusal| BrokerError::Unavailable(refusal.to_string()));
        Ok((Event::LossNoted { ticket, result }, refusal))
    }

    fn read(
        &mut self,
        instance_run: InstanceRun,
        node: NodeIndex,
        ticket: Ticket,
        scope: &Scope,
        after: Option<wire::Position>,
        entries_max: usize,
    ) -> Result<(Event, Option<Refusal>), String> {
        let from_replica = self.redis.mutant == Some(Mutant::ReadsReplica) && self.redis.runs[other(node).0];
        let node = if from_replica { other(node) } else { node };
        let now_ms = self.schedule.now_ms();
        let mut pushes = Vec::new();
        let mut outcome = self.redis.call(node, scope, Call::Read { after, entries_max }, now_ms, &mut pushes)?;
        if outcome == Ok(FunctionReply::Nothing) {
            outcome = self.redis.call(node, scope, Call::Open { after, entries_max }, now_ms, &mut pushes)?;
        }
        let generation = self.redis.deployment.node(node).meta(scope.as_str()).map(|meta| meta.generation);
        let up = self.instances[instance_run.instance].link.up.as_mut();
        if let Some(Pending::Read { answered_in, .. }) = up.and_then(|up| up.pending.get_mut(&ticket.0)) {
            *answered_in = generation;
        }
        let refusal = outcome.as_ref().err().copied();
        Ok((Event::History { ticket, result: history(outcome) }, refusal))
    }

    fn tops(&self, node: NodeIndex, scopes: &[Scope]) -> Vec<Option<wire::Position>> {
        let node = self.redis.deployment.node(node);
        scopes.iter().map(|scope| node.meta(scope.as_str()).map(|meta| meta.top())).collect()
    }

    pub(super) fn answered(&mut self, instance_run: InstanceRun, number: LinkNumber, ticket: Ticket, event: Event) {
        let Some(instance) = self.instance(instance_run) else { return };
        if number != NO_LINK {
            let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
            let (calls_at, answered_in) = (up.calls_at, up.answered_in(ticket));
            let Some(pending) = up.pending.remove(&ticket.0) else { return };
            if let (Pending::Read { scope, .. }, Some(generation)) = (&pending, answered_in) {
                let meta = self.redis.deployment.node(calls_at).meta(scope.as_str());
                if meta.is_some_and(|meta| meta.generation != generation) {
                    self.race(Race::GenerationWhileReading);
                }
            }
        }
        self.pump_step(instance_run, |pump| pump.handle_event(event));
    }

    // === Pushes ===

    /// Sends pushes to their subscribers.
    pub(super) fn push(&mut self, pushes: Vec<Push>) {
        for Push { connection, scope, payload } in pushes {
            let receives = |up: &Up| up.subscriber == connection;
            let at = self.instances.iter().position(|instance| instance.link.up.as_ref().is_some_and(receives));
            let Some(instance) = at.map(|at| &self.instances[at]) else { continue };
            let (instance_run, up) = (instance.instance_run, instance.link.up.as_ref().expect("found above"));
            let number = up.number;
            if instance.link.is_disconnected || self.is_dropped(instance_run, &scope) {
                continue;
            }
            let scope = Bytes::copy_from_slice(scope.as_bytes());
            self.push_later(instance_run, number, Event::Message { scope, envelope: payload });
        }
    }

    fn is_dropped(&mut self, instance_run: InstanceRun, text: &str) -> bool {
        let Some((left, only)) = self.drops.get_mut(&instance_run.number) else { return false };
        if *left == 0 || only.as_ref().is_some_and(|scope| scope.as_str() != text) {
            return false;
        }
        *left -= 1;
        let is_last = only.is_some();
        let scope = self.families.parse_scope(text).expect("scopes have a valid name");
        let up = self.instances[instance_run.instance].link.up.as_ref();
        if up.is_some_and(|up| up.is_reading(&scope, false)) {
            self.race(Race::DroppedWhileReading);
        }
        if is_last {
            self.fault(Fault::LastMessageDropped);
            self.dropped_last.push((scope, self.schedule.now_ms()));
        } else {
            self.fault(Fault::MessageDropped);
        }
        self.note(|| format!("dropped for {instance_run:?} in {text}"));
        true
    }

    /// Schedules an event for a subscriber, in order, after the events that are on their way to it.
    pub(super) fn push_later(&mut self, instance_run: InstanceRun, number: LinkNumber, event: Event) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.path_ms());
        let Some(up) = self.instances[instance_run.instance].link.up.as_mut().filter(|up| up.number == number) else {
            return;
        };
        let at_ms = up.from_subscriber.through(now_ms, delay_ms);
        self.schedule.at(at_ms, SimulatedEvent::Pushed(instance_run, number, event));
    }

    pub(super) fn received(&mut self, instance_run: InstanceRun, number: LinkNumber, event: Event) {
        let Some(instance) = self.instance(instance_run) else { return };
        let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
        up.has_received = true;
        self.pump_step(instance_run, |pump| pump.handle_event(event));
    }

    /// Delivers a part of the missing changes to the replica.
    pub(super) fn replicate(&mut self) {
        let (delay_ms, changes) = (self.random.within(2, 20), self.random.index(6) + 1);
        self.schedule.after(delay_ms, SimulatedEvent::Replicate);
        let replica = other(self.redis.primary);
        if self.redis.replicates && self.redis.runs[replica.0] {
            let mut pushes = Vec::new();
            self.redis.deployment.replicate(replica, changes, &mut pushes);
            self.push(pushes);
        }
    }

    /// Returns a random time for the path to Redis or back, in milliseconds.
    fn path_ms(&mut self) -> u64 {
        let spread_ms = if self.random.one_in(20) { 60 } else { 8 };
        self.random.below(spread_ms) + self.slow_ms
    }
}

fn pending_of(redis_call: &RedisCall) -> Pending {
    match redis_call {
        RedisCall::Publish(_) => Pending::Publish,
        RedisCall::Tops(_) => Pending::Tops,
        RedisCall::Lost(..) => Pending::Lost,
        RedisCall::Read { scope, .. } => Pending::Read { scope: scope.clone(), answered_in: None },
    }
}

/// Returns the broker's event for a call that was not answered in time, or whose link has ended.
fn late(ticket: Ticket, pending: &Pending) -> Event {
    match pending {
        Pending::Publish => Event::Published { ticket, result: Err(BrokerError::Unknown) },
        Pending::Lost => Event::LossNoted { ticket, result: Err(BrokerError::Unavailable("late".into())) },
        Pending::Tops => Event::Tops { ticket, result: Err(BrokerError::Unavailable("late".into())) },
        Pending::Read { .. } => {
            Event::History { ticket, result: Err(BrokerError::Unavailable("Redis did not answer in time".into())) }
        }
    }
}
