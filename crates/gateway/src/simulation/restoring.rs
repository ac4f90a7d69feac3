//! Clients that keep nothing but their session id. The gateway must restore their subscriptions, from their last
//! positions or from before. Or it reports that it knows nothing of the session, which only a fault of an instance
//! may cause.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::client::PendingSubscribe;
use super::schedule::{InstanceRun, SimulatedEvent, Wire};
use super::tally::Fault;
use super::view::View;
use super::world::World;

/// Longest time of a reply that waits for an older connection, in milliseconds.
const ASKS_MS: u64 = 4_500;
/// Longest time until an instance notices that a connection has vanished, in milliseconds.
pub(super) const VANISHED_MS: u64 = 9_000;

/// What the run knows of a client that keeps only its session id.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    session: Option<String>,
    /// Confirmed subscriptions when the last connection ended, with the client's view of each.
    held: BTreeMap<String, Option<Box<View>>>,
    /// Requested channels that were not confirmed.
    asked: BTreeSet<String>,
    /// The client was told that nothing is known of its session, and has not been told since what it holds. An
    /// instance that could not reach the registry may still write a record of it.
    is_doubtful: bool,
    /// Incarnations of instances that the client has connected to since it was last told what it holds.
    runs: BTreeSet<u64>,
}

impl Restoring {
    /// Records that a connection ended with these subscriptions and requests.
    pub(super) fn keep(&mut self, views: BTreeMap<String, View>, asked: Vec<PendingSubscribe>) {
        self.held.extend(views.into_iter().map(|(channel, view)| (channel, view.had())));
        for PendingSubscribe { channel, restored, .. } in asked {
            match restored {
                Some((before, _)) => drop(self.held.insert(channel, before)),
                None => {
                    // The client had unsubscribed before, and it is unknown how far the instance got with it.
                    self.held.remove(&channel);
                    self.asked.insert(channel);
                }
            }
        }
    }
}

impl World {
    pub(super) fn welcomed(&mut self, index: usize, frame: &Value) {
        if let Some(restoring) = &mut self.clients[index].restoring {
            let session_id = frame["payload"]["session_id"].as_str().map(str::to_owned);
            restoring.session = restoring.session.take().or(session_id);
        }
    }

    /// Requests the session of a client that has one. Returns whether it has one.
    pub(super) fn ask_for_session(&mut self, index: usize, instance_run: InstanceRun, id: &str) -> bool {
        let Some(restoring) = &mut self.clients[index].restoring else { return false };
        restoring.runs.insert(instance_run.number);
        if restoring.session.is_none() {
            return false;
        }
        self.clients[index].asking = Some(id.to_owned());
        self.say_restore(index);
        if !self.is_quiet && self.random.one_in(3) {
            let wire = self.clients[index].socket.as_ref().expect("it is connected").wire;
            let delay_ms = self.random.within(10, ASKS_MS);
            self.schedule.after(delay_ms, SimulatedEvent::Vanishes(wire));
        }
        true
    }

    /// Ends a connection without informing the instance, perhaps before the reply about its session is read.
    pub(super) fn vanish(&mut self, wire: Wire) {
        if self.clients[wire.client].is_on(wire) && !self.is_quiet {
            self.fault(Fault::ClientVanished);
            self.lose_connection(wire.client, VANISHED_MS);
        }
    }

    fn say_restore(&mut self, index: usize) {
        let client = &self.clients[index];
        let (Some(id), Some(restoring)) = (&client.asking, &client.restoring) else { return };
        let payload = json!({"restore": true, "session_id": restoring.session});
        self.send_frame(index, &json!({"type": "hello", "payload": payload, "correlation_id": id}));
    }

    /// Handles the error that the session cannot be looked up: the client asks again later.
    pub(super) fn asked_in_vain(&mut self, index: usize) {
        self.tally.asked_in_vain += 1;
        if let Some(socket) = &self.clients[index].socket {
            self.schedule.after(1_000, SimulatedEvent::AsksAgain(socket.wire));
        }
    }

    pub(super) fn ask_again(&mut self, wire: Wire) {
        if self.clients[wire.client].is_on(wire) {
            self.say_restore(wire.client);
        }
    }

    /// Handles `restored`: the subscriptions of the session, or that nothing is known of it.
    pub(super) fn restored(&mut self, index: usize, frame: &Value) -> Result<(), String> {
        let (id, payload) = (frame["correlation_id"].as_str().unwrap_or_default(), &frame["payload"]);
        let client = &mut self.clients[index];
        let restoring = client.restoring.as_mut().filter(|_| client.asking.take().as_deref() == Some(id));
        let Some(restoring) = restoring else { return Err("the client did not request it".into()) };
        let (mut held, asked) = (std::mem::take(&mut restoring.held), std::mem::take(&mut restoring.asked));
        let runs = std::mem::take(&mut restoring.runs);
        restoring.runs.extend(client.socket.as_ref().map(|socket| socket.instance_run.number));
        let is_well = |instance_run: &u64| {
            let is_there = self.instances.iter().any(|instance| instance.instance_run.number == *instance_run);
            is_there && !self.outages.contains(instance_run)
        };
        let (found, all_are_well) = (payload["found"] == true, runs.iter().all(is_well));
        let is_stale = std::mem::replace(&mut restoring.is_doubtful, !found) && !all_are_well;
        if !found && !held.is_empty() && all_are_well {
            return Err(format!("nothing is known, but the client held {:?}", held.keys()));
        }
        if !found || is_stale {
            self.tally.forgotten += 1;
            held.clear();
        }
        let channels: BTreeSet<String> = payload["channels"].as_array().into_iter().flatten().map(text).collect();
        if let Some(lost) =
            held.keys().find(|channel| client.wanted.contains_key(*channel) && !channels.contains(*channel))
        {
            return Err(format!("it held {lost}, which is not restored"));
        }
        let is_strange = |channel: &&String| !is_stale && !held.contains_key(*channel) && !asked.contains(*channel);
        if let Some(strange) = channels.iter().find(is_strange) {
            return Err(format!("it has never held {strange}"));
        }
        self.tally.restored += u64::from(found && !is_stale);
        let repeats = payload["repeats"] == true;
        for channel in &channels {
            let restored = Some((held.remove(channel).flatten(), repeats));
            client.wanted.insert(channel.clone(), None);
            client.asked.push(PendingSubscribe {
                id: id.to_owned(),
                channel: channel.clone(),
                given: None,
                forged: false,
                restored,
            });
        }
        // The other channels that the client wants were never received, or are not known any more.
        let others: Vec<_> = client.wanted.keys().filter(|channel| !channels.contains(*channel)).cloned().collect();
        others.into_iter().for_each(|channel| self.subscribe(index, channel, None));
        Ok(())
    }

    /// Handles a close by the gateway. Half of the clients that keep their session answer it before the connection
    /// ends.
    pub(super) fn closed(&mut self, wire: Wire, code: u16) {
        if self.clients[wire.client].restoring.is_none() || self.random.one_in(2) {
            return self.lose_connection(wire.client, 5);
        }
        self.send(wire.client, |wire, _| SimulatedEvent::Closes(wire, code), "");
        self.schedule.after(50, SimulatedEvent::EndSeenByClient(wire));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
