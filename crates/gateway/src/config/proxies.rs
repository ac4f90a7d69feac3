//! The proxies that may say for whom they connect: `http.trusted_proxies` and the keys beside it.

use std::net::IpAddr;

use ipnet::IpNet;

/// Trusted proxies, and how they name their clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// The header in which they name the client. The other one is what a client claims.
    pub header: ForwardedHeader,
    /// Whether they begin each connection with a PROXY protocol header.
    pub speak_proxy_protocol: bool,
}

/// The header in which a proxy names its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl TrustedProxies {
    /// Reads checked addresses and networks of proxies that speak HTTP alone.
    pub(crate) fn parse(texts: &[String], header: ForwardedHeader) -> Self {
        let networks = texts.iter().filter_map(|text| network(text)).collect();
        Self { networks, header, speak_proxy_protocol: false }
    }

    /// Whether a peer is one of them.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }
}

/// Whether `http.trusted_proxies` accepts `text`.
pub(super) fn is_network(text: &str) -> bool {
    network(text).is_some()
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
