//! The command line: commands, flags, and the configuration keys that they set.

mod admin;
mod dlq;
mod exit;
mod log;
mod presence;
mod publish;
mod receipts;
mod registry;
mod revoke;
mod running;
mod sessions;
mod table;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tidegate_gateway::config::{FlagSetting, Sources};

pub(crate) use admin::{drain, health};
pub(crate) use dlq::{DlqArgs, dlq};
pub(crate) use exit::Exit;
pub(crate) use log::install_log;
pub(crate) use presence::{PresenceArgs, presence};
pub(crate) use publish::publish;
pub(crate) use receipts::{ReceiptsArgs, receipts};
pub(crate) use revoke::{RevokeArgs, revoke};
pub(crate) use sessions::{kick, send, who};
pub(crate) use token::token;

#[derive(Debug, Parser)]
#[command(name = "tidegate", version, args_conflicts_with_subcommands = true)]
#[command(about = "\
A WebSocket gateway that scales out through Redis: backends publish, browsers receive.

Without configuration the gateway starts in dev mode: one process on loopback, with a page that
shows two live clients. It prints the address of the page.")]
#[command(after_help = "\
Each configuration key can be set by, in order of precedence:
  a flag       --listen 0.0.0.0:8080    --set limits.ping_interval_ms=15000
  a variable   TIDEGATE_LISTEN          TIDEGATE_LIMITS_PING_INTERVAL_MS
  the file     listen = …               [limits] ping_interval_ms = …

docs/configuration.md and deploy/gateway.example.toml explain all keys.
Exit codes:
  0   stopped by SIGTERM, SIGINT or `tidegate drain`
  1   failed while starting or running
  64  wrong command line or configuration")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway (the default command)
    Serve(ServeArgs),
    /// Publish one message through Redis and print its position
    Publish(PublishArgs),
    /// List the connections of a user
    Who(SessionArgs),
    /// List the members of a channel's scope
    Presence(PresenceArgs),
    /// Disconnect a user from every instance
    Kick(KickArgs),
    /// Send a notice to every connection of a user
    Send(SendArgs),
    /// Refuse a token, a session or a user on every instance, and close their connections
    Revoke(RevokeArgs),
    /// List, replay or drop dead letters: messages that could not be delivered or stored
    Dlq(DlqArgs),
    /// Show how far each user has acknowledged a channel
    Receipts(ReceiptsArgs),
    /// Sign a token for tests
    Token(TokenArgs),
    /// Check whether the gateway on this machine is alive
    Health(AdminArgs),
    /// Move the clients of the gateway on this machine to other instances and stop it
    Drain(DrainArgs),
}

/// The flags of every command that select its configuration.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// Read this TOML file [env: TIDEGATE_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address for clients [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address for health checks and metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Redis URL, such as redis://127.0.0.1:6379 [env: TIDEGATE_REDIS_URL, safer for passwords]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Name of this instance, unique in its fleet [default: from host and port]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Start in dev mode even if something is configured; on loopback only
    #[arg(long)]
    dev: bool,
    /// Print the effective configuration as TOML, secrets redacted, and exit
    #[arg(long, conflicts_with = "check_config")]
    pub(crate) print_config: bool,
    /// Check the configuration, print every problem, and exit
    #[arg(long)]
    pub(crate) check_config: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The Redis Function tidegate_publish stores and publishes the message in one step; any language can
call it with FCALL. If Redis does not have the function library, this command loads it.

Examples:
  tidegate publish user:alice '{\"text\":\"hello\"}'
  tidegate publish --type op.applied --tenant acme collection:42:ops - < op.json
  tidegate publish --id order-1723 user:alice '{\"text\":\"paid\"}'
  tidegate publish --lines --id import-7 collection:42:ops < ops.ndjson

Prints one line per message: its position, and \"duplicate\" if its id was published before.

Exit codes:
  0   stored
  64  wrong command line or configuration
  65  the channel, type, id or payload is not valid; with --lines, the lines before it are stored
  69  Redis cannot be reached or refused the message: not stored
  75  no answer in time: the message may be stored; with --id, repeat the command")]
