//! The arguments of `tidegate receipts`.

use clap::Args;
use wire::{Position, UserId};

use crate::cli::dlq::RecordsArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
With a receipt a client acknowledges all messages of a channel's scope up to a position. The receipt
belongs to the user: with several devices, the furthest position counts. A family keeps receipts if
families[].receipts is true.

LAG is the number of messages of the scope after the acknowledged one. After a failover of Redis it is
an upper bound (~7), because some of these messages may have been lost, or it is unknown (?).

Examples:
  tidegate receipts --channel collection:42                       all users, the largest lag first
  tidegate receipts --channel collection:42 --user alice          one user
  tidegate receipts --channel collection:42 --user alice --position 117649899480706-43 && echo acknowledged

Exit codes:
  0   found; with --position: yes, all given users have acknowledged it
  1   a given user has no receipt; with --position: no, not acknowledged
  64  wrong command line or configuration
  65  the channel is not valid
  69  Redis cannot be reached or refused the command
  75  no answer in time; with --position: unknown, Redis does not know the message")]
pub(crate) struct ReceiptsArgs {
    /// Channel, such as collection:42; its topic is ignored
    #[arg(long, value_name = "CHANNEL")]
    pub(super) channel: String,
    /// Only this user; may be repeated
    #[arg(long = "user", value_name = "NAME", value_parser = UserId::parse)]
    pub(super) users: Vec<UserId>,
    /// Check whether the users have acknowledged this message
    #[arg(long, value_name = "POSITION", requires = "users", conflicts_with = "json")]
    pub(super) position: Option<Position>,
    /// Largest number of users to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Print one JSON object per user
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}
