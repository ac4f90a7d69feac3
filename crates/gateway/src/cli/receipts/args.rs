//! What may be said to `tidegate receipts`.

use clap::Args;
use wire::{Position, UserId};

use crate::cli::dlq::RecordsArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
A receipt is what a client says: everything of this channel's scope up to here has been dealt with. It is
the user's: with several devices, the furthest. Families keep receipts if families[].receipts is true.

LAG is how many messages the scope has handed out since. After a failover of Redis it is at most so
many (~7), because some may have been lost with it, or unknown (?).

Examples:
  tidegate receipts --channel collection:42                       everybody, the furthest behind first
  tidegate receipts --channel collection:42 --user alice          one user
  tidegate receipts --channel collection:42 --user alice --position 117649899480706-43 && echo got it

Exit codes:
  0   found; with --position: yes, all users named have acknowledged it
  1   a user named has no receipt; with --position: no, not acknowledged
  64  wrong command line or configuration
  65  the channel is not valid
  69  Redis is not there or refused
  75  no answer in time; with --position: unknown, Redis knows no such message")]
pub(crate) struct ReceiptsArgs {
    /// Channel, such as collection:42; its topic makes no difference
    #[arg(long, value_name = "CHANNEL")]
    pub(super) channel: String,
    /// Only this user; may be repeated
    #[arg(long = "user", value_name = "NAME", value_parser = UserId::parse)]
    pub(super) users: Vec<UserId>,
    /// Check whether the users have acknowledged this message
    #[arg(long, value_name = "POSITION", requires = "users", conflicts_with = "json")]
    pub(super) position: Option<Position>,
    /// At most so many users
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Print one JSON object for each user
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) records: RecordsArgs,
}
