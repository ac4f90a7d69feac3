//! Loads the function library where Redis does not know it.

use std::future::Future;
use std::sync::Arc;

use keyspace::{Function, Library, Loaded};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd};

use crate::command_error::CommandError;

/// What is done about the library that Redis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// For gateways: the library replaces an older one and one with other families.
    Replace,
    /// For tools: the library is loaded only if Redis has none. A tool must not change the families that gateways have
    /// compiled in.
    FillGap,
}

/// Sends one command and waits for its answer; an error reply is an error.
pub trait SendCommand {
    /// Sends `command` and returns the answer.
    fn send(&mut self, command: &Cmd) -> impl Future<Output = Result<Value, CommandError>> + Send;
}

impl SendCommand for MultiplexedConnection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, CommandError> {
        Ok(command.query_async(self).await?)
    }
}

/// A library, and when to load it. Clones share the text.
#[derive(Debug, Clone)]
pub struct LibraryLoader {
    library: Arc<Library>,
    loading: Loading,
}

impl LibraryLoader {
    /// Loads `library` as `loading` says.
    #[must_use]
    pub fn new(library: Library, loading: Loading) -> Self {
        Self { library: Arc::new(library), loading }
    }

    /// Loads the library where that is allowed and needed. Returns whether a missing function can be called again: not if
    /// the server's library was left as it is.
    ///
    /// # Errors
    /// If the server does not answer, or refuses the library.
    pub async fn load(&self, connection: &mut impl SendCommand) -> Result<bool, CommandError> {
        let version = Function::VERSION;
        let mut ask = cmd(version.command());
        ask.arg(version.name).arg(version.keys);
        match connection.send(&ask).await {
            Ok(answer) => {
                let (version, digest, precedence) = read_version(answer)?;
                match self.library.compare(version, &digest, precedence) {
                    // Another client has loaded it since the call failed.
                    Loaded::Same => return Ok(true),
                    Loaded::Newer => {
                        tracing::info!(version, "newer function library found: using it");
                        return Ok(false);
                    }
                    Loaded::Preferred => {
                        if self.loading == Loading::Replace {
                            tracing::warn!(
                                digest,
                                own = self.library.digest(),
                                "function library of other families found: using it, because its instances were \
                                 configured or started later"
                            );
                        }
                        return Ok(false);
                    }
                    Loaded::Replace if self.loading == Loading::FillGap => return Ok(false),
                    Loaded::Replace => tracing::info!(version, digest, "function library replaced"),
                }
            }
            Err(error) if error.is_function_missing() => {}
            // A publisher's Redis user may not ask for the version. Without REPLACE, loading cannot replace a library.
            Err(CommandError::Refused(_)) if self.loading == Loading::FillGap => {}
            Err(error) => return Err(error),
        }
        self.replace(connection).await.map(|()| true)
    }

    /// Loads the library, whichever one is loaded; a tool loads it only if there is none.
    ///
    /// # Errors
    /// If the server does not answer, or refuses the library.
    pub async fn replace(&self, connection: &mut impl SendCommand) -> Result<(), CommandError> {
        let mut load = cmd("FUNCTION");
        load.arg("LOAD");
        if self.loading == Loading::Replace {
            load.arg("REPLACE");
        }
        match connection.send(load.arg(self.library.source())).await {
            Err(CommandError::Refused(text)) if self.loading == Loading::FillGap && text.contains("already exists") => {
            }
            answer => {
                answer?;
                tracing::info!(digest = self.library.digest(), "function library loaded");
            }
        }
        Ok(())
    }

    /// The library that is loaded.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }
}

/// Reads version, digest and precedence. Libraries before version 5 have no precedence.
fn read_version(answer: Value) -> Result<(u32, String, u64), CommandError> {
    let malformed = |error: redis::ParsingError| CommandError::Malformed(error.to_string());
    match answer {
        Value::Array(parts) if parts.len() < 3 => {
            let (version, digest) = redis::from_redis_value(Value::Array(parts)).map_err(malformed)?;
            Ok((version, digest, 0))
        }
        answer => redis::from_redis_value(answer).map_err(malformed),
    }
}
