//! The frames that clients receive. Each is compared with the publish log.

use serde_json::Value;
use wire::{Scope, TenantId};

use super::client::{position, read_gap, read_subscribed};
use super::view::{Judge, View};
use super::world::World;

impl World {
    /// Compares one frame with the publish log.
    pub(super) fn frame(&mut self, index: usize, frame: &Value) -> Result<(), String> {
        self.note(|| format!("client {index} reads {frame}"));
        let channel = frame["channel"].as_str().unwrap_or_default();
        let outcome = match frame["type"].as_str().unwrap_or_default() {
            "degraded" | "reconnect" | "pong" => Ok(()),
            "welcome" => {
                self.welcomed(index, frame);
                Ok(())
            }
            "restored" => self.restored(index, frame),
            "bye" => {
                self.tally.slow_closes += u64::from(frame["payload"]["code"] == 4000);
                // No client here does anything for which it must not reconnect.
                match frame["payload"]["reconnect"] == true {
                    true => Ok(()),
                    false => Err("it must not reconnect".into()),
                }
            }
            "subscribed" => self.subscribed(index, channel, frame),
            "unsubscribed" => self.unsubscribed(index, channel),
            "position" => self.with_view(index, channel, |view, judge| {
                view.position(position(&frame["position"]).ok_or("a position frame without one")?, judge)
            }),
            "gap" if frame["payload"]["reason"] == "isolated" => self.isolated(index, channel, frame),
            "gap" => {
                self.tally.gaps += 1;
                let claim = read_gap(&frame["payload"]);
                let mut is_known = false;
                let outcome = self.with_view(index, channel, |view, judge| {
                    is_known = view.spans_loss(&claim, judge);
                    view.gap(&claim, judge)
                });
                self.tally.known_losses += u64::from(is_known);
                outcome
            }
            "ack" => self.acked(channel, frame),
            "error" => self.refused(index, channel, frame),
            _ => self.message(index, channel, frame),
        };
        outcome.map_err(|error| format!("{channel}: {error} ({frame})"))
    }

    pub(super) fn with_view(
        &mut self,
        index: usize,
        channel: &str,
        look: impl FnOnce(&mut View, &Judge<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut view = self.clients[index].views.remove(channel).ok_or("it is not subscribed to this channel")?;
        let scope = view.scope.clone();
        let since_ms = self.clients[index].socket.as_ref().map_or(0, |socket| socket.since_ms);
        let outcome = look(&mut view, &self.judge(&scope, since_ms));
        self.clients[index].views.insert(channel.to_owned(), view);
        outcome
    }

    /// Returns the facts for judging the frames of a client that connected at `since_ms`.
    pub(super) fn judge(&self, scope: &Scope, since_ms: u64) -> Judge<'_> {
        let policy = *self.instances[0].rules.policies.policy(scope.family());
        let now_ms = self.schedule.now_ms();
        Judge {
            publish_log: &self.redis.publish_log,
            deployment: &self.redis.deployment,
            primary: self.redis.primary,
            mode: self.plan.mode,
            may_look_lost_to_instances: self.unstored.contains(scope)
                || now_ms < self.split_until_ms
                || self.redis.skew_ms != [0; 2],
            losses: self.losses_of(scope, since_ms),
            keeps_ms: (policy.history_entries_max > 0).then_some(policy.ttl_ms),
            clocks_ms: [super::redis::A, super::redis::B].map(|node| self.redis.clock_ms(node, now_ms)),
        }
    }

    fn subscribed(&mut self, index: usize, channel: &str, frame: &Value) -> Result<(), String> {
        let claim = read_subscribed(frame);
        let id = frame["correlation_id"].as_str().unwrap_or_default();
        let client = &mut self.clients[index];
        if let Some(at) = client.asked.iter().position(|asked| asked.id == id && asked.channel == channel) {
            let asked = client.asked.remove(at);
            let pattern = self.families.parse(&TenantId::default(), channel).map_err(|e| e.to_string())?;
            let view = match asked.restored {
                Some((before, repeats)) => View::restored(pattern, before, repeats),
                None => View::new(pattern, asked.given, asked.forged),
            };
            if client.views.insert(channel.to_owned(), view).is_some() {
                return Err("subscribed, but it was subscribed already".into());
            }
        }
        let now_ms = self.schedule.now_ms();
        self.with_view(index, channel, |view, judge| view.subscribed(claim, now_ms, judge))?;
        self.tally.resumed += u64::from(claim.resumed);
        Ok(())
    }

    fn unsubscribed(&mut self, index: usize, channel: &str) -> Result<(), String> {
        let client = &mut self.clients[index];
        if client.views.remove(channel).is_some() {
            return Ok(());
        }
        let at = client.asked.iter().position(|asked| asked.channel == channel);
        client.asked.remove(at.ok_or("unsubscribed, but it was not subscribed")?);
        Ok(())
    }

