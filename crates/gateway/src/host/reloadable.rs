//! A part of the configuration that SIGHUP replaces while the gateway runs.

use std::sync::Arc;

use tokio::sync::watch;

/// A value that may be replaced. Clones share it. A user takes the present value, and keeps it for one decision.
#[derive(Debug)]
pub(crate) struct Reloadable<T>(Arc<watch::Sender<Arc<T>>>);

impl<T> Reloadable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(value))))
    }

    /// The present value.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces the value. Decisions that have begun end with the old one.
    pub(crate) fn replace(&self, value: T) {
        self.0.send_replace(Arc::new(value));
    }

    /// Follows the value.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }
}

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
