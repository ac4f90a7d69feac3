//! How clients reach the gateways: over TLS, with a certificate that is published and worthless.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CERTIFICATE: &[u8] = include_bytes!("../keys/test_only_tls_certificate.pem");

/// What a client speaks over.
pub(crate) type Stream = TlsStream<TcpStream>;

/// What it needs in the gateways' configuration.
pub(crate) fn settings() -> String {
    let key = |name| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/test_only_tls_").to_owned() + name;
    format!("\n[tls]\ncert_file = '{}'\nkey_file = '{}'\n", key("certificate.pem"), key("key.pem"))
}

/// Begins to speak on a connected socket.
pub(crate) async fn over(socket: TcpStream) -> Stream {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| Arc::new(trusting(rustls::ALL_VERSIONS)));
    with(config, socket).await.expect("the certificate is the gateway's")
}

pub(crate) async fn with(config: &Arc<ClientConfig>, socket: TcpStream) -> std::io::Result<Stream> {
    TlsConnector::from(Arc::clone(config)).connect("gateway".try_into().expect("a name"), socket).await
}

/// A client that takes the gateways' certificate, and no other.
pub(crate) fn trusting(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("known versions");
    config.with_root_certificates(roots).with_no_client_auth()
}
