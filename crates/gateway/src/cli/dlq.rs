//! `tidegate dlq`: lists, shows, replays and drops dead letters.

mod args;
mod shown;

use std::future::Future;

use records::{
    Body, DeadLetterId, Loading, Reason, RedisStore, RedisStoreConfig, ReplayError, Store, StoreError, StoredDeadLetter,
};
use tidegate_gateway::config::{RawConfig, RecordsConfig};
use wire::{Channel, Message, TenantId};

use super::{Exit, flag_setting};
use args::{DlqCommand, ListArgs, PickArgs, ShowArgs};

pub(crate) use args::{DlqArgs, RecordsArgs};

/// Number of dead letters per read. With the largest messages a page has a few MiB.
const PAGE: usize = 100;

/// The store of the records, the tenant and the configuration of one command.
pub(crate) struct RecordsClient {
    pub(crate) store: RedisStore,
    pub(crate) tenant: TenantId,
    pub(crate) config: RecordsConfig,
}

/// The reason why a dead letter was not replayed.
#[derive(Debug, thiserror::Error)]
enum NotReplayed {
    #[error("there is no such dead letter")]
    Absent,
    #[error("its message was not kept: {0}")]
    NoMessage(&'static str),
    #[error("the channel {0:?} is not valid in this configuration")]
    Channel(String),
    #[error("the message still cannot be delivered: {0}")]
    Poison(String),
    #[error("Redis refused: {0}")]
    Refused(StoreError),
}

pub(crate) fn dlq(args: DlqArgs) -> Exit {
    match args.command {
        DlqCommand::List(args) => with_records(args.records.clone(), |client| list(client, args)),
        DlqCommand::Show(args) => with_records(args.records.clone(), |client| show(client, args)),
        DlqCommand::Replay(args) => with_records(args.records.clone(), |client| replay(client, args)),
        DlqCommand::Drop(args) => with_records(args.records.clone(), |client| drop_dead_letters(client, args)),
    }
}

/// Opens the store of the configuration and runs a command on it.
pub(crate) fn with_records<F: Future<Output = Result<Exit, StoreError>>>(
    args: RecordsArgs,
    run: impl FnOnce(RecordsClient) -> F,
) -> Exit {
    let RecordsArgs { tenant, redis_url, config } = args;
    let mut raw = RawConfig::gather(config.sources([flag_setting("--redis-url", "redis.url", redis_url)]));
    let config = match RecordsConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let store = RedisStore::new(RedisStoreConfig {
        target: config.redis.target.clone(),
        connections_max: 1,
        keyspace: keyspace::Keyspace::new(config.redis.prefix.clone()),
        library: config.policies.library(),
        loading: Loading::FillGap,
        deadline: config.redis.reply_deadline,
        bounds: config.dead_letters.bounds,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    match runtime.block_on(run(RecordsClient { store, tenant, config })) {
        Ok(exit) => exit,
        Err(error) if error.may_have_been_done() => Exit::Unknown.because(error),
        Err(error) => Exit::Unavailable.because(error),
    }
}

async fn list(client: RecordsClient, args: ListArgs) -> Result<Exit, StoreError> {
    let ListArgs { reason, limit, json, .. } = args;
    let limit = limit as usize;
    let mut dead_letters = client.pick(reason.as_ref(), limit + 1).await?;
    let more = dead_letters.len() > limit;
    dead_letters.truncate(limit);
    let object = |dead_letter| format!("{}\n", tidegate_gateway::record_json::dead_letter(dead_letter));
    let exit = match json {
        true => Exit::Ok.telling(dead_letters.iter().map(object).collect::<String>()),
        false if dead_letters.is_empty() => {
            Exit::Ok.because(format_args!("no dead letters of tenant {}", client.tenant))
        }
        false => Exit::Ok.telling(shown::table(&dead_letters)),
    };
    if more {
        eprintln!("tidegate: these are the newest {limit}; there are more (--limit)");
    }
    Ok(exit)
}

async fn show(client: RecordsClient, args: ShowArgs) -> Result<Exit, StoreError> {
    let Some(dead_letter) = client.store.dead_letter(&client.tenant, args.id).await? else {
        let reason = format!("{}: {} (tenant {})", args.id, NotReplayed::Absent, client.tenant);
        return Ok(Exit::Failure.because(reason));
    };
    Ok(match args.json {
        true => Exit::Ok.telling(format_args!("{}\n", shown::json(&dead_letter))),
        false => Exit::Ok.telling(shown::page(&dead_letter)),
    })
}

/// Replays the oldest dead letter first, in the order of the messages. Removes each dead letter after its message is
/// stored.
async fn replay(client: RecordsClient, args: PickArgs) -> Result<Exit, StoreError> {
    let mut exit = Exit::Ok;
    for id in client.ids(args).await? {
        match client.replay(id).await? {
            Ok(position) => exit = exit.telling(format_args!("{id}  stored at {position}\n")),
            Err(reason) => exit = Exit::Failure.because(format_args!("{id}: not replayed: {reason}")),
        }
    }
    Ok(exit)
}

async fn drop_dead_letters(client: RecordsClient, args: PickArgs) -> Result<Exit, StoreError> {
    let ids = client.ids(args).await?;
    let mut dropped = 0;
    for ids in ids.chunks(PAGE) {
        dropped += client.store.remove(&client.tenant, ids).await?;
    }
    let exit = Exit::Ok.telling(format_args!("{dropped} dropped\n"));
    let absent = ids.len() - dropped;
    if absent > 0 {
        return Ok(Exit::Failure.because(format_args!("{absent} not found (tenant {})", client.tenant)));
    }
    Ok(exit)
}

// === impl RecordsClient ===

impl RecordsClient {
    /// Returns at most `most` dead letters with the given reason, newest first.
    async fn pick(&self, reason: Option<&Reason>, most: usize) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let (mut picked, mut before) = (Vec::new(), None);
        loop {
            let page = self.store.dead_letters(&self.tenant, before, PAGE).await?;
            let Some(last) = page.last() else { return Ok(picked) };
            before = Some(last.id);
            let wanted =
                |dead_letter: &StoredDeadLetter| reason.is_none_or(|reason| reason.as_str() == dead_letter.reason);
            picked.extend(page.into_iter().filter(wanted).take(most - picked.len()));
            if picked.len() == most {
                return Ok(picked);
            }
        }
    }

    /// Returns the ids of the command line or all ids, oldest first. Only ids are kept in memory, because all
    /// messages together may be large.
    async fn ids(&self, args: PickArgs) -> Result<Vec<DeadLetterId>, StoreError> {
        let PickArgs { ids: mut picked, all, reason, .. } = args;
        if all {
            let mut before = None;
            loop {
                let page = self.store.dead_letters(&self.tenant, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                let wanted =
                    |dead_letter: &&StoredDeadLetter| reason.is_none_or(|reason| reason.as_str() == dead_letter.reason);
                picked.extend(page.iter().filter(wanted).map(|dead_letter| dead_letter.id));
            }
        }
        picked.sort_unstable();
        picked.dedup();
        Ok(picked)
    }

    /// Publishes the message of one dead letter and removes the dead letter. The outer error ends the command,
    /// because Redis is unreachable.
    async fn replay(&self, id: DeadLetterId) -> Result<Result<wire::Position, NotReplayed>, StoreError> {
        let Some(dead_letter) = self.store.dead_letter(&self.tenant, id).await? else {
            return Ok(Err(NotReplayed::Absent));
        };
        let channel = match self.deliverable(&dead_letter) {
            Ok(channel) => channel,
            Err(reason) => return Ok(Err(reason)),
        };
        match self.store.replay(&dead_letter, &channel).await {
            Ok(position) => {
                self.store.remove(&self.tenant, &[id]).await?;
                Ok(Ok(position))
            }
            Err(ReplayError::NoMessage) => Ok(Err(NotReplayed::NoMessage("it has none"))),
            Err(ReplayError::Store(error @ (StoreError::Rejected(_) | StoreError::Malformed(_)))) => {
                Ok(Err(NotReplayed::Refused(error)))
            }
            Err(ReplayError::Store(error)) => Err(error),
        }
    }

    /// Checks that a gateway can deliver the message now. A poison message would become a dead letter again.
    fn deliverable(&self, dead_letter: &StoredDeadLetter) -> Result<Channel, NotReplayed> {
        let message = match &dead_letter.body {
            Body::Message(message) => message,
            Body::Redacted => return Err(NotReplayed::NoMessage("its family redacts dead letters")),
            Body::TooBig => return Err(NotReplayed::NoMessage("it is longer than dead_letters.message_bytes_max")),
        };
        let policies = &self.config.policies;
        let channel = policies.families().parse_channel(&self.tenant, &dead_letter.channel);
        let channel = channel.map_err(|_| NotReplayed::Channel(dead_letter.channel.clone()))?;
        let binary = policies.policy(channel.scope.family()).binary;
        match Message::parse(message) {
            Ok(message) if message.is_binary() && !binary => {
                Err(NotReplayed::Poison("its family accepts no binary messages".into()))
            }
            Ok(_) => Ok(channel),
            Err(error) => Err(NotReplayed::Poison(error.to_string())),
        }
    }
}
