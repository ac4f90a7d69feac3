//! Between instances and Redis: links come up and end, calls and pushes travel, and what the pump decides is handed on.

use bytes::Bytes;
use message_router::{BrokerError, Command, Event, Ticket};
use redis_model::{Answer, Call, Connection, Draft, NodeIndex, Push, Refusal, Role};
use wire::Scope;

use super::link::{Pending, Up};
use super::plan::Mutant;
use super::redis::{history, other, stored};
use super::schedule::{Ask, Happening, Life, LinkNumber, Pipe, Question};
use super::tally::{Fault, Race};
use super::world::World;

/// How often a link says a word to itself.
const PROBE_MS: u64 = 1_000;
/// Without an answer for so long, nobody waits any more.
const DEADLINE_MS: u64 = 1_000;
/// For what is answered without a link.
const NO_LINK: LinkNumber = LinkNumber(0);

impl World {
    pub(super) fn attempt(&mut self, life: Life) {
        let asked_at = self.redis.primary;
        let is_there = self.redis.is_primary(asked_at);
        let replica = other(asked_at);
        let has_replica = self.redis.runs[replica.0] && self.redis.deployment.followed(replica) == Some(asked_at);
        let replicates = self.redis.replicates;
        let number = self.next_number();
        let Some(instance) = self.instance(life) else { return };
        if instance.link.up.is_some() {
            return;
        }
        if !is_there || instance.link.is_cut {
            let delay_ms = self.random.within(50, 400);
            return self.schedule.after(delay_ms, Happening::Attempt(life));
        }
        let strays = std::mem::take(&mut instance.link.strays) && has_replica && replicates;
        let heard_at = if strays { replica } else { asked_at };
        instance.link.up = Some(Up {
            number: LinkNumber(number),
            subscriber: Connection(number),
            heard_at,
            asked_at,
            to_subscriber: Pipe::default(),
            from_subscriber: Pipe::default(),
            pending: Default::default(),
            heard: Default::default(),
            missed: 0,
            has_heard: true,
        });
        self.note(|| format!("link {number} of {life:?} to {asked_at:?}, heard at {heard_at:?}"));
        self.schedule.after(PROBE_MS, Happening::Probe(life, LinkNumber(number)));
        self.turn(life, |pump| pump.hear(Event::Up));
    }

    /// The word of the last interval has come back, or has not.
    pub(super) fn probe(&mut self, life: Life, number: LinkNumber) {
        let redis = &self.redis;
        let Some(instance) = self.instances.get_mut(life.instance).filter(|instance| instance.life == life) else {
            return;
        };
        let is_cut = instance.link.is_cut;
        let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
        let answers = redis.runs[up.asked_at.0] && !is_cut;
        let follows = || redis.replicates && redis.deployment.followed(up.heard_at) == Some(up.asked_at);
        let word_comes = answers && redis.runs[up.heard_at.0] && (up.heard_at == up.asked_at || follows());
        let refused = answers && redis.deployment.node(up.asked_at).role() == Role::Replica;
        let hears = std::mem::take(&mut up.has_heard) || word_comes;
        up.missed = if answers && hears { 0 } else { up.missed + 1 };
        let is_dead = up.missed >= 2;
        if refused {
            self.end_link(life, Some(number), "READONLY");
        } else if is_dead {
            self.end_link(life, Some(number), "the way is cut");
        } else {
            self.schedule.after(PROBE_MS, Happening::Probe(life, number));
        }
    }

    pub(super) fn end_link(&mut self, life: Life, number: Option<LinkNumber>, why: &str) {
        let Some(instance) = self.instance(life) else { return };
        let is_it = |up: &mut Up| number.is_none_or(|number| up.number == number);
        let Some(up) = instance.link.up.take_if(|up| is_it(up)) else { return };
        self.redis.deployment.node_mut(up.heard_at).close(up.subscriber);
        self.note(|| format!("link {:?} of {life:?} ends: {why}", up.number));
        self.turn(life, |pump| {
            pump.hear(Event::Down(why.into()));
            for (ticket, pending) in up.pending {
                pump.hear(late(Ticket(ticket), &pending));
            }
        });
        let delay_ms = self.random.within(20, 300);
        self.schedule.after(delay_ms, Happening::Attempt(life));
    }

