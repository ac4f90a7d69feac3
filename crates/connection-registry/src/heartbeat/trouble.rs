//! The failure of the newest calls to the store, logged when it starts, changes and ends.

use crate::error::StoreError;

/// The newest failure, if the newest calls failed.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<StoreError>);

impl Trouble {
    /// Whether the newest calls succeeded.
    pub(super) fn is_clear(&self) -> bool {
        self.0.is_none()
    }

    /// Takes in the result of calls, and logs the begin and the end of a failure. A failure that repeats itself in other
    /// words is one failure. What it leads to, a lost lease, is a warning of its own.
    pub(super) fn note(&mut self, error: Option<StoreError>) {
        if self.0 == error {
            return;
        }
        match &error {
            // Redis is there and refuses the heartbeat alone: an operator must act.
            Some(error @ StoreError::Rejected(text)) if !is_of_all_calls(text) => {
                tracing::warn!(%error, fault = ?error.fault(), "heartbeat failed, retrying");
            }
            Some(error) if error.may_retry() && self.is_clear() => {
                tracing::info!(%error, fault = ?error.fault(), "heartbeat failed, retrying");
            }
            Some(error) if error.may_retry() => {
                tracing::debug!(%error, fault = ?error.fault(), "heartbeat failed, retrying");
            }
            Some(error) => tracing::error!(%error, fault = ?error.fault(), "heartbeat failed"),
            None => tracing::info!("heartbeat recovered"),
        }
        self.0 = error;
    }
}

/// Whether Redis refuses every call with this error, those of the broker included: the password is missing, or the server
/// starts, fails over, or is no primary.
fn is_of_all_calls(text: &str) -> bool {
    const CODES: [&str; 7] = ["NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "BUSY"];
    CODES.iter().any(|code| text.starts_with(code)) || text.contains("unauthenticated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_until_a_success() {
        let mut trouble = Trouble::default();
        assert!(trouble.is_clear());
        trouble.note(Some(StoreError::Unreachable("refused".into())));
        trouble.note(Some(StoreError::Rejected("READONLY You can't write".into())));
        trouble.note(Some(StoreError::Rejected("NOPERM no permissions".into())));
        assert!(!trouble.is_clear());
        trouble.note(None);
        assert!(trouble.is_clear());
    }
}
