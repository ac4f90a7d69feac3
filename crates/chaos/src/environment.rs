//! Where the programs are, and what is the same in every run.

use std::path::PathBuf;
use std::time::Duration;

/// What every run needs to know.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) gateway: PathBuf,
    pub(crate) checker: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// Below which each run has a directory.
    pub(crate) directory: PathBuf,
    /// How much longer than usual publishers go on after the fault.
    pub(crate) longer: Duration,
    /// No client lives on one instance: some instances hear nothing of some scopes.
    pub(crate) scattered: bool,
}
