//! `tidegate who`, `tidegate kick` and `tidegate send`: they read the fleet's directory and send commands to
//! connections.

use connection_registry::{Connected, RedisStore, StoreError};
use tidegate_gateway::config::{PublishConfig, RawConfig};
use wire::{Notice, SessionId, TenantId, UserId};

use super::registry::ask_registry;
use super::{Exit, KickArgs, SendArgs, SessionArgs, flag_setting};

pub(crate) fn who(args: SessionArgs) -> Exit {
    ask(args, async |store, tenant, user| store.who(tenant, user).await)
}

pub(crate) fn kick(args: KickArgs) -> Exit {
    let session = args.session;
    ask(args.of, async |store, tenant, user| store.kick(tenant, user, session).await)
}

pub(crate) fn send(args: SendArgs) -> Exit {
    let SendArgs { of, payload, event, session } = args;
    let notice = match Notice::new(&event, &payload) {
        Ok(notice) => notice,
        Err(error) => return Exit::Data.because(error),
    };
    ask(of, async |store, tenant, user| store.send(tenant, user, session, &notice).await)
}

/// Runs a query for one user and prints the connections that it returns, one per line.
fn ask(
    args: SessionArgs,
    question: impl AsyncFnOnce(&RedisStore, &TenantId, &UserId) -> Result<Vec<Connected>, StoreError>,
) -> Exit {
    let SessionArgs { user, tenant, redis_url, config } = args;
    let mut raw = RawConfig::gather(config.sources([flag_setting("--redis-url", "redis.url", redis_url)]));
    let config = match PublishConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let tell = |mut found: Vec<Connected>| {
        if found.is_empty() {
            return Exit::Failure.because(format_args!("{user} of tenant {tenant} is not connected"));
        }
        found.sort_by_key(|connection| connection.since.0);
        let line = |Connected { instance, session, since }: &_| format!("{since} {session} {instance}\n");
        Exit::Ok.telling(found.iter().map(line).collect::<String>())
    };
    ask_registry(&config, async |store| question(store, &tenant, &user).await, tell)
}

/// Parses a session id as `welcome` and `tidegate who` show it.
pub(crate) fn parse_session(text: &str) -> Result<SessionId, &'static str> {
    SessionId::parse(text).ok_or("a session id is 32 hexadecimal digits, as `tidegate who` prints it")
}
