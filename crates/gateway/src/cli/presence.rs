//! `tidegate presence`: lists the members of a scope.

use std::fmt::Write as _;

use clap::Args;
use connection_registry::{Member, PresenceReader};
use tidegate_gateway::config::{PublishConfig, RawConfig};

use super::registry::ask_registry;
use super::{ConfigArgs, Exit, flag_setting};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the members of a channel's scope, for families with presence. One line per member: the time it
joined, the user, its instances (- while it is disconnected and may still come back) and the presence
info of its token. The last line is the number of members.

Examples:
  tidegate presence collection:42
  tidegate presence --tenant acme --most 10000 collection:42

Exit codes:
  0   the scope has members
  1   the scope has no members
  64  wrong command line or configuration; the family has no presence
  65  the channel is not valid
  69  Redis cannot be reached or refused the command
  75  no answer in time")]
pub(crate) struct PresenceArgs {
    /// Channel of the scope, such as collection:42
    channel: String,
    /// Tenant of the channel
    #[arg(long, value_name = "NAME", default_value_t, value_parser = wire::TenantId::parse)]
    tenant: wire::TenantId,
    /// Largest number of members to list; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    most: u16,
    /// Redis URL [env: TIDEGATE_REDIS_URL, safer for passwords]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn presence(args: PresenceArgs) -> Exit {
    let PresenceArgs { channel, tenant, most, redis_url, config } = args;
    let mut raw = RawConfig::gather(config.sources([flag_setting("--redis-url", "redis.url", redis_url)]));
    let config = match PublishConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let scope = match config.policies.families().parse(&tenant, &channel) {
        Ok(pattern) => pattern.scope,
        Err(error) => return Exit::Data.because(error),
    };
    if !config.policies.policy(scope.family()).presence {
        return Exit::Usage.because("this channel's family has no presence (families[].presence)");
    }
    let asked = [scope];
    ask_registry(
        &config,
        async |store| store.list_members(&asked, usize::from(most)).await,
        |snapshot| {
            let [list] = &snapshot.scopes[..] else {
                return Exit::Failure.because("the reply is for another number of scopes");
            };
            if list.count == 0 {
                return Exit::Failure.because(format_args!("no members of tenant {tenant} in {}", asked[0].name()));
            }
            let mut members: Vec<&Member> = list.members.iter().collect();
            members.sort_by_key(|member| member.since);
            let lines: String = members.into_iter().map(line).collect();
            Exit::Ok.telling(format_args!("{lines}{} in all\n", list.count))
        },
    )
}

fn line(Member { user, since, info, instances }: &Member) -> String {
    let mut at: Vec<&str> = instances.iter().map(|instance| instance.as_str()).collect();
    at.sort_unstable();
    let at = if at.is_empty() { "-".to_owned() } else { at.join(",") };
    let mut line = format!("{since} {user} {at}");
    if let Some(info) = info {
        write!(line, " {info}").expect("a String takes everything");
    }
    line + "\n"
}
