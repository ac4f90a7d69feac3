//! The files for TLS to Redis, and what can be wrong with them.

use std::fmt;

/// Contents of PEM files.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// Certificates of the authorities that may have signed the server's certificate. Without it those of the system.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate with its chain, and its key. Servers with `tls-auth-clients yes` ask for it.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why TLS is not possible. No variant repeats a part of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisTls {
    /// The crate is built without the feature `tls`.
    #[error(
        "TLS to Redis needs a gateway with the feature tls, and this one is built without it: cargo build --release --features tls"
    )]
    Missing,
    /// The certificates of the authorities.
    #[error("the CA certificates: {0}")]
    Ca(String),
    /// The client's certificate.
    #[error("the client certificate: {0}")]
    Certificate(String),
    /// The client's key.
    #[error("the key of the client certificate: {0}")]
    Key(String),
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsFiles { ca, client } = self;
        f.debug_struct("TlsFiles").field("ca", &ca.is_some()).field("client", &client.is_some()).finish()
    }
}
