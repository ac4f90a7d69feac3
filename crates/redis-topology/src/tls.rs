//! TLS to Redis: which servers are trusted, and the certificate by which this client is known.
//!
//! Two libraries open sockets: this crate opens those of the broker, the Redis client the others. Both get the same
//! certificates, from the same files.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::node::Node;
use crate::tls_files::{BadRedisTls, TlsFiles};

/// How to speak TLS to the servers of one URL. Clones share the certificates, which may be replaced.
#[derive(Clone)]
pub(crate) struct RedisTls(Arc<RwLock<Certificates>>);

struct Certificates {
    config: Arc<ClientConfig>,
    /// An address with the same certificates, for the Redis client.
    template: ConnectionAddr,
    /// How often they have been replaced.
    generation: u64,
}

/// A socket that speaks TLS. It is driven by readiness like a TCP socket: bytes that TLS has taken and not yet written are
/// written by [`TlsSocket::try_flush`].
pub(crate) struct TlsSocket(Box<TlsStream<TcpStream>>);

// === impl RedisTls ===

impl RedisTls {
    /// Reads the certificates. Without a CA file the certificates of the system are trusted.
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, BadRedisTls> {
        let ca = match &files.ca {
            Some(pem) => parse_certificates(pem).map_err(BadRedisTls::Ca)?,
            None => {
                let system = rustls_native_certs::load_native_certs().certs;
                if system.is_empty() {
                    return Err(BadRedisTls::Ca("this system has no CA certificates; name a file".to_owned()));
                }
                system
            }
        };
        let mut roots = RootCertStore::empty();
        let (trusted, _) = roots.add_parsable_certificates(ca.iter().cloned());
        if trusted == 0 {
            return Err(BadRedisTls::Ca("no certificate in it can be used".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has both versions").with_root_certificates(roots);
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = parse_certificates(certificate).map_err(BadRedisTls::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| BadRedisTls::Key("there is no private key in it, or it is encrypted".to_owned()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| BadRedisTls::Key(error.to_string()))?
            }
        };
        let certificates = Certificates { config: Arc::new(config), template: template(&ca, files)?, generation: 0 };
        Ok(Self(Arc::new(RwLock::new(certificates))))
    }

    /// Uses the certificates of `other` for sockets that are opened from now on.
    pub(crate) fn replace(&self, other: &Self) {
        let (config, template) = {
            let other = other.certificates();
            (Arc::clone(&other.config), other.template.clone())
        };
        let mut own = self.0.write().expect("nobody panics while holding it");
        *own = Certificates { config, template, generation: own.generation + 1 };
    }

    /// Changes when the certificates are replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.certificates().generation
    }

    fn certificates(&self) -> RwLockReadGuard<'_, Certificates> {
        self.0.read().expect("nobody panics while holding it")
    }

    /// The address of a server, for the Redis client.
    pub(crate) fn address(&self, node: &Node) -> ConnectionAddr {
        let mut address = self.certificates().template.clone();
        if let ConnectionAddr::TcpTls { host, port, .. } = &mut address {
            node.host.clone_into(host);
            *port = node.port;
        }
        address
    }

    /// Begins TLS on a socket. `host` is the name or address that the certificate must have.
    pub(crate) async fn begin(&self, stream: TcpStream, host: &str) -> io::Result<TlsSocket> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let config = Arc::clone(&self.certificates().config);
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TlsSocket(Box::new(stream)))
    }
}

/// Shows nothing of the key.
impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisTls")
    }
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("there is no certificate in it".to_owned()),
    }
}

/// The Redis client would read the certificates of the system again for each connection, so it gets them here.
fn template(ca: &[CertificateDer<'_>], files: &TlsFiles) -> Result<ConnectionAddr, BadRedisTls> {
    let pem = |certificate: &CertificateDer<'_>| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
    };
    let client_tls = files.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates =
        TlsCertificates { client_tls, root_cert: Some(ca.iter().map(pem).collect::<String>().into_bytes()) };
    let info: ConnectionInfo = "rediss://template".into_connection_info().expect("a host is enough");
    let client = Client::build_with_tls(info, certificates);
    let client = client.map_err(|error| BadRedisTls::Certificate(error.to_string()))?;
    Ok(client.get_connection_info().addr().clone())
}

// === impl TlsSocket ===

impl TlsSocket {
    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.get_ref().0
    }

    pub(crate) fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        ready(Pin::new(&mut self.0).poll_read(&mut unwoken(), &mut buffer))?;
        Ok(buffer.filled().len())
    }

    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ready(Pin::new(&mut self.0).poll_write(&mut unwoken(), bytes))
    }

    /// Writes what TLS has taken. Returns whether everything is written.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match Pin::new(&mut self.0).poll_flush(&mut unwoken()) {
            Poll::Ready(flushed) => flushed.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }
}

/// Callers wait for the socket itself, which wakes them.
fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsSocket").field(self.stream()).finish()
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
