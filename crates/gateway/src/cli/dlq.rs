//! `tidegate dlq`: what an operator does about messages that reached nobody.

mod args;
mod shown;

use std::future::Future;

use records::{
    Body, KeptLetter, LetterId, Loading, Reason, RedisStore, RedisStoreConfig, ReplayError, Store, StoreError,
};
use tidegate_gateway::config::{RawConfig, RecordsConfig};
use wire::{Channel, Message, TenantId};

use super::{Exit, flag_setting};
use args::{DlqCommand, ListArgs, PickArgs, ShowArgs};

pub(crate) use args::{DlqArgs, RecordsArgs};

/// Letters read at once: with the longest messages a few MiB.
const PAGE: usize = 100;

/// What one command works on.
pub(crate) struct Desk {
    pub(crate) store: RedisStore,
    pub(crate) tenant: TenantId,
    pub(crate) config: RecordsConfig,
}

/// Why a letter stays.
#[derive(Debug, thiserror::Error)]
enum Stays {
    #[error("there is no such letter")]
    Absent,
    #[error("its message was not kept: {0}")]
    NoMessage(&'static str),
    #[error("the channel {0:?} is none that this configuration knows")]
    Channel(String),
    #[error("the message still cannot be delivered: {0}")]
    Poison(String),
    #[error("Redis refused: {0}")]
    Refused(StoreError),
}

pub(crate) fn dlq(args: DlqArgs) -> Exit {
    match args.command {
        DlqCommand::List(args) => with_desk(args.records.clone(), |desk| list(desk, args)),
        DlqCommand::Show(args) => with_desk(args.records.clone(), |desk| show(desk, args)),
        DlqCommand::Replay(args) => with_desk(args.records.clone(), |desk| replay(desk, args)),
        DlqCommand::Drop(args) => with_desk(args.records.clone(), |desk| drop_letters(desk, args)),
    }
}

/// Opens the store of the configuration and runs a command on it.
pub(crate) fn with_desk<F: Future<Output = Result<Exit, StoreError>>>(
    args: RecordsArgs,
    run: impl FnOnce(Desk) -> F,
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
    match runtime.block_on(run(Desk { store, tenant, config })) {
        Ok(exit) => exit,
        Err(error @ StoreError::NoAnswer(_)) => Exit::Unknown.because(error),
        Err(error) => Exit::Unavailable.because(error),
    }
}

async fn list(desk: Desk, args: ListArgs) -> Result<Exit, StoreError> {
    let ListArgs { reason, limit, json, .. } = args;
    let limit = limit as usize;
    let mut letters = desk.pick(reason.as_ref(), limit + 1).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let object = |letter| format!("{}\n", tidegate_gateway::shown::letter(letter));
    let exit = match json {
        true => Exit::Ok.telling(letters.iter().map(object).collect::<String>()),
        false if letters.is_empty() => Exit::Ok.because(format_args!("no dead letters of tenant {}", desk.tenant)),
        false => Exit::Ok.telling(shown::table(&letters)),
    };
    if more {
        eprintln!("tidegate: these are the newest {limit}; there are more (--limit)");
    }
    Ok(exit)
}

async fn show(desk: Desk, args: ShowArgs) -> Result<Exit, StoreError> {
    let Some(letter) = desk.store.letter(&desk.tenant, args.id).await? else {
        let reason = format!("{}: {} (tenant {})", args.id, Stays::Absent, desk.tenant);
        return Ok(Exit::Failure.because(reason));
    };
    Ok(match args.json {
        true => Exit::Ok.telling(format_args!("{}\n", shown::json(&letter))),
        false => Exit::Ok.telling(shown::page(&letter)),
    })
}

/// Oldest first, as the messages came. Each letter is removed once its message is stored.
async fn replay(desk: Desk, args: PickArgs) -> Result<Exit, StoreError> {
    let mut exit = Exit::Ok;
    for id in desk.ids(args).await? {
        match desk.replay(id).await? {
            Ok(position) => exit = exit.telling(format_args!("{id}  stored at {position}\n")),
            Err(stays) => exit = Exit::Failure.because(format_args!("{id}: it stays: {stays}")),
        }
    }
    Ok(exit)
}

async fn drop_letters(desk: Desk, args: PickArgs) -> Result<Exit, StoreError> {
    let ids = desk.ids(args).await?;
    let mut dropped = 0;
    for ids in ids.chunks(PAGE) {
        dropped += desk.store.remove(&desk.tenant, ids).await?;
    }
    let exit = Exit::Ok.telling(format_args!("{dropped} dropped\n"));
    let absent = ids.len() - dropped;
    if absent > 0 {
        return Ok(Exit::Failure.because(format_args!("{absent} were not there (tenant {})", desk.tenant)));
    }
    Ok(exit)
}

// === impl Desk ===

impl Desk {
    /// At most `most` letters, newest first.
    async fn pick(&self, reason: Option<&Reason>, most: usize) -> Result<Vec<KeptLetter>, StoreError> {
        let (mut picked, mut before) = (Vec::new(), None);
        loop {
            let page = self.store.letters(&self.tenant, before, PAGE).await?;
            let Some(last) = page.last() else { return Ok(picked) };
            before = Some(last.id);
            let wanted = |letter: &KeptLetter| reason.is_none_or(|reason| reason.as_str() == letter.reason);
            picked.extend(page.into_iter().filter(wanted).take(most - picked.len()));
            if picked.len() == most {
                return Ok(picked);
            }
        }
    }

