//! The arguments of `tidegate dlq`.

use clap::{Args, Subcommand};
use records::{DeadLetterId, Reason};

use crate::cli::ConfigArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
A dead letter is a message that reached no subscriber, or only some of them:
  poison    stored, but no gateway can deliver it; WHAT says why
  isolated  accepted by a gateway that was cut off from Redis: only clients of that gateway received it

Examples:
  tidegate dlq list --tenant acme
  tidegate dlq show 1795176000000-0
  tidegate dlq replay --all --reason isolated
  tidegate dlq drop 1795176000000-0 1795176000512-3

Exit codes:
  0   done
  1   some dead letters were not found or could not be replayed; standard error lists them
  64  wrong command line or configuration
  69  Redis cannot be reached or refused the command
  75  no answer in time: the command may have been executed; it is safe to repeat")]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(super) command: DlqCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List dead letters, newest first
    List(ListArgs),
    /// Show one dead letter with all its details and its message
    Show(ShowArgs),
    /// Publish messages again, oldest first, and remove their dead letters
    Replay(PickArgs),
    /// Remove dead letters without publishing them
    Drop(PickArgs),
}

/// The tenant and the configuration of a command that reads records.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecordsArgs {
    /// Tenant of the dead letters or receipts
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
    /// Largest number of dead letters to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Print one JSON object per dead letter, without its message
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Id of the dead letter, as `list` prints it
    pub(super) id: DeadLetterId,
    /// Print a JSON object; a message that is not UTF-8 is in message_base64
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}

#[derive(Debug, Args)]
pub(super) struct PickArgs {
    /// Ids of the dead letters, as `list` prints them
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    pub(super) ids: Vec<DeadLetterId>,
    /// All dead letters of the tenant
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
    reason.ok_or_else(|| format!("expected one of {}", Reason::ALL.map(Reason::as_str).join(", ")))
}
