//! The behaviour of clients: they connect, subscribe, publish, stop reading, and reconnect.

use serde_json::{Value, json};
use wire::{Position, Scope};

use super::client::{Frame, PendingSubscribe, Socket, take_frame};
use super::event_stream::take_event;
use super::schedule::{Pipe, SimulatedEvent, Wire};
use super::tally::{Fault, Race};
use super::world::{TOPICS, World};

impl World {
    /// Connects a client to some instance. It sends all its channels in one frame.
    pub(super) fn connect(&mut self, index: usize) {
        let instance = self.random.index(self.instances.len());
        let instance_run = self.instances[instance].instance_run;
        let wire = Wire { client: index, number: self.next_number() };
        let since_ms = self.schedule.now_ms();
        let client = &mut self.clients[index];
        client.is_connecting = false;
        if client.socket.is_some() {
            return;
        }
        client.socket = Some(Socket {
            wire,
            instance_run,
            shard_slot: None,
            up: Pipe::default(),
            down: Pipe::default(),
            unread: 0,
            waiting: None,
            rest: Vec::new(),
            since_ms,
            locals: Default::default(),
        });
        self.send(index, |wire, _| SimulatedEvent::Opened(instance_run, wire), "");
        if self.clients[index].stream.is_some() {
            return; // Its request has said all that it has to say.
        }
        let id = self.clients[index].next_id();
        let delay_ms = self.random.within(30, 300);
        self.schedule.after(delay_ms, SimulatedEvent::Act(index));
        if self.ask_for_session(index, instance_run, &id) {
            return;
        }
        let wanted: Vec<_> = self.clients[index].wanted.clone().into_iter().collect();
        let mut channels = Vec::new();
        for (channel, given) in wanted {
            let (given, forged) = self.forge(index, given);
            channels.push(match given {
                Some(given) => json!({"channel": channel, "position": given.to_string()}),
                None => json!({"channel": channel}),
            });
            self.clients[index].asked.push(PendingSubscribe { id: id.clone(), channel, given, forged, restored: None });
        }
        self.clients[index].forges = false;
        let restore = self.clients[index].restoring.is_some();
        let payload = json!({"channels": channels, "restore": restore});
        self.send_frame(index, &json!({"type": "hello", "payload": payload, "correlation_id": id}));
    }

    /// Returns the position that the client sends: the last one it saw, or a forged one.
    fn forge(&mut self, index: usize, given: Option<Position>) -> (Option<Position>, bool) {
        if !self.clients[index].forges {
            return (given, false);
        }
        let Position { generation, offset } = given.unwrap_or(Position::new(7, 7));
        let forged = match self.random.below(4) {
            0 => Position::new(generation, offset + 1_000_000),
            1 => Position::new(generation + 1, offset),
            2 => Position::new(generation.saturating_sub(70_000), offset),
            _ => Position::new(u64::MAX, u64::MAX),
        };
        (Some(forged), true)
    }

    pub(super) fn send(&mut self, index: usize, what: impl FnOnce(Wire, String) -> SimulatedEvent, text: &str) {
        let (now_ms, delay_ms) = (self.schedule.now_ms(), self.random.within(1, 15));
        let Some(socket) = &mut self.clients[index].socket else { return };
        let at_ms = socket.up.through(now_ms, delay_ms);
        let what = what(socket.wire, text.to_owned());
        self.schedule.at(at_ms, what);
    }

    pub(super) fn send_frame(&mut self, index: usize, frame: &Value) {
        self.note(|| format!("client {index} sends {frame}"));
        self.send(index, SimulatedEvent::SendText, &frame.to_string());
    }

    /// Performs a random action of a client.
    pub(super) fn act(&mut self, index: usize) {
        if self.clients[index].socket.is_none() || self.is_quiet {
            return;
        }
        let delay_ms = self.random.within(30, 400);
        self.schedule.after(delay_ms, SimulatedEvent::Act(index));
        match self.random.below(10) {
            0..5 => self.publish_as(index),
            _ if self.clients[index].asking.is_some() => {}
            5 => drop(self.unsubscribe_one(index)),
            6 | 7 => self.subscribe_one(index),
            _ => {}
        }
    }

    fn publish_as(&mut self, index: usize) {
        let mut names = vec!["collection:1", "collection:2", "system", "note:1"];
        let own = format!("user:{}", self.clients[index].user);
        names.push(&own);
        let topic = *self.random.pick(TOPICS);
        let name = *self.random.pick(&names);
        let is_hushed = |(scope, _): &(Scope, u64)| scope.name() == name;
        if self.hushed.as_ref().is_some_and(is_hushed) {
            return;
        }
        let channel = if topic.is_empty() { name.to_owned() } else { format!("{name}:{topic}") };
        let (number, _) = self.next_message();
        self.send_publish(index, number, &channel);
    }

    pub(super) fn send_publish(&mut self, index: usize, number: u64, channel: &str) {
        let (id, name) = (format!("p{number}"), format!("m{number}"));
        let frame = json!({
            "type": "publish", "channel": channel, "event": "m", "payload": number, "id": name, "correlation_id": id,
        });
        self.send_frame(index, &frame);
    }

    pub(super) fn unsubscribe_one(&mut self, index: usize) -> Option<String> {
        let held: Vec<_> = self.clients[index].wanted.keys().cloned().collect();
        if held.is_empty() {
            return None;
        }
        let channel = self.random.pick(&held).clone();
        self.clients[index].wanted.remove(&channel);
        let id = self.clients[index].next_id();
        self.send_frame(index, &json!({"type": "unsubscribe", "channel": channel, "correlation_id": id}));
        Some(channel)
    }

