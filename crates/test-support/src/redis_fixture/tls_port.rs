//! The port on which a server speaks TLS, beside its plain one, which the test itself uses.

use super::reserve_port;
use crate::ReservedPort;

/// A reserved port, and certificates for it that are published and worthless.
#[derive(Debug)]
pub struct TlsPort(ReservedPort);

impl TlsPort {
    pub fn reserve() -> Self {
        Self(reserve_port())
    }

    pub fn number(&self) -> u16 {
        self.0.number()
    }

    /// The path of one of the files in `keys`: `redis_ca`, `redis_client`, `redis_client_key`, `other_ca`.
    pub fn file(name: &str) -> String {
        format!("{}/keys/test_only_{name}.pem", env!("CARGO_MANIFEST_DIR"))
    }

    /// Arguments of redis-server. The certificate is for `localhost` and `127.0.0.1`. With `asks_clients`, clients must
    /// show a certificate.
    pub fn arguments(&self, asks_clients: bool) -> Vec<String> {
        let clients = if asks_clients { "yes" } else { "no" };
        let arguments = [
            ("--tls-port", self.number().to_string()),
            ("--tls-cert-file", Self::file("redis_server")),
            ("--tls-key-file", Self::file("redis_server_key")),
            ("--tls-ca-cert-file", Self::file("redis_ca")),
            ("--tls-auth-clients", clients.to_owned()),
        ];
        arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}
