//! `tidegate receipts`: lists receipts, and checks whether users have acknowledged a message.

mod args;
mod shown;

use records::{Acknowledged, ScopeReceipts, Store, StoreError};
use wire::{Position, Scope, UserId};

use super::Exit;
use super::dlq::{RecordsClient, with_records};

pub(crate) use args::ReceiptsArgs;

/// Largest number of users that Redis returns in one reply.
const USERS_MAX: usize = 10_000;

pub(crate) fn receipts(args: ReceiptsArgs) -> Exit {
    with_records(args.records.clone(), |client| ask(client, args))
}

async fn ask(client: RecordsClient, args: ReceiptsArgs) -> Result<Exit, StoreError> {
    let ReceiptsArgs { channel, users, position, limit, json, .. } = args;
    let families = client.config.policies.families();
    let scope = match families.parse(&client.tenant, &channel) {
        Ok(pattern) => pattern.scope,
        Err(error) => return Ok(Exit::Data.because(format_args!("the channel {channel:?}: {error}"))),
    };
    let scope_receipts = client.store.scope_receipts(&scope, &users, USERS_MAX).await?;
    if !client.config.policies.policy(scope.family()).receipts {
        let family = families.shape(scope.family()).name.as_str();
        eprintln!("tidegate: in this configuration the family {family} keeps no receipts (families[].receipts)");
    }
    match position {
        Some(position) => Ok(judge(&scope_receipts, &users, position, &scope)),
        None => Ok(list(scope_receipts, &users, limit as usize, json, &scope)),
    }
}

/// Checks whether every given user has acknowledged the message. One user that has not makes the answer no.
fn judge(scope_receipts: &ScopeReceipts, users: &[UserId], position: Position, scope: &Scope) -> Exit {
    let of =
        |user: &UserId| scope_receipts.users.iter().find(|(other, ..)| other == user).map(|(_, receipt, _)| *receipt);
    let mut exit = Exit::Ok;
    for user in users {
        let receipt = of(user);
        let stands = receipt.map_or_else(|| "no receipt".into(), |receipt| format!("acknowledged up to {receipt}"));
        let answer = match scope_receipts.acknowledged(position, receipt) {
            Acknowledged::Yes => "yes",
            Acknowledged::No => {
                exit = Exit::Failure;
                "no"
            }
            Acknowledged::Unknown => {
                exit = if exit == Exit::Ok { Exit::Unknown } else { exit };
                "unknown"
            }
        };
        exit = exit.telling(format_args!("{answer}  {user}  {stands}\n"));
        if answer == "unknown" {
            let name = scope.name();
            eprintln!(
                "tidegate: Redis does not know message {position} of {name}: it was never stored, or it was lost"
            );
        }
    }
    exit
}

/// Lists the users with the largest lag first. A given user without a receipt is reported too.
fn list(mut scope_receipts: ScopeReceipts, users: &[UserId], limit: usize, json: bool, scope: &Scope) -> Exit {
    let found = std::mem::take(&mut scope_receipts.users);
    let absent: Vec<&UserId> = users.iter().filter(|user| !found.iter().any(|(other, ..)| other == *user)).collect();
    let mut rows: Vec<_> = found.into_iter().map(|(user, at, time)| (scope_receipts.lag(at), user, at, time)).collect();
    // An unknown lag is the largest in the order of the type, so it is listed first: it is the worst.
    rows.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let (known, more) = (rows.len(), rows.len().saturating_sub(limit));
    rows.truncate(limit);
    let object = |(_, user, at, time): &shown::ReceiptRow| {
        format!("{}\n", tidegate_gateway::record_json::receipt(&scope_receipts, user, *at, *time))
    };
    let exit = match json {
        true => Exit::Ok.telling(rows.iter().map(object).collect::<String>()),
        false if rows.is_empty() && users.is_empty() => {
            Exit::Ok.because(format_args!("no receipts in {}", scope.name()))
        }
        false if rows.is_empty() => Exit::Ok,
        false => Exit::Ok.telling(shown::table(&rows, scope_receipts.top)),
    };
    if more > 0 {
        eprintln!("tidegate: these are the {limit} users with the largest lag; there are {more} more (--limit)");
    }
    if users.is_empty() && known == USERS_MAX {
        eprintln!("tidegate: only the {USERS_MAX} users with the oldest receipts were read");
    }
    for user in &absent {
        eprintln!("tidegate: {user} has no receipt in {}", scope.name());
    }
    if absent.is_empty() { exit } else { Exit::Failure }
}