    fn subscribe_one(&mut self, index: usize) {
        let channels = ["collection:1:*", "collection:2:ops", "collection:1", "system:*", "note:1:*", "collection:2:*"];
        let channel = *self.random.pick(&channels);
        if !self.clients[index].wanted.contains_key(channel) {
            self.subscribe(index, channel.to_owned(), None);
        }
    }

    pub(super) fn subscribe(&mut self, index: usize, channel: String, given: Option<Position>) {
        let client = &mut self.clients[index];
        client.wanted.insert(channel.clone(), given);
        let id = client.next_id();
        client.asked.push(PendingSubscribe {
            id: id.clone(),
            channel: channel.clone(),
            given,
            forged: false,
            restored: None,
        });
        let mut frame = json!({"type": "subscribe", "channel": channel, "correlation_id": id});
        if let Some(given) = given {
            frame["position"] = given.to_string().into();
        }
        self.send_frame(index, &frame);
    }

    /// Delivers bytes to a client.
    pub(super) fn reads(&mut self, wire: Wire, bytes: Vec<u8>) {
        let client = &mut self.clients[wire.client];
        let Some(socket) = client.socket.as_mut().filter(|socket| socket.wire == wire) else { return };
        if let Some(waiting) = &mut socket.waiting {
            return waiting.extend(bytes);
        }
        let was_full = socket.room(1) == 0;
        socket.unread -= bytes.len();
        socket.rest.extend(bytes);
        if was_full || socket.shard_slot.is_some() {
            let delay_ms = self.random.below(6);
            self.schedule.after(delay_ms, SimulatedEvent::Writable(wire));
        }
        loop {
            if self.clients[wire.client].stream.is_some() && self.clients[wire.client].is_on(wire) {
                match self.read_event(wire) {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(error) => return self.fail(format!("client {}: {error}", wire.client)),
                }
            }
            let Some(socket) = self.clients[wire.client].socket.as_mut().filter(|s| s.wire == wire) else { return };
            let outcome = match take_frame(&mut socket.rest) {
                Ok(None) => return,
                Ok(Some(Frame::Ping(payload))) => {
                    self.send(wire.client, |wire, _| SimulatedEvent::Pongs(wire, payload), "");
                    continue;
                }
                Ok(Some(Frame::Close(code))) => return self.closed(wire, code),
                Ok(Some(Frame::Text(frame))) => self.frame(wire.client, &frame),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                return self.fail(format!("client {}: {error}", wire.client));
            }
        }
    }

    /// Reads one event of a stream, if there is a whole one and the stream goes on.
    fn read_event(&mut self, wire: Wire) -> Result<bool, String> {
        let Some(socket) = self.clients[wire.client].socket.as_mut() else { return Ok(false) };
        let Some(event) = take_event(&mut socket.rest)? else { return Ok(false) };
        if self.stream_event(wire, event)? {
            self.lose_connection(wire.client, 5);
            return Ok(false);
        }
        Ok(true)
    }

    /// Lets a stalled client read again.
    pub(super) fn resume_reading(&mut self, wire: Wire) {
        let client = &mut self.clients[wire.client];
        let Some(socket) = client.socket.as_mut().filter(|socket| socket.wire == wire) else { return };
        if let Some(waiting) = socket.waiting.take() {
            self.reads(wire, waiting);
        }
    }

    pub(super) fn end_seen_by_client(&mut self, wire: Wire) {
        if self.clients[wire.client].is_on(wire) {
            self.lose_connection(wire.client, 5);
        }
    }

    /// Ends the connection of a client. The instance notices it sooner or later, and the client reconnects.
    pub(super) fn lose_connection(&mut self, index: usize, noticed_ms: u64) {
        self.note_resumes(index);
        let Some(socket) = self.clients[index].forget_connection() else { return };
        let noticed_ms = self.random.below(noticed_ms.max(1));
        self.schedule.after(noticed_ms, SimulatedEvent::EndSeenByServer(socket.wire));
        if !std::mem::replace(&mut self.clients[index].is_connecting, true) {
            let most_ms = if self.random.one_in(4) { 4_000 } else { 400 };
            let delay_ms = self.random.within(5, most_ms);
            self.schedule.after(delay_ms, SimulatedEvent::Connect(index));
        }
    }

    /// Counts the races that the client reaches if it reconnects from this state.
    fn note_resumes(&mut self, index: usize) {
        let views: Vec<_> = self.clients[index].views.values().collect();
        let moved = views.iter().any(|v| v.moved.is_some() && v.moved == v.stored.map(|stored| stored.generation));
        let replayed = views.iter().any(|v| v.resumed && v.replayed > 0 && v.replayed == v.received);
        if moved {
            self.race(Race::MovedGeneration);
        }
        if replayed {
            self.race(Race::ResumedBehindReplay);
        }
    }

    pub(super) fn stall(&mut self, index: usize) -> bool {
        let delay_ms = self.random.within(300, 5_000);
        let Some(socket) = &mut self.clients[index].socket else { return false };
        if socket.waiting.is_some() {
            return false;
        }
        socket.waiting = Some(Vec::new());
        let wire = socket.wire;
        self.schedule.after(delay_ms, SimulatedEvent::Resume(wire));
        self.fault(Fault::ClientStalled);
        true
    }
}