    /// Everybody who has a connection to a node loses it.
    pub(super) fn cut_links_of(&mut self, node: NodeIndex) {
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            let Some(up) = &instance.link.up else { continue };
            if up.heard_at == node || up.asked_at == node {
                let (life, number) = (instance.life, up.number);
                let delay_ms = self.random.within(1, 30);
                self.schedule.after(delay_ms, Happening::LinkEnds(life, number, "Redis closed it"));
            }
        }
    }

    // === Calls ===

    pub(super) fn command(&mut self, life: Life, command: Command) {
        let Some(instance) = self.instance(life) else { return };
        let Some(up) = &instance.link.up else { return self.refuse(life, command) };
        let (number, subscriber, heard_at, asked_at) = (up.number, up.subscriber, up.heard_at, up.asked_at);
        match command {
            Command::Subscribe(scope) => {
                self.ask_subscriber(life, number, heard_at, Ask::Subscribe(subscriber, scope));
            }
            Command::Unsubscribe(scope) => {
                self.ask_subscriber(life, number, heard_at, Ask::Unsubscribe(subscriber, scope));
            }
            Command::Read { ticket, scope, after, entries_max } => {
                let pending = Pending::Read { scope: scope.clone(), answered_in: None };
                self.call(life, ticket, pending, asked_at, Question::Read { scope, after, entries_max });
            }
            Command::Tops { ticket, scopes } => {
                self.call(life, ticket, Pending::Tops, asked_at, Question::Tops(scopes))
            }
            Command::Lost { ticket, scope, position } => {
                self.call(life, ticket, Pending::Lost, asked_at, Question::Lost(scope, position));
            }
            Command::Reset(why) => self.end_link(life, Some(number), &why),
            Command::Publish(publish) => {
                self.call(life, publish.ticket, Pending::Publish, asked_at, Question::Publish(publish));
            }
        }
    }

    /// What a broker answers while it has no link.
    fn refuse(&mut self, life: Life, command: Command) {
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
        self.schedule.after(0, Happening::Answered(life, NO_LINK, ticket, event));
    }

    fn ask_subscriber(&mut self, life: Life, number: LinkNumber, node: NodeIndex, ask: Ask) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.way_ms());
        let Some(up) = self.instances[life.instance].link.up.as_mut() else { return };
        let at_ms = up.to_subscriber.through(now_ms, delay_ms);
        self.schedule.at(at_ms, Happening::AtRedis(life, number, node, ask));
    }

    fn call(&mut self, life: Life, ticket: Ticket, pending: Pending, node: NodeIndex, question: Question) {
        let (delay_ms, chance) = (self.way_ms(), self.random.below(1_000));
        let link = &mut self.instances[life.instance].link;
        let is_lost = chance < link.lost_calls;
        let Some(up) = link.up.as_mut() else { return };
        let (number, event) = (up.number, late(ticket, &pending));
        up.pending.insert(ticket.0, pending);
        if is_lost {
            self.fault(Fault::CallLost);
            self.schedule.after(DEADLINE_MS, Happening::Answered(life, number, ticket, event));
        } else {
            self.schedule.after(delay_ms, Happening::AtRedis(life, number, node, Ask::Call(ticket, question)));
        }
    }

    pub(super) fn at_redis(&mut self, life: Life, number: LinkNumber, node: NodeIndex, ask: Ask) {
        let instance = &mut self.instances[life.instance];
        let is_cut = instance.life == life && instance.link.is_cut;
        let up = instance.link.up.as_mut().filter(|up| up.number == number);
        if !self.redis.runs[node.0] || is_cut {
            // Nobody answers. What waits for it is late, unless the link ends before.
            if let Ask::Call(ticket, question) = ask {
                let event = late(ticket, &pending_of(&question));
                self.schedule.after(DEADLINE_MS, Happening::Answered(life, number, ticket, event));
            }
            return;
        }
        match ask {
            Ask::Subscribe(connection, scope) => {
                let Some(up) = up else { return };
                up.heard.insert(scope.as_str().into());
                self.redis.deployment.node_mut(node).subscribe(connection, scope.as_str());
                self.wanted.remove(&(life.number, scope.clone()));
                self.hear_later(life, number, Event::Subscribed(scope));
            }
            Ask::Unsubscribe(connection, scope) => {
                if let Some(up) = up {
                    up.heard.remove(scope.as_str());
                }
                self.redis.deployment.node_mut(node).unsubscribe(connection, scope.as_str());
            }
            Ask::Call(ticket, question) => self.answer(life, number, node, ticket, question),
        }
    }

    /// Redis carries out a call, whether anybody still waits for it or not.
    fn answer(&mut self, life: Life, number: LinkNumber, node: NodeIndex, ticket: Ticket, question: Question) {
        let late = late(ticket, &pending_of(&question));
        let mut pushes = Vec::new();
        let outcome = match question {
            Question::Publish(publish) => self.publish(node, publish, &mut pushes),
            Question::Tops(scopes) => Ok((Event::Tops { ticket, result: Ok(self.tops(node, &scopes)) }, None)),
            Question::Lost(scope, position) => self.mark_loss(node, ticket, &scope, position),
            Question::Read { scope, after, entries_max } => self.read(life, node, ticket, &scope, after, entries_max),
        };
        self.push(pushes);
        let (event, refusal) = match outcome {
            Ok(answered) => answered,
            Err(wrong) => return self.fail(wrong),
        };
        if self.random.below(1_000) < self.instances[life.instance].link.lost_answers {
            self.fault(Fault::AnswerLost);
            let late = match late {
                Event::Published { ticket, .. } if self.redis.mutant == Some(Mutant::RefusesUnknown) => {
                    Event::Published { ticket, result: Err(BrokerError::Unavailable("late".into())) }
                }
                late => late,
            };
            return self.schedule.after(DEADLINE_MS, Happening::Answered(life, number, ticket, late));
        }
        let delay_ms = self.way_ms();
        self.schedule.after(delay_ms, Happening::Answered(life, number, ticket, event));
        if refusal == Some(Refusal::ReadOnly) {
            self.schedule.after(delay_ms, Happening::LinkEnds(life, number, "READONLY"));
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

    /// Runs a publish, and looks at which races it has met.
    pub(super) fn store(
        &mut self,
        node: NodeIndex,
        scope: &Scope,
        call: Call,
        pushes: &mut Vec<Push>,
    ) -> Result<super::redis::Outcome, String> {
        let outcome = self.redis.call(node, scope, call, self.schedule.now_ms(), pushes)?;
        if matches!(outcome, Ok(Answer::Stored(_) | Answer::StoredOnce(_))) {
            let mut met = Vec::new();
            for instance in &self.instances {
                if self.wanted.contains_key(&(instance.life.number, scope.clone())) {
                    met.push(Race::StoredBeforeSubscribed);
                }
                let reads = |up: &&Up| up.heard.contains(scope.as_str()) && up.is_reading(scope, true);
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
        self.note(|| format!("{scope} at {node:?} is told that {position} is gone: {outcome:?}"));
        let refusal = outcome.as_ref().err().copied();
        let result = outcome.map(drop).map_err(|refusal| BrokerError::Unavailable(refusal.to_string()));
        Ok((Event::LossNoted { ticket, result }, refusal))
    }

    fn read(
        &mut self,
        life: Life,
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
        if outcome == Ok(Answer::Nothing) {
            outcome = self.redis.call(node, scope, Call::Open { after, entries_max }, now_ms, &mut pushes)?;
        }
        let generation = self.redis.deployment.node(node).meta(scope.as_str()).map(|meta| meta.generation);
        let up = self.instances[life.instance].link.up.as_mut();
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

    pub(super) fn answered(&mut self, life: Life, number: LinkNumber, ticket: Ticket, event: Event) {
        let Some(instance) = self.instance(life) else { return };
        if number != NO_LINK {
            let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
            let (asked_at, answered_in) = (up.asked_at, up.answered_in(ticket));
            let Some(pending) = up.pending.remove(&ticket.0) else { return };
            if let (Pending::Read { scope, .. }, Some(generation)) = (&pending, answered_in) {
                let meta = self.redis.deployment.node(asked_at).meta(scope.as_str());
                if meta.is_some_and(|meta| meta.generation != generation) {
                    self.race(Race::GenerationWhileReading);
                }
            }
        }
        self.turn(life, |pump| pump.hear(event));
    }

    // === Pushes ===

    /// Puts what subscribers hear on its way to them.
    pub(super) fn push(&mut self, pushes: Vec<Push>) {
        for Push { connection, scope, payload } in pushes {
            let hears = |up: &Up| up.subscriber == connection;
            let at = self.instances.iter().position(|instance| instance.link.up.as_ref().is_some_and(hears));
            let Some(instance) = at.map(|at| &self.instances[at]) else { continue };
            let (life, up) = (instance.life, instance.link.up.as_ref().expect("found by it"));
            let number = up.number;
            if instance.link.is_cut || self.is_dropped(life, &scope) {
                continue;
            }
            let scope = Bytes::copy_from_slice(scope.as_bytes());
            self.hear_later(life, number, Event::Message { scope, envelope: payload });
        }
    }

    fn is_dropped(&mut self, life: Life, text: &str) -> bool {
        let Some((left, only)) = self.drops.get_mut(&life.number) else { return false };
        if *left == 0 || only.as_ref().is_some_and(|scope| scope.as_str() != text) {
            return false;
        }
        *left -= 1;
        let is_last = only.is_some();
        let scope = self.families.parse_scope(text).expect("scopes are written by ourselves");
        let up = self.instances[life.instance].link.up.as_ref();
        if up.is_some_and(|up| up.is_reading(&scope, false)) {
            self.race(Race::DroppedWhileReading);
        }
        if is_last {
            self.fault(Fault::LastMessageDropped);
            self.dropped_last.push((scope, self.schedule.now_ms()));
        } else {
            self.fault(Fault::MessageDropped);
        }
        self.note(|| format!("dropped for {life:?} in {text}"));
        true
    }

    /// In order, behind what is on its way to the same subscriber.
    pub(super) fn hear_later(&mut self, life: Life, number: LinkNumber, event: Event) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.way_ms());
        let Some(up) = self.instances[life.instance].link.up.as_mut().filter(|up| up.number == number) else { return };
        let at_ms = up.from_subscriber.through(now_ms, delay_ms);
        self.schedule.at(at_ms, Happening::Heard(life, number, event));
    }

    pub(super) fn heard(&mut self, life: Life, number: LinkNumber, event: Event) {
        let Some(instance) = self.instance(life) else { return };
        let Some(up) = instance.link.up.as_mut().filter(|up| up.number == number) else { return };
        up.has_heard = true;
        self.turn(life, |pump| pump.hear(event));
    }

    /// The replica gets a part of what it lacks.
    pub(super) fn replicate(&mut self) {
        let (delay_ms, changes) = (self.random.within(2, 20), self.random.index(6) + 1);
        self.schedule.after(delay_ms, Happening::Replicate);
        let replica = other(self.redis.primary);
        if self.redis.replicates && self.redis.runs[replica.0] {
            let mut pushes = Vec::new();
            self.redis.deployment.replicate(replica, changes, &mut pushes);
            self.push(pushes);
        }
    }

    /// How long something takes to Redis, or back.
    fn way_ms(&mut self) -> u64 {
        let spread_ms = if self.random.one_in(20) { 60 } else { 8 };
        self.random.below(spread_ms) + self.slow_ms
    }
}

fn pending_of(question: &Question) -> Pending {
    match question {
        Question::Publish(_) => Pending::Publish,
        Question::Tops(_) => Pending::Tops,
        Question::Lost(..) => Pending::Lost,
        Question::Read { scope, .. } => Pending::Read { scope: scope.clone(), answered_in: None },
    }
}

/// What the broker says of a call that was not answered in time, or whose link has ended.
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
