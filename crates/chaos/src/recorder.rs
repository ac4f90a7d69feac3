//! The log of a run: one file in one order.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use history_checker::{Event, Record};

use crate::failure::Failure;

/// Writes lines. All copies write to the same file.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    began: Instant,
    /// The log has ended. A later line would be judged as if it had come in time.
    is_over: bool,
    /// The first error. A log with a missing line must not be judged.
    error: Option<std::io::Error>,
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(Failure::io(path.display().to_string()))?;
        let inner = Inner { file: BufWriter::new(file), began: Instant::now(), is_over: false, error: None };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    pub(crate) fn record(&self, event: Event) {
        let mut inner = self.inner();
        if inner.is_over || inner.error.is_some() {
            return;
        }
        inner.is_over = event == Event::End;
        let at_us = u64::try_from(inner.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let line = serde_json::to_string(&Record { at_us, event }).expect("an event is texts and numbers");
        if let Err(error) = writeln!(inner.file, "{line}") {
            inner.error = Some(error);
        }
    }

    /// Writes the last line and flushes everything to the disk.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        self.record(Event::End);
        let mut inner = self.inner();
        match inner.error.take() {
            Some(error) => Err(Failure::io("writing the log")(error)),
            None => inner.file.flush().map_err(Failure::io("writing the log")),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
