//! A part of the configuration that SIGHUP replaces while the gateway runs.

use std::sync::{Arc, RwLock};

/// A value that may be replaced. Clones share it. Whoever uses it takes the present value, and keeps it for one decision.
#[derive(Debug)]
pub(crate) struct Reloadable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Reloadable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The present value.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().expect("nobody panics while writing"))
    }

    /// Replaces the value. Decisions that have begun end with the old one.
    pub(crate) fn replace(&self, value: T) {
        *self.0.write().expect("nobody panics while writing") = Arc::new(value);
    }
}

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
