//! A model of Redis as the router uses it: a store, one connection that subscribes, and others that read. Pushed
//! messages come in order; the order of answers among them and relative to the messages is random.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use message_router::{BrokerError, Command, Entry, Event, History, Ticket};
use wire::{Envelope, Position, Scope, Timestamp};

/// The whole history of one scope.
pub(crate) struct Log {
    pub(crate) top: Position,
    earlier: Vec<(u64, u64)>,
    torn: Vec<u64>,
    /// The messages that can be read.
    entries: VecDeque<Position>,
    /// Every message that was published and not lost by a failover, even if it cannot be read any more.
    pub(crate) published: Vec<Position>,
    /// `published`, and the messages that failovers lost.
    pub(crate) ever: Vec<Position>,
}

pub(crate) struct ModelRedis {
    pub(crate) logs: BTreeMap<String, Log>,
    subscribed: Vec<Scope>,
    /// Reads that were requested before the last subscribe of their scope.
    abandoned: Vec<Ticket>,
    /// Commands under way, for each connection.
    pub(crate) to_subscriber: VecDeque<Command>,
    pub(crate) to_reader: VecDeque<Command>,
    /// Events under way, for each connection.
    pub(crate) from_subscriber: VecDeque<Event>,
    pub(crate) from_reader: VecDeque<Event>,
    pub(crate) is_up: bool,
}

impl Log {
    /// The same as `tidegate_lost`. In this model a failover always begins a generation.
    fn tear(&mut self, gone: Position) {
        let is_before = |(generation, top): &&(u64, u64)| {
            *generation < gone.generation || *generation == gone.generation && *top < gone.offset
        };
        let end = self.earlier.iter().rfind(|(generation, _)| *generation <= gone.generation);
        if let Some((generation, _)) = end.filter(is_before)
            && !self.torn.contains(generation)
        {
            self.torn.push(*generation);
        }
    }
}

impl ModelRedis {
    pub(crate) fn new(scopes: &[Scope]) -> Self {
        let log = || Log {
            top: Position::new(10, 0),
            earlier: Vec::new(),
            torn: Vec::new(),
            entries: VecDeque::new(),
            published: Vec::new(),
            ever: Vec::new(),
        };
        Self {
            logs: scopes.iter().map(|scope| (scope.as_str().to_owned(), log())).collect(),
            subscribed: Vec::new(),
            abandoned: Vec::new(),
            to_subscriber: VecDeque::new(),
            to_reader: VecDeque::new(),
            from_subscriber: VecDeque::new(),
            from_reader: VecDeque::new(),
            is_up: false,
        }
    }

    pub(crate) fn log(&self, scope: &Scope) -> &Log {
        &self.logs[scope.as_str()]
    }

    fn log_mut(&mut self, scope: &Scope) -> &mut Log {
        self.logs.get_mut(scope.as_str()).expect("the model knows its scopes")
    }

