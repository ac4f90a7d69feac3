//! The paths of the programs, and the settings that are equal in every run.

use std::path::PathBuf;
use std::time::Duration;

/// The settings that every run needs.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) gateway: PathBuf,
    pub(crate) checker: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// The parent directory of the directories of all runs.
    pub(crate) directory: PathBuf,
    /// Additional time for which publishers continue after the fault.
    pub(crate) longer: Duration,
    /// No client is bound to one instance, so some instances have no subscriber of some scopes.
    pub(crate) scattered: bool,
}
