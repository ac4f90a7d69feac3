//! `tidegate revoke`: writes to the log of revocations, which every instance follows.

use std::time::Duration;

use clap::Args;
use connection_registry::{RevocationLog, RevocationSubject};
use tidegate_gateway::config::{RawConfig, RevokeConfig};

use super::registry::{block_on, store_config};
use super::{ConfigArgs, Exit, flag_setting};

#[derive(Debug, Args)]
#[command(after_help = "\
Every instance that reaches Redis closes the connections within a second, with code 4506, which tells
clients not to reconnect, and refuses them from then on. An instance that does not reach Redis does so
within a second of its return. A revocation is kept for auth.lifetime_s_max, 30 days unless configured:
run this command with the configuration of the gateways.

  --token    the token with this jti
  --session  the session with this id, as `tidegate who` prints it, and tokens with this sid
  --user     every token of the user whose iat is not later than this moment. A token without an iat
             counts as issued auth.lifetime_s_max before its exp: such a user is locked out until that
             time is over, or until --lift

Examples:
  tidegate revoke --user alice --tenant acme
  tidegate revoke --token 0b1c7f3e-9a7d-4d3a-8f0e-5d1c2b3a4f5e
  tidegate revoke --user alice --tenant acme --lift

Exit codes:
  0   Redis has the revocation
  64  wrong command line or configuration
  69  Redis cannot be reached or refused the command
  75  no answer in time: Redis may have the revocation; repeat the command")]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Tenant of the user
    #[arg(long, value_name = "NAME", default_value_t, value_parser = wire::TenantId::parse)]
    tenant: wire::TenantId,
    /// Accept the token, the session or the user again
    #[arg(long)]
    lift: bool,
    /// Redis URL [env: TIDEGATE_REDIS_URL, safer for passwords]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SubjectArgs {
    /// User id, as it is in channel names
    #[arg(long, value_name = "NAME", value_parser = wire::UserId::parse)]
    user: Option<wire::UserId>,
    /// Id of a session, or `sid` of tokens
    #[arg(long, value_name = "ID", value_parser = parse_identifier)]
    session: Option<String>,
    /// `jti` of a token
    #[arg(long, value_name = "JTI", value_parser = parse_identifier)]
    token: Option<String>,
}

/// The longest `jti` and `sid` that can be revoked.
const IDENTIFIER_BYTES_MAX: usize = 512;

fn parse_identifier(text: &str) -> Result<String, String> {
    match text.len() {
        1..=IDENTIFIER_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(format!("expected 1 to {IDENTIFIER_BYTES_MAX} bytes")),
    }
}

pub(crate) fn revoke(args: RevokeArgs) -> Exit {
    let RevokeArgs { subject, tenant, lift, redis_url, config } = args;
    let mut raw = RawConfig::gather(config.sources([flag_setting("--redis-url", "redis.url", redis_url)]));
    let RevokeConfig { registry, keep } = match RevokeConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let subject = match (subject.user, subject.session, subject.token) {
        (Some(user), ..) => RevocationSubject::User(tenant, user),
        (_, Some(session), _) => RevocationSubject::Session(session),
        (.., token) => RevocationSubject::Token(token.expect("the parser demands one of them")),
    };
    let deadline: Duration = registry.redis.reply_deadline;
    let log = RevocationLog::new(&store_config(&registry), deadline);
    block_on(log.revoke(&subject, keep, lift), |()| Exit::Ok)
}
