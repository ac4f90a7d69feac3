//! Writes dead letters, one at a time: they are rare, and a publisher of malformed messages must not load Redis with them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::dead_letters::{DeadLetter, DeadLetterQueue};
use crate::error::StoreError;
use crate::store::Store;

/// The first pause while the store is away. Each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause while the store is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Writes the dead letters of a queue.
#[derive(Debug)]
pub(super) struct DeadLetterWriter {
    queue: Arc<DeadLetterQueue>,
}

impl DeadLetterWriter {
    pub(super) fn new(queue: Arc<DeadLetterQueue>) -> Self {
        Self { queue }
    }

    /// Writes each dead letter as soon as it is posted.
    pub(super) async fn run<S: Store>(&self, store: &S) -> Infallible {
        let mut pause = PAUSE_MIN;
        loop {
            let dead_letter = self.queue.next().await;
            let Err(error) = self.write(store, &dead_letter).await else {
                pause = PAUSE_MIN;
                continue;
            };
            if pause == PAUSE_MIN {
                tracing::warn!(%error, "dead letters delayed");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Writes all dead letters that wait, up to the first failure.
    pub(super) async fn flush<S: Store>(&self, store: &S) {
        while let Some(dead_letter) = self.queue.oldest() {
            if self.write(store, &dead_letter).await.is_err() {
                break;
            }
        }
    }

    /// Writes the oldest dead letter. Returns an error if a later attempt may succeed: the dead letter then stays in the
    /// queue.
    async fn write<S: Store>(&self, store: &S, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let counts = self.queue.counts();
        match store.keep(dead_letter).await {
            Ok(true) => counts.kept.fetch_add(1, Ordering::Relaxed),
            Ok(false) => counts.known.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.may_retry() => return Err(error),
            Err(error) => {
                tracing::error!(
                    %error,
                    tenant = dead_letter.scope.tenant(),
                    channel = dead_letter.channel(),
                    reason = %dead_letter.reason,
                    "dead letter lost"
                );
                counts.dropped.fetch_add(1, Ordering::Relaxed)
            }
        };
        self.queue.take();
        Ok(())
    }
}
