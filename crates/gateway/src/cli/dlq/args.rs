//! What may be said to `tidegate dlq`.

use clap::{Args, Subcommand};
use records::{DeadLetterId, Reason};

use crate::cli::ConfigArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
A dead letter is a message that reached nobody, or only a part of those it was for:
  poison    it is stored, but no gateway can deliver it; WHAT says why
  isolated  a gateway took it while cut off from Redis: clients of that gateway alone got it

Examples:
  tidegate dlq list --tenant acme
  tidegate dlq show 1795176000000-0
  tidegate dlq replay --all --reason isolated
  tidegate dlq drop 1795176000000-0 1795176000512-3

Exit codes:
  0   done
  1   some dead letters were not there or could not be replayed; standard error names them
  64  wrong command line or configuration
  69  Redis is not there or refused
  75  no answer in time: it may have been done; doing it again does no harm")]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(super) command: DlqCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List dead letters, newest first
    List(ListArgs),
    /// Show all that is known of one dead letter, its message included
    Show(ShowArgs),
    /// Publish messages again, oldest first, and remove their dead letters
    Replay(PickArgs),
    /// Remove dead letters
    Drop(PickArgs),
}

/// Whose dead letters, and where they are.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecordsArgs {
    /// Tenant
    #[arg(long, default_value = "default", value_parser = wire::TenantId::parse)]
    pub(crate) tenant: wire::TenantId,
    /// Redis URL [env: TIDEGATE_REDIS_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only dead letters of this reason: poison or isolated
    #[arg(long, value_parser = parse_reason)]
    pub(super) reason: Option<Reason>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Print one JSON object for each, without messages
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which, as listed
    pub(super) id: DeadLetterId,
    /// Print a JSON object; a message that is not UTF-8 stands in message_base64
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}

#[derive(Debug, Args)]
pub(super) struct PickArgs {
    /// Which, as listed
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    pub(super) ids: Vec<DeadLetterId>,
    /// All of the tenant
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: only dead letters of this reason, poison or isolated
    #[arg(long, requires = "all", conflicts_with = "ids", value_parser = parse_reason)]
    pub(super) reason: Option<Reason>,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}

fn parse_reason(text: &str) -> Result<Reason, String> {
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
    reason.ok_or_else(|| format!("it is one of {}", Reason::ALL.map(Reason::as_str).join(", ")))
}
