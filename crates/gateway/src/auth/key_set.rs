//! The keys that an issuer publishes at a URL (RFC 7517), as the verifier sees them.
//!
//! ```text
//!   verifier ─ kid ─▶ KeySet ─▶ keys, or absent, or pending        fetcher (transport::key_sets)
//!                       └── wanted, or due ──────────────────────▶ one fetch, however many ask
//! ```
//!
//! A set is fetched before it is due, and its keys are used for a bounded time after the last fetch that succeeded. A
//! token whose `kid` the set does not have, and that no key without a `kid` verifies, asks for a fetch, at most one in
//! [`COOLDOWN_MS`]: tokens with invented kids cause no more. A `kid` that was not there after a fetch is refused for
//! [`ABSENT_MS`] without another one. Tokens without a `kid` count as one more `kid`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::auth::key::{BadKey, Key};
use crate::host::clock::millis;

/// Shortest time between two fetches that unknown kids cause, in milliseconds.
const COOLDOWN_MS: u64 = 10_000;
/// How long a `kid` is known to be absent, in milliseconds.
const ABSENT_MS: u64 = 60_000;
/// Time until the next fetch after one that failed, in milliseconds. It doubles up to the interval.
const RETRY_MS: u64 = 5_000;
/// Shortest interval between two fetches, whatever the issuer's `Cache-Control` says, in milliseconds.
const INTERVAL_MS_MIN: u64 = 60_000;
/// Most kids that are remembered as wanted or absent, each of at most [`KID_BYTES_MAX`].
const KIDS_MAX: usize = 64;
const KID_BYTES_MAX: usize = 256;

/// Where a key set is, and how it is used.
#[derive(Debug, Clone)]
pub struct KeySetConfig {
    /// The address of the set.
    pub url: String,
    /// The `iss` that tokens of these keys must carry.
    pub issuer: Option<String>,
    /// The `aud` that tokens of these keys must carry.
    pub audience: Option<String>,
    /// The scopes that tokens of these keys may have.
    pub scopes: Vec<String>,
    /// PEM file with the certificates that sign the server's. Without it, those of the system.
    pub ca: Option<Vec<u8>>,
}

/// When key sets are fetched, and how long they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySetTimes {
    /// Longest time between two fetches.
    pub interval: Duration,
    /// How long keys are used after the last fetch that succeeded.
    pub stale_max: Duration,
}

/// One key set. Shared by the verifier and its fetcher.
#[derive(Debug)]
pub(crate) struct KeySet {
    config: KeySetConfig,
    times: KeySetTimes,
    state: Mutex<KeySetState>,
    /// Notified when a fetch is wanted.
    wanted: Notify,
    /// The number of fetches that have ended.
    fetches: watch::Sender<u64>,
}

/// What the set has for a token.
#[derive(Debug, Clone)]
pub(crate) enum KeyLookup {
    /// The keys of the set, one of which has the token's `kid`.
    Named(Arc<[Key]>),
    /// The keys of the set. None has the token's `kid`, but it may mean one: the token or a key has no `kid`.
    Possible(Arc<[Key]>),
    /// No key that the token can mean.
    Missing,
}

/// Times are in milliseconds since 1970.
#[derive(Debug, Default)]
struct KeySetState {
    keys: Arc<[Key]>,
    /// End of the last fetch that succeeded.
    fetched_ms: Option<u64>,
    /// Beginning of the last fetch.
    begun_ms: Option<u64>,
    is_fetching: bool,
    /// When the next fetch is due.
    due_ms: u64,
    /// Fetches that have failed since the last one that succeeded.
    failures: u32,
    /// Kids that were asked for since the last fetch began; `None` for tokens without one.
    wanted: Vec<Option<Box<str>>>,
    /// Kids that the last fetches did not find, and until when this counts.
    absent: Vec<(Option<Box<str>>, u64)>,
}

/// A key set as it is written (RFC 7517 §5).
#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

/// The keys of a set, and the number of those that are not for tokens.
pub(crate) struct ParsedKeys {
    pub(crate) keys: Arc<[Key]>,
    pub(crate) ignored: usize,
}

/// Reads a key set. Keys that cannot be used are left out: a set may also have keys for encryption, or of later
/// algorithms.
///
/// # Errors
/// If the text is not a key set.
pub(crate) fn parse(json: &[u8]) -> Result<ParsedKeys, serde_json::Error> {
    let Published { keys } = serde_json::from_slice(json)?;
    let count = keys.len();
    let read =
        |key| serde_json::from_value::<Jwk>(key).map_err(|_| BadKey::Unsupported).and_then(|jwk| Key::from_jwk(&jwk));
    let keys: Arc<[Key]> = keys.into_iter().filter_map(|key| read(key).ok()).collect();
    Ok(ParsedKeys { ignored: count - keys.len(), keys })
}

impl KeySet {
    pub(crate) fn new(config: KeySetConfig, times: KeySetTimes) -> Self {
        let (fetches, _) = watch::channel(0);
        Self { config, times, state: Mutex::default(), wanted: Notify::new(), fetches }
    }

    pub(crate) fn config(&self) -> &KeySetConfig {
        &self.config
    }

