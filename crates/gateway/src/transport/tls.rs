//! TLS on the main port: from two files with a certificate and its key to sockets that a shard owns.
//!
//! ```text
//!   edge    TCP ─▶ Tls::accept ─▶ TlsStream, over which hyper speaks ─▶ 101 ─▶ taken apart
//!                                                                               │ TCP socket, Session
//!   shard   TlsSocket ◀─ Handoff ◀──────────────────────────────────────────────┘
//! ```
//!
//! Only in gateways built with the feature `tls`; `no_tls.rs` replaces it in others.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::host::reloadable::Reloadable;

mod socket;

pub(crate) use socket::TlsSocket;

/// The rustls state of one connection: keys, sequence numbers and buffered bytes. It is boxed because it is larger than
/// 1 KiB.
pub(crate) type Session = Box<ServerConnection>;

/// A TLS 1.2 and 1.3 server with one certificate. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Reloadable<TlsAcceptor>);

/// The errors of a certificate and its key: one message for each that is invalid.
#[derive(Debug)]
pub(crate) struct BadPair {
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
}

// === impl Tls ===

impl Tls {
    /// Reads two PEM files: the certificate followed by its chain, and its private key.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, BadPair> {
        let provider = Arc::new(ring::default_provider());
        let (chain, key) = match (read_chain(certificate), read_key(key, &provider)) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(BadPair { certificate: chain.err(), key: key.err() }),
        };
        let pair = CertifiedKey::new(chain, key);
        let of_key = |error: rustls::Error| BadPair { certificate: None, key: Some(error.to_string()) };
        pair.keys_match().map_err(of_key)?;
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        // The gateway does not support HTTP/2. Browsers do not offer it on connections for WebSockets.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A client that reconnects sends its TLS session in a ticket, which is encrypted with a key of this process. So
        // the gateway stores no sessions. It sends one ticket, because one client opens one connection.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(of_key)?;
        config.send_tls13_tickets = 1;
        Ok(Self(Reloadable::new(TlsAcceptor::from(Arc::new(config)))))
    }

    /// Performs the handshake. The caller sets its deadline.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.get().accept(stream).await
    }

    /// Shows the certificate of `other` to clients that connect from now on, through all clones.
    pub(crate) fn replace(&self, other: &Self) {
        self.0.replace(TlsAcceptor::clone(&other.0.get()));
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| pem_error(&e))?;
    if chain.is_empty() {
        return Err("there is none in it".into());
    }
    for (n, certificate) in (1..).zip(&chain) {
        ParsedCertificate::try_from(certificate).map_err(|error| format!("number {n} in it: {error}"))?;
    }
    Ok(chain)
}

fn read_key(pem: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| pem_error(&error))?;
    provider.key_provider.load_private_key(key).map_err(|error| error.to_string())
}

/// The parser's own messages quote lines of the file, which may be part of a key.
fn pem_error(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none in it",
        pem::Error::MissingSectionEnd { .. } => "it ends before its END line",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is not right",
        _ => "it is not base64",
    }
    .into()
}
