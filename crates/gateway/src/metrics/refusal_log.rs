//! The log of clients that were refused: one line for each, at a bounded rate, because an attack must not fill a disk.
//!
//! A line names the connection and the reason. It never has a token, a payload, a cookie or a header.

use std::net::SocketAddr;

use wire::{SessionId, TenantId, UserId};

use crate::host::rate::{Rate, RateLimit};

/// Lines in the long run, and at once.
const PER_SECOND: u32 = 10;
const BURST: u32 = 50;

/// A client that this instance has refused, or closed because of what it did.
#[derive(Debug, Default)]
pub(crate) struct RefusedClient {
    /// The close code, or the HTTP status.
    pub(crate) code: u16,
    /// The sentence that the client was sent. The gateway writes it.
    pub(crate) reason: String,
    pub(crate) session: Option<SessionId>,
    /// Tenant and user, if a token has shown them.
    pub(crate) user: Option<(TenantId, UserId)>,
}

/// The log of one thread.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    rate: Rate,
    /// Lines that the rate has suppressed since the last one.
    suppressed: u64,
}

impl RefusalLog {
    /// Logs a refusal, or counts it if too many come at once. `address` is the other end of the socket: a proxy, if one
    /// is in front.
    pub(crate) fn write(&mut self, refused: &RefusedClient, address: Option<SocketAddr>, now_ms: u64) {
        if self.rate.take(RateLimit::new(PER_SECOND, BURST), now_ms).is_err() {
            self.suppressed += 1;
            return;
        }
        let RefusedClient { code, reason, session, user } = refused;
        let reason = without_quotations(reason);
        let suppressed = std::mem::take(&mut self.suppressed);
        tracing::info!(
            code,
            reason,
            tenant = user.as_ref().map(|(tenant, _)| tenant.as_str()),
            user = user.as_ref().map(|(_, user)| user.as_str()),
            session = session.map(tracing::field::display),
            address = address.map(tracing::field::display),
            suppressed = (suppressed > 0).then_some(suppressed),
            "client refused"
        );
    }
}

/// Empties what stands between quotation marks or backticks: there, messages repeat what the client has sent, such as the
/// grants of its token or a token in the wrong place.
fn without_quotations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        kept.push(c);
        if !matches!(c, '"' | '`') {
            continue;
        }
        kept.push('…');
        while let Some(quoted) = characters.next() {
            match quoted {
                '\\' => drop(characters.next()),
                end if end == c => {
                    kept.push(end);
                    break;
                }
                _ => {}
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_does_not_repeat_what_the_client_has_sent() {
        for (text, kept) in [
            ("the token's signature does not verify", "the token's signature does not verify"),
            (r#"the grant "room:7" is not a channel: x"#, r#"the grant "…" is not a channel: x"#),
            (r#"invalid type: string "a\"b\\", expected `x` at 1"#, r#"invalid type: string "…", expected `…` at 1"#),
            (r#"cut off: "eyJ0"#, r#"cut off: "…"#),
        ] {
            assert_eq!(without_quotations(text), kept);
        }
    }

    #[test]
    fn an_attack_does_not_fill_the_log() {
        let mut log = RefusalLog::default();
        let refused = RefusedClient { code: 4500, ..RefusedClient::default() };
        (0..1_000).for_each(|_| log.write(&refused, None, 60_000));
        assert_eq!(log.suppressed, 1_000 - u64::from(BURST));
        log.write(&refused, None, 61_000);
        assert_eq!(log.suppressed, 0, "the next line says how many are missing");
    }
}