    /// Whether the set is at the same address, and fetched and used in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self { config: KeySetConfig { url, ca, .. }, times, .. } = self;
        *url == other.config.url && *ca == other.config.ca && *times == other.times
    }

    /// Takes the keys of a set at the same address that was fetched or used in another way. The next fetch is due at
    /// once, and they are used until it succeeds.
    pub(crate) fn take_keys(&self, before: &Self) {
        let (keys, fetched_ms) = {
            let before = before.state();
            (before.keys.clone(), before.fetched_ms)
        };
        let mut state = self.state();
        (state.keys, state.fetched_ms) = (keys, fetched_ms);
    }

    pub(crate) fn interval(&self) -> Duration {
        self.times.interval
    }

    /// Looks for keys of this `kid`, or for all keys if the token has none.
    pub(crate) fn find(&self, kid: Option<&str>, now_ms: u64) -> KeyLookup {
        let state = self.state();
        match state.is_usable(self.times, now_ms) {
            true => state.find(kid),
            false => KeyLookup::Missing,
        }
    }

    /// Asks for a fetch, because no key verifies a token with this `kid`. Returns false if it would be in vain: a fetch
    /// has not brought the key a short time ago.
    pub(crate) fn request(&self, kid: Option<&str>, now_ms: u64) -> bool {
        let mut state = self.state();
        let is_usable = state.is_usable(self.times, now_ms);
        let is_asked = state.request(kid, is_usable, now_ms);
        if is_asked {
            self.wanted.notify_one();
        }
        is_asked
    }

    /// When the next fetch is due, in milliseconds since 1970.
    pub(crate) fn due_ms(&self) -> u64 {
        self.state().next_ms()
    }

    /// Waits until a fetch is wanted that was not before.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// A fetch begins.
    pub(crate) fn begin(&self, now_ms: u64) {
        let mut state = self.state();
        (state.begun_ms, state.is_fetching) = (Some(now_ms), true);
    }

    /// A fetch has brought these keys, which the issuer says may be kept for this long.
    pub(crate) fn succeeded(&self, keys: Arc<[Key]>, max_age: Option<Duration>, now_ms: u64) {
        let interval_ms = millis(self.times.interval);
        let kept_ms = max_age.map_or(interval_ms, millis).clamp(INTERVAL_MS_MIN.min(interval_ms), interval_ms);
        self.state().succeeded(keys, kept_ms, now_ms);
        self.fetches.send_modify(|fetches| *fetches += 1);
    }

    /// A fetch has failed. Returns whether the one before it had not.
    pub(crate) fn failed(&self, now_ms: u64) -> bool {
        let is_first = self.state().failed(millis(self.times.interval), now_ms);
        self.fetches.send_modify(|fetches| *fetches += 1);
        is_first
    }

    /// Waits until the next fetch has ended, if one is in progress or may begin now.
    pub(crate) async fn until_fetched(&self, now_ms: u64) {
        let mut fetches = self.fetches.subscribe();
        fetches.mark_unchanged();
        let is_near = {
            let state = self.state();
            state.is_fetching || state.next_ms() <= now_ms
        };
        if is_near {
            let _ = fetches.changed().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, KeySetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySetState {
    /// Whether there are keys that have been fetched a short enough time ago.
    fn is_usable(&self, times: KeySetTimes, now_ms: u64) -> bool {
        self.fetched_ms.is_some_and(|at_ms| now_ms < at_ms.saturating_add(millis(times.stale_max)))
    }

    fn find(&self, kid: Option<&str>) -> KeyLookup {
        let has = |kid: Option<&str>| self.keys.iter().any(|key| key.kid() == kid);
        match kid {
            Some(_) if has(kid) => KeyLookup::Named(self.keys.clone()),
            Some(_) if !has(None) => KeyLookup::Missing,
            _ => KeyLookup::Possible(self.keys.clone()),
        }
    }

    fn request(&mut self, kid: Option<&str>, is_usable: bool, now_ms: u64) -> bool {
        self.absent.retain(|(_, until_ms)| now_ms < *until_ms);
        let is_absent = is_usable && self.absent.iter().any(|(absent, _)| absent.as_deref() == kid);
        if is_absent || kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return false;
        }
        if self.wanted.len() < KIDS_MAX && !self.wanted.iter().any(|wanted| wanted.as_deref() == kid) {
            self.wanted.push(kid.map(Box::from));
        }
        true
    }

    fn next_ms(&self) -> u64 {
        let wanted_ms = match (self.wanted.is_empty(), self.begun_ms) {
            (true, _) => u64::MAX,
            (false, begun_ms) => begun_ms.map_or(0, |begun_ms| begun_ms + COOLDOWN_MS),
        };
        self.due_ms.min(wanted_ms)
    }

    fn succeeded(&mut self, keys: Arc<[Key]>, kept_ms: u64, now_ms: u64) {
        let is_there = |kid: &Option<Box<str>>| kid.is_some() && keys.iter().any(|key| key.kid() == kid.as_deref());
        let missing = self.wanted.drain(..).filter(|kid| !is_there(kid));
        self.absent.extend(missing.map(|kid| (kid, now_ms + ABSENT_MS)));
        let surplus = self.absent.len().saturating_sub(KIDS_MAX);
        self.absent.drain(..surplus);
        (self.keys, self.fetched_ms, self.failures, self.is_fetching) = (keys, Some(now_ms), 0, false);
        // Ahead of its end, so that a slow answer interrupts nobody.
        self.due_ms = now_ms + kept_ms / 5 * 4;
    }

    fn failed(&mut self, interval_ms: u64, now_ms: u64) -> bool {
        self.wanted.clear();
        self.is_fetching = false;
        let retry_ms = RETRY_MS << self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        self.due_ms = now_ms + retry_ms.min(interval_ms);
        self.failures == 1
    }
}

#[cfg(test)]
mod tests;