    /// Takes a command. Without a connection it is answered with an error, as the contract requires.
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Read { ticket, .. } if !self.is_up => self.fail(ticket),
            Command::Tops { ticket, .. } if !self.is_up => self.fail_tops(ticket),
            Command::Lost { ticket, .. } if !self.is_up => self.fail_loss(ticket),
            Command::Read { .. } | Command::Tops { .. } | Command::Lost { .. } => self.to_reader.push_back(command),
            Command::Subscribe(_) | Command::Unsubscribe(_) if !self.is_up => {}
            Command::Subscribe(ref scope) => {
                self.abandon_reads(scope);
                self.to_subscriber.push_back(command);
            }
            Command::Unsubscribe(_) => self.to_subscriber.push_back(command),
            // The answer is not needed here: a publish of this instance is like one of another publisher.
            Command::Publish(publish) if self.is_up => self.publish(&publish.scope, publish.messages.len() as u64),
            Command::Publish(_) => {}
            Command::Reset(reason) => panic!("the router resets nothing: {reason}"),
        }
    }

    fn fail(&mut self, ticket: Ticket) {
        let result = Err(BrokerError::Unavailable("the model lost it".into()));
        self.from_reader.push_back(Event::History { ticket, result });
    }

    fn fail_tops(&mut self, ticket: Ticket) {
        let result = Err(BrokerError::Unavailable("the model lost it".into()));
        self.from_reader.push_back(Event::Tops { ticket, result });
    }

    fn fail_loss(&mut self, ticket: Ticket) {
        let result = Err(BrokerError::Unavailable("the model lost it".into()));
        self.from_reader.push_back(Event::LossNoted { ticket, result });
    }

    pub(crate) fn run_subscriber(&mut self) {
        match self.to_subscriber.pop_front() {
            Some(Command::Subscribe(scope)) => {
                self.subscribed.push(scope.clone());
                self.from_subscriber.push_back(Event::Subscribed(scope));
            }
            Some(Command::Unsubscribe(scope)) => self.subscribed.retain(|s| *s != scope),
            _ => {}
        }
    }

    /// Carries out one read command; the order is not defined. Large messages fill a page earlier.
    pub(crate) fn run_reader(&mut self, at: usize, fails: bool, page_max: usize) {
        let (ticket, scope, after, entries_max) = match self.to_reader.remove(at) {
            Some(Command::Read { ticket, .. }) if fails => return self.fail(ticket),
            Some(Command::Read { ticket, scope, after, entries_max }) => (ticket, scope, after, entries_max),
            Some(Command::Tops { ticket, .. }) if fails => return self.fail_tops(ticket),
            Some(Command::Tops { ticket, scopes, .. }) => {
                let result = Ok(scopes.iter().map(|scope| Some(self.log(scope).top)).collect());
                return self.from_reader.push_back(Event::Tops { ticket, result });
            }
            Some(Command::Lost { ticket, .. }) if fails => return self.fail_loss(ticket),
            Some(Command::Lost { ticket, scope, position }) => {
                self.log_mut(&scope).tear(position);
                return self.from_reader.push_back(Event::LossNoted { ticket, result: Ok(()) });
            }
            _ => return,
        };
        let log = self.log(&scope);
        let behind = log.entries.iter().filter(|p| after.is_some_and(|after| **p > after));
        let entry = |p: &Position| Entry {
            position: *p,
            time: Timestamp(0),
            topic: Box::from(""),
            message: Bytes::from_static(b"{}"),
        };
        let entries: Vec<_> = behind.clone().take(entries_max.min(page_max)).map(entry).collect();
        let more = behind.count() > entries.len();
        let history = History { top: log.top, earlier: log.earlier.clone(), torn: log.torn.clone(), entries, more };
        self.from_reader.push_back(Event::History { ticket, result: Ok(history) });
    }

    /// Stores and publishes `count` messages in one step.
    pub(crate) fn publish(&mut self, scope: &Scope, count: u64) {
        let is_kept = Self::keeps_history(scope);
        let log = self.log_mut(scope);
        let first = log.top.next();
        for _ in 0..count {
            log.top = log.top.next();
            if is_kept {
                log.entries.push_back(log.top);
            }
            log.published.push(log.top);
            log.ever.push(log.top);
        }
        if self.subscribed.contains(scope) {
            let items = (0..count).map(|_| ("", &b"{}"[..]));
            let envelope = Bytes::from(Envelope::write(first, Timestamp(0), items));
            let scope = Bytes::copy_from_slice(scope.as_str().as_bytes());
            self.from_subscriber.push_back(Event::Message { scope, envelope });
        }
    }

    /// Drops both connections and everything under way. Commands in flight are answered with an error.
    pub(crate) fn down(&mut self) {
        self.is_up = false;
        self.subscribed.clear();
        self.to_subscriber.clear();
        self.from_subscriber.clear();
        let (mut lost, mut lost_tops, mut lost_losses) = (Vec::new(), Vec::new(), Vec::new());
        for event in self.from_reader.drain(..) {
            match event {
                Event::History { ticket, .. } => lost.push(ticket),
                Event::Tops { ticket, .. } => lost_tops.push(ticket),
                Event::LossNoted { ticket, .. } => lost_losses.push(ticket),
                _ => {}
            }
        }
        for command in self.to_reader.drain(..) {
            match command {
                Command::Read { ticket, .. } => lost.push(ticket),
                Command::Tops { ticket, .. } => lost_tops.push(ticket),
                Command::Lost { ticket, .. } => lost_losses.push(ticket),
                _ => {}
            }
        }
        self.from_subscriber.push_back(Event::Down("the model took it".into()));
        lost.into_iter().for_each(|ticket| self.fail(ticket));
        lost_tops.into_iter().for_each(|ticket| self.fail_tops(ticket));
        lost_losses.into_iter().for_each(|ticket| self.fail_loss(ticket));
    }

    pub(crate) fn up(&mut self) {
        self.is_up = true;
        self.from_subscriber.push_back(Event::Up);
    }

    /// Number of reads of a scope that are under way. Reads from before the last subscribe or loss of the scope do not
    /// count: their answers are ignored.
    pub(crate) fn reads_under_way(&self, scope: &Scope) -> usize {
        let is_of = |command: &&Command| match command {
            Command::Read { scope: of, ticket, .. } => of == scope && !self.abandoned.contains(ticket),
            _ => false,
        };
        self.to_reader.iter().filter(is_of).count()
    }

    pub(crate) fn abandon_reads(&mut self, scope: &Scope) {
        for command in &self.to_reader {
            match command {
                Command::Read { scope: of, ticket, .. } if of == scope => self.abandoned.push(*ticket),
                _ => {}
            }
        }
    }

    /// Ends the subscription of one scope alone, as when its slot moves.
    pub(crate) fn lose_subscription(&mut self, scope: &Scope) {
        if self.subscribed.contains(scope) {
            self.subscribed.retain(|s| s != scope);
            self.from_subscriber.push_back(Event::Lost(scope.clone()));
        }
    }

    /// Whether messages of this scope are stored.
    pub(crate) fn keeps_history(scope: &Scope) -> bool {
        scope.name() != "system"
    }

    /// Drops the newest message between Redis and the instance, without a trace.
    pub(crate) fn drop_message(&mut self) {
        if let Some(at) = self.from_subscriber.iter().rposition(|e| matches!(e, Event::Message { .. })) {
            self.from_subscriber.remove(at);
        }
    }

    /// Applies retention: only the newest `kept` messages stay.
    pub(crate) fn trim(&mut self, scope: &Scope, kept: usize) {
        let log = self.log_mut(scope);
        let surplus = log.entries.len().saturating_sub(kept);
        log.entries.drain(..surplus);
    }

    /// Fails over to a replica that lacks the last `lost` messages of the generation.
    pub(crate) fn fail_over(&mut self, scope: &Scope, lost: u64) {
        let log = self.log_mut(scope);
        let kept = Position::new(log.top.generation, log.top.offset - lost.min(log.top.offset));
        log.earlier.push((kept.generation, kept.offset));
        log.entries.retain(|p| *p <= kept);
        log.published.retain(|p| *p <= kept);
        log.top = Position::new(kept.generation + 3, 0);
    }
}
