//! `tidegate receipts`: who has got how far, and whether a user has got a message.

mod args;
mod shown;

use records::{Got, Standing, Store, StoreError};
use wire::{Position, Scope, UserId};

use super::Exit;
use super::dlq::{Desk, with_desk};

pub(crate) use args::ReceiptsArgs;

/// As many users as Redis gives in one answer.
const USERS_MAX: usize = 10_000;

pub(crate) fn receipts(args: ReceiptsArgs) -> Exit {
    with_desk(args.records.clone(), |desk| ask(desk, args))
}

async fn ask(desk: Desk, args: ReceiptsArgs) -> Result<Exit, StoreError> {
    let ReceiptsArgs { channel, users, position, limit, json, .. } = args;
    let families = desk.config.policies.families();
    let scope = match families.parse(&desk.tenant, &channel) {
        Ok(pattern) => pattern.scope,
        Err(error) => return Ok(Exit::Data.because(format_args!("the channel {channel:?}: {error}"))),
    };
    let standing = desk.store.standing(&scope, &users, USERS_MAX).await?;
    if !desk.config.policies.policy(scope.family()).receipts {
        let family = families.shape(scope.family()).name.as_str();
        eprintln!("tidegate: by this configuration the family {family} keeps no receipts (families[].receipts)");
    }
    match position {
        Some(position) => Ok(judge(&standing, &users, position, &scope)),
        None => Ok(list(standing, &users, limit as usize, json, &scope)),
    }
}

/// Whether every user named has got the message; one who has not is enough for a no.
fn judge(standing: &Standing, users: &[UserId], position: Position, scope: &Scope) -> Exit {
    let of = |user: &UserId| standing.users.iter().find(|(other, ..)| other == user).map(|(_, receipt, _)| *receipt);
    let mut exit = Exit::Ok;
    for user in users {
        let receipt = of(user);
        let stands = receipt.map_or_else(|| "no receipt".into(), |receipt| format!("acknowledged up to {receipt}"));
        let answer = match standing.got(position, receipt) {
            Got::Yes => "yes",
            Got::No => {
                exit = Exit::Failure;
                "no"
            }
            Got::Unknown => {
                exit = if exit == Exit::Ok { Exit::Unknown } else { exit };
                "unknown"
            }
        };
        exit = exit.telling(format_args!("{answer}  {user}  {stands}\n"));
        if answer == "unknown" {
            let name = scope.name();
            eprintln!("tidegate: {name} has no message {position} that Redis knows of: never handed out, or lost");
        }
    }
    exit
}

/// The furthest behind first; of users named, also those without a receipt.
fn list(mut standing: Standing, users: &[UserId], limit: usize, json: bool, scope: &Scope) -> Exit {
    let found = std::mem::take(&mut standing.users);
    let absent: Vec<&UserId> = users.iter().filter(|user| !found.iter().any(|(other, ..)| other == *user)).collect();
    let mut rows: Vec<_> = found.into_iter().map(|(user, at, time)| (standing.behind(at), user, at, time)).collect();
    // Unknown is last in the order of the type, and first here: it is the worst.
    rows.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let (known, more) = (rows.len(), rows.len().saturating_sub(limit));
    rows.truncate(limit);
    let object = |(_, user, at, time): &shown::Row| {
        format!("{}\n", tidegate_gateway::shown::receipt(&standing, user, *at, *time))
    };
    let exit = match json {
        true => Exit::Ok.telling(rows.iter().map(object).collect::<String>()),
        false if rows.is_empty() && users.is_empty() => {
            Exit::Ok.because(format_args!("no receipts in {}", scope.name()))
        }
        false if rows.is_empty() => Exit::Ok,
        false => Exit::Ok.telling(shown::table(&rows, standing.top)),
    };
    if more > 0 {
        eprintln!("tidegate: these are the {limit} furthest behind; there are {more} more (--limit)");
    }
    if users.is_empty() && known == USERS_MAX {
        eprintln!("tidegate: only the {USERS_MAX} users whose receipts are oldest were looked at");
    }
    for user in &absent {
        eprintln!("tidegate: {user} has no receipt in {}", scope.name());
    }
    if absent.is_empty() { exit } else { Exit::Failure }
}