pub(crate) struct PublishArgs {
    /// Channel, such as user:alice, collection:42:ops or system:news
    channel: String,
    /// JSON, or - to read it from standard input
    #[arg(default_value = "null", allow_hyphen_values = true)]
    payload: String,
    /// Read messages from standard input, one JSON payload per line, and store them as they arrive
    #[arg(long, conflicts_with = "payload")]
    lines: bool,
    /// Id of the message: if the same id is published again within two minutes, the message is stored once. With
    /// --lines, line 3 has the id ID:3
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// `type` of the message
    #[arg(long = "type", value_name = "TYPE", default_value = "message")]
    kind: String,
    /// Tenant of the channel
    #[arg(long, default_value = "default", value_parser = wire::TenantId::parse)]
    tenant: wire::TenantId,
    /// `correlation_id` of the message, which receivers see
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Redis URL [env: TIDEGATE_REDIS_URL]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prints one line per connection: the time it began, its session id, its instance. A new connection is
listed within moments. A connection that ended, or whose instance crashed, disappears within about ten
seconds.

Exit codes:
  0   listed
  1   the user is not connected
  64  wrong command line or configuration
  69  Redis cannot be reached or refused the command
  75  no answer in time")]
pub(crate) struct SessionArgs {
    /// User id: the `sub` of the token
    #[arg(value_parser = wire::UserId::parse)]
    user: wire::UserId,
    /// Tenant of the user
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = wire::TenantId::parse)]
    tenant: wire::TenantId,
    /// Redis URL [env: TIDEGATE_REDIS_URL]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The printed connections are closed with code 4505, which tells clients not to reconnect: at once, and
within two seconds in any case. A client with a valid token can open a new connection; to keep a user
out, use tidegate revoke.

Exit codes:
  0   the instances have the command; the connections are printed
  1   the user is not connected
  64  wrong command line or configuration
  69  Redis cannot be reached or refused the command
  75  no answer in time: the instances may have the command")]
