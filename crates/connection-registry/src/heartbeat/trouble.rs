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

    /// Takes in the result of calls, and logs it if it differs from the previous one.
    pub(super) fn note(&mut self, error: Option<StoreError>) {
        if self.0 == error {
            return;
        }
        match &error {
            Some(error) if error.may_retry() => {
                tracing::warn!(%error, fault = ?error.fault(), "heartbeat failed, retrying");
            }
            Some(error) => tracing::error!(%error, fault = ?error.fault(), "heartbeat failed"),
            None => tracing::info!("heartbeat recovered"),
        }
        self.0 = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_until_a_success() {
        let mut trouble = Trouble::default();
        assert!(trouble.is_clear());
        trouble.note(Some(StoreError::Unreachable("refused".into())));
        trouble.note(Some(StoreError::Rejected("READONLY".into())));
        assert!(!trouble.is_clear());
        trouble.note(None);
        assert!(trouble.is_clear());
    }
}