    /// The ids that were named, or all; oldest first. Only ids: all messages together may be a lot.
    async fn ids(&self, args: PickArgs) -> Result<Vec<LetterId>, StoreError> {
        let PickArgs { ids: mut picked, all, reason, .. } = args;
        if all {
            let mut before = None;
            loop {
                let page = self.store.letters(&self.tenant, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                let wanted = |letter: &&KeptLetter| reason.is_none_or(|reason| reason.as_str() == letter.reason);
                picked.extend(page.iter().filter(wanted).map(|letter| letter.id));
            }
        }
        picked.sort_unstable();
        picked.dedup();
        Ok(picked)
    }

    /// Publishes one letter anew and removes it. The outer error ends the command: Redis is not there.
    async fn replay(&self, id: LetterId) -> Result<Result<wire::Position, Stays>, StoreError> {
        let Some(letter) = self.store.letter(&self.tenant, id).await? else { return Ok(Err(Stays::Absent)) };
        let channel = match self.deliverable(&letter) {
            Ok(channel) => channel,
            Err(stays) => return Ok(Err(stays)),
        };
        match self.store.replay(&letter, &channel).await {
            Ok(position) => {
                self.store.remove(&self.tenant, &[id]).await?;
                Ok(Ok(position))
            }
            Err(ReplayError::NoMessage) => Ok(Err(Stays::NoMessage("it is not there"))),
            Err(ReplayError::Store(error @ (StoreError::Rejected(_) | StoreError::Malformed(_)))) => {
                Ok(Err(Stays::Refused(error)))
            }
            Err(ReplayError::Store(error)) => Err(error),
        }
    }

    /// Whether a gateway could deliver it now: a poison message published again would only be the next dead letter.
    fn deliverable(&self, letter: &KeptLetter) -> Result<Channel, Stays> {
        let message = match &letter.body {
            Body::Message(message) => message,
            Body::Redacted => return Err(Stays::NoMessage("its family redacts dead letters")),
            Body::TooBig => return Err(Stays::NoMessage("it is longer than dead_letters.message_bytes_max")),
        };
        let policies = &self.config.policies;
        let channel = policies.families().parse_channel(&self.tenant, &letter.channel);
        let channel = channel.map_err(|_| Stays::Channel(letter.channel.clone()))?;
        let binary = policies.policy(channel.scope.family()).binary;
        match Message::parse(message) {
            Ok(message) if message.is_binary() && !binary => {
                Err(Stays::Poison("its family takes no binary messages".into()))
            }
            Ok(_) => Ok(channel),
            Err(error) => Err(Stays::Poison(error.to_string())),
        }
    }
}