    /// Handles an `isolated` gap: some messages reached only clients of this instance.
    fn isolated(&mut self, index: usize, channel: &str, frame: &Value) -> Result<(), String> {
        let socket = self.clients[index].socket.as_ref().ok_or("no connection")?;
        let instance_run = socket.instance_run.number;
        let view = self.clients[index].views.get(channel).ok_or("it is not subscribed to this channel")?;
        if !self.local.contains_key(&(instance_run, view.scope.clone())) {
            return Err("no message was local to this instance".into());
        }
        self.with_view(index, channel, |view, judge| view.isolated(&read_gap(&frame["payload"]), judge))
    }

    fn acked(&mut self, channel: &str, frame: &Value) -> Result<(), String> {
        let number = number_of(frame)?;
        let place = self.families.parse_channel(&TenantId::default(), channel).map_err(|e| e.to_string())?;
        if frame["payload"]["level"] == "local" {
            let is_stored = !self.redis.publish_log.places(number).is_empty();
            let is_first = !self.retries.contains(&number);
            return if is_stored && is_first {
                Err("it is acknowledged as local, but it was stored".into())
            } else {
                Ok(())
            };
        }
        let at = position(&frame["position"]).ok_or("an ack without a position")?;
        let message = self.redis.publish_log.message(place.scope.as_str(), at).map(|message| message.number);
        self.tally.retried += u64::from(frame["payload"]["duplicate"] == true);
        let level = if self.judge(&place.scope, 0).keeps_ms.is_some() { "durable" } else { "published" };
        match message {
            Some(stored) if stored == number && frame["payload"]["level"] == level => Ok(()),
            other => Err(format!("acknowledged, but the message at this position is {other:?}")),
        }
    }

    fn refused(&mut self, index: usize, channel: &str, frame: &Value) -> Result<(), String> {
        let code = frame["payload"]["code"].as_str().unwrap_or_default();
        match code {
            "unavailable" if self.clients[index].asking.as_deref() == frame["correlation_id"].as_str() => {
                self.asked_in_vain(index);
                Ok(())
            }
            "unavailable" => {
                let number = number_of(frame)?;
                if !self.retries.contains(&number) {
                    self.refused.push(number);
                }
                Ok(())
            }
            "unknown" => {
                let number = number_of(frame)?;
                self.tally.unknown += 1;
                if self.retries.insert(number) && !self.is_quiet {
                    self.send_publish(index, number, channel);
                }
                Ok(())
            }
            "already_subscribed" => {
                let id = frame["correlation_id"].as_str().unwrap_or_default();
                self.clients[index].asked.retain(|asked| asked.id != id || asked.channel != channel);
                Ok(())
            }
            "not_subscribed" => Ok(()),
            other => Err(format!("refused: {other}")),
        }
    }

    fn message(&mut self, index: usize, channel: &str, frame: &Value) -> Result<(), String> {
        let place = self.families.parse_channel(&TenantId::default(), channel).map_err(|e| e.to_string())?;
        let (scope, topic) = (&place.scope, place.topic());
        let Some(at) = position(&frame["position"]) else { return self.local_message(index, scope, topic, frame) };
        let stored = self.redis.publish_log.message(scope.as_str(), at).ok_or("it was never stored")?;
        let stored_ms = stored.at_ms;
        if frame["payload"] != stored.number || *stored.topic != *topic {
            return Err(format!("the message at this position is {} of topic {:?}", stored.number, stored.topic));
        }
        let mut views = std::mem::take(&mut self.clients[index].views);
        let since_ms = self.clients[index].socket.as_ref().map_or(0, |socket| socket.since_ms);
        let judge = self.judge(scope, since_ms);
        let mut receivers: Vec<_> = views.values_mut().filter(|view| view.receives(scope, topic)).collect();
        let outcome = if receivers.is_empty() {
            Err("no subscription of the client matches this".to_owned())
        } else if !receivers.iter().any(|view| view.is_new(at)) {
            Err("it arrived before, or a newer one did".to_owned())
        } else {
            let mut new = receivers.iter_mut().filter(|view| view.is_new(at));
            new.try_for_each(|view| {
                view.replayed += u64::from(stored_ms < since_ms);
                view.receive(at, &judge)
            })
        };
        self.clients[index].views = views;
        self.tally.delivered += 1;
        outcome
    }

    /// Handles a message that only this instance delivered.
    fn local_message(&mut self, index: usize, scope: &Scope, topic: &str, frame: &Value) -> Result<(), String> {
        let number = frame["payload"].as_u64().unwrap_or_default();
        let client = &mut self.clients[index];
        let mut receives = false;
        for view in client.views.values_mut().filter(|view| view.receives(scope, topic)) {
            view.expects_isolated_gap = true;
            receives = true;
        }
        let socket = client.socket.as_mut().ok_or("no connection")?;
        match receives && number != 0 && number <= self.messages {
            true if socket.locals.insert(number) => Ok(()),
            true => Err("it arrived before".into()),
            false => Err("it was not subscribed to, or not published".into()),
        }
    }
}

/// Returns the number of the message that a reply is about.
fn number_of(frame: &Value) -> Result<u64, String> {
    let id = frame["correlation_id"].as_str().unwrap_or_default();
    id.strip_prefix('p').and_then(|id| id.parse().ok()).ok_or_else(|| "a reply without a request".into())
}
