//! One instance: the real pump with its router, and the real shards with their sessions. The queues between them and
//! everything around them are simulated.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use message_router::{Broker, Command, Event, Router, RouterConfig, ShardIndex};
use tokio::sync::watch;
use wire::UserId;

use super::link::Link;
use super::plan::Plan;
use super::registry::{Member, Registry};
use super::schedule::{InstanceRun, Pipe, Wire};
use crate::auth::grants::{GrantList, Grants};
use crate::auth::token::Identity;
use crate::config::{Config, FlagSetting, RawConfig, Sources};
use crate::dispatch::pump::Pump;
use crate::host::clock::Clock;
use crate::host::mailbox::Mailbox;
use crate::instance::gateway::rules;
use crate::session::rules::Rules;
use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::members::Slot;
use crate::shard::registrations::Registrations;
use crate::shard::requests::ToShard;
use crate::shard::shared::Shared;
use crate::shard::table::Shard;

/// Interval at which scopes are compared with Redis, in milliseconds.
const CHECK_MS: u64 = 2_000;

/// A broker that records commands until the run takes them.
#[derive(Debug, Default)]
pub(super) struct CommandRecorder(Rc<RefCell<Vec<Command>>>);

impl Broker for CommandRecorder {
    fn command(&mut self, command: Command) {
        self.0.borrow_mut().push(command);
    }

    async fn next_event(&mut self) -> Event {
        std::future::pending().await
    }

    fn try_next_event(&mut self) -> Option<Event> {
        None
    }
}

pub(super) struct Instance {
    pub(super) instance_run: InstanceRun,
    pub(super) pump: Pump<CommandRecorder>,
    commands: Rc<RefCell<Vec<Command>>>,
    hub: Hub,
    pub(super) rules: Arc<Rules>,
    pub(super) shards: Vec<ShardSlot>,
    pub(super) link: Link,
    /// The instance's part of the registry.
    pub(super) member: Member,
    /// The router's count of never-stored messages at the last sweep.
    pub(super) unstored: u64,
}

/// A shard, and the queues to and from it.
pub(super) struct ShardSlot {
    pub(super) shard: Shard,
    pub(super) registrations: Registrations,
    pub(super) from_pump: Pipe,
    pub(super) to_pump: Pipe,
    /// The client connection of each slot.
    pub(super) wires: BTreeMap<Slot, Wire>,
}

impl Instance {
    pub(super) fn new(instance_run: InstanceRun, plan: &Plan, registry: &Registry) -> Self {
        let member = registry.join(instance_run);
        let config = config(plan, instance_run.instance);
        let handle = || ShardHandle { inbox: Arc::new(Mailbox::new(1 << 30)), counters: Arc::default() };
        let hub = Hub::new((0..config.shards).map(|_| handle()).collect());
        let (_, stop) = watch::channel(false);
        let own_rules = rules(&config);
        let router = Router::new(RouterConfig {
            policies: config.policies.clone(),
            linger_ms: plan.linger_ms,
            check_interval_ms: CHECK_MS,
            page_entries_max: plan.page_entries_max,
            held_bytes_max: plan.held_bytes_max,
            resync_scopes_max: plan.resync_scopes_max,
        });
        let shared = Shared::new(config, own_rules, hub.clone(), stop);
        let rules = Arc::clone(&shared.rules);
        let recorder = CommandRecorder::default();
        let commands = Rc::clone(&recorder.0);
        let pump =
            Pump::new(recorder, router, shared, Arc::new(Mailbox::new(1 << 30)), Clock::Simulated(super::virtual_now));
        let shard_slot = |index| ShardSlot {
            shard: Shard::new(index, Arc::clone(&rules), Arc::clone(&hub.shard(index).counters)),
            registrations: Registrations::new(index, Arc::clone(&member.directory)),
            from_pump: Pipe::default(),
            to_pump: Pipe::default(),
            wires: BTreeMap::new(),
        };
        let shards = hub.indexes().map(shard_slot).collect();
        Self { instance_run, pump, commands, hub, rules, shards, link: Link::default(), member, unstored: 0 }
    }

    /// Ends a turn of the pump. Returns its commands to the broker and its items for the shards.
    pub(super) fn flush_to_shards(&mut self) -> (Vec<Command>, Vec<(ShardIndex, Vec<ToShard>)>) {
        let ready = pin!(self.pump.flush_to_shards()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(ready, Poll::Ready(()), "no inbox of a simulation is ever full");
        let mut delivered = Vec::new();
        for index in self.hub.indexes() {
            let mut items = Vec::new();
            if self.hub.shard(index).inbox.try_take_all(&mut items) {
                delivered.push((index, items));
            }
        }
        (self.commands.take(), delivered)
    }
}

pub(super) fn config(plan: &Plan, instance: usize) -> Config {
    let flag = |key: &str, text: String| FlagSetting { written: format!("--set {key}"), key: key.into(), text };
    let mut flags: Vec<_> = plan.settings().into_iter().map(|(key, text)| flag(key, text)).collect();
    flags.push(flag("dev", "true".into()));
    flags.push(flag("instance", format!("gw-{instance}")));
    let sources = Sources { flags, ..Sources::default() };
    Config::check(&mut RawConfig::gather(sources)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Returns the identity of a user whose token does not expire during the run.
pub(super) fn identity(rules: &Rules, user: &str) -> Identity {
    let families = rules.policies.families();
    let all = GrantList::parse(families, &["collection:*", "system", "system:*", "note:*"]).expect("valid grants");
    Identity {
        tenant: wire::TenantId::default(),
        user: UserId::parse(user).expect("a valid name"),
        grants: Grants::new(all.clone(), all),
        expires_at_unix_s: u64::MAX / 2_000,
        info: None,
        mark: Default::default(),
    }
}