pub(crate) struct KickArgs {
    #[command(flatten)]
    of: SessionArgs,
    /// Only the connection with this session id
    #[arg(long, value_name = "ID", value_parser = sessions::parse_session)]
    session: Option<wire::SessionId>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The printed connections receive a frame of type notice: at once, and within two seconds in any case.
The notice is not stored: a client that is not connected, or whose connection ends at this moment,
does not receive it. Publish a message that must not be lost to the user's channel user:NAME, which
has a history.

Example:
  tidegate send --tenant acme --event maintenance alice '{\"minutes\":5}'

Exit codes:
  0   the instances have the command; the connections are printed
  1   the user is not connected
  64  wrong command line or configuration
  65  the event or the payload is not valid
  69  Redis cannot be reached or refused the command
  75  no answer in time: the instances may have the command")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    of: SessionArgs,
    /// JSON, at most 16 KiB
    #[arg(default_value = "null", allow_hyphen_values = true)]
    payload: String,
    /// Event name of the notice
    #[arg(long, value_name = "EVENT", default_value = "message")]
    event: String,
    /// Only the connection with this session id
    #[arg(long, value_name = "ID", value_parser = sessions::parse_session)]
    session: Option<wire::SessionId>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Signs with a configured HS256 key. In production the backend signs its own tokens. In dev mode without
a configured key, only the running gateway has a key: request the token from it, by
POST /dev/token?user=alice.

Example:
  tidegate token --config gateway.toml --user alice --subscribe 'collection:*' --publish collection:42

Exit codes:
  0   the token is printed
  64  wrong command line or configuration, or no key that can sign
  65  a gateway would refuse the token")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    /// User id; the channels of user:NAME belong to this user
    #[arg(long, value_name = "NAME", value_parser = wire::UserId::parse, required = true)]
    user: Option<wire::UserId>,
    /// Tenant of the user
    #[arg(long, value_name = "NAME", value_parser = wire::TenantId::parse)]
    tenant: Option<wire::TenantId>,
    /// Pattern to subscribe to; may be repeated. Default: auth.default_subscribe
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Pattern to publish to; may be repeated. Default: auth.default_publish
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// Scope of a service token, such as admin:read; may be repeated. The key must permit it (auth.keys[].scopes)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Presence info of the user: a JSON object
    #[arg(long, value_name = "JSON", value_parser = token::parse_info)]
    info: Option<token::Info>,
    /// Lifetime of the token: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = token::parse_seconds)]
    expires_in: u64,
    /// Sign with the key of this kid instead of the first
    #[arg(long)]
    kid: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Say who a token is for and what it grants, or why a gateway refuses it
    Check(TokenCheckArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the token as a gateway with this configuration does, at the time of this machine. Prints one fact
per line: tenant, user, expires_in_s, and each grant. Then, for each --subscribe and --publish, whether
the token grants it, and why not. Warns of grants whose family this configuration does not know.

Examples:
  tidegate token check --config gateway.toml < token.txt
  tidegate token check --config gateway.toml --subscribe 'collection:42:*' --publish collection:42 < token.txt

Exit codes:
  0   a gateway accepts the token, and it grants everything that was asked for
  1   a gateway accepts the token, and it does not grant something that was asked for
  64  wrong command line or configuration
  65  a gateway refuses the token")]
pub(crate) struct TokenCheckArgs {
    /// The token, or - to read it from standard input, where other users of the machine do not see it
    #[arg(default_value = "-")]
    token: String,
    /// A channel or pattern to subscribe to; may be repeated
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// A channel to publish to; may be repeated
    #[arg(long, value_name = "CHANNEL")]
    publish: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For the health check of a container whose image has no curl. Without a URL it asks the gateway that
runs on this machine from the same program file, whatever set its admin_listen.

Exit codes:
  0   alive
  1   not alive, or alive and has never reached Redis
  64  wrong command line or configuration")]
pub(crate) struct AdminArgs {
    /// URL of the gateway, such as http://127.0.0.1:9090 [default: the running gateway, or admin_listen of the
    /// configuration]
    url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Does the same as SIGTERM: the gateway refuses new clients, moves its clients a few at a time over
drain.window_ms, and ends at the latest after drain.grace_ms. This command does not wait for the end.

Where the admin port requires a token (admin.require_token), it needs one with the scope admin:drain:
  tidegate token --user deploy --scope admin:drain --expires-in 1m > token.txt
  tidegate drain --token-file token.txt

Exit codes:
  0   the drain has begun
  1   no gateway answers at this address
  64  wrong command line or configuration")]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) at: AdminArgs,
    /// File with a service token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

fn parse_setting(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn flag_setting(written: &str, key: &str, text: Option<String>) -> Option<FlagSetting> {
    text.map(|text| FlagSetting { written: written.into(), key: key.into(), text })
}

impl ConfigArgs {
    /// Whether the command line names no configuration.
    fn is_empty(&self) -> bool {
        self.config.is_none() && self.set.is_empty()
    }

    /// Collects all sources of this process. `named` are the flags that set one key each.
    fn sources(self, named: impl IntoIterator<Item = Option<FlagSetting>>) -> Sources {
        let set = |(key, text): (String, String)| FlagSetting { written: "--set".into(), key, text };
        let flags = named.into_iter().flatten().chain(self.set.into_iter().map(set)).collect();
        Sources::of_process(self.config, flags)
    }
}

impl ServeArgs {
    /// Collects all sources of this process.
    pub(crate) fn sources(self) -> Sources {
        self.config.sources([
            flag_setting("--listen", "listen", self.listen),
            flag_setting("--admin-listen", "admin_listen", self.admin_listen),
            flag_setting("--redis-url", "redis.url", self.redis_url),
            flag_setting("--instance", "instance", self.instance),
            flag_setting("--dev", "dev", self.dev.then(|| "true".into())),
        ])
    }
}
