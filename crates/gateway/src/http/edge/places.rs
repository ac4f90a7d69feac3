//! Which client gets a place on this instance, and which is told when to come back.

use super::addresses::AddressRefusal;
use super::*;

/// The refusal of a client that may come back later.
#[derive(Debug)]
pub(super) struct ComeBack {
    pub(super) message: &'static str,
    pub(super) retry_after_ms: u64,
}

impl Edge {
    /// Decides about an upgrade whose address may have one more connection.
    pub(super) async fn decide(
        &self,
        request: &Request<Incoming>,
        path_tenant: Option<&TenantId>,
        session_id: SessionId,
    ) -> Result<Upgrade, Refusal> {
        self.handshake.await_key(request, unix_ms()).await;
        let mut upgrade = self.handshake.decide(request, path_tenant, unix_s(), session_id)?;
        // A refused upgrade costs the others no turn and no place, but its address one until its socket has ended.
        if matches!(upgrade.opening, Opening::Refused { .. }) {
            return Ok(upgrade);
        }
        if !self.takes_clients() {
            return Err(Refusal::draining());
        }
        if self.diverts(upgrade.cookie) {
            return Err(Refusal::elsewhere());
        }
        let has_token = matches!(upgrade.opening, Opening::Authenticated(_));
        if let Some(later) = self.admit(has_token).await {
            upgrade.opening = later.opening();
        }
        Ok(upgrade)
    }

    /// Waits for this connection's turn and for a place, or returns its refusal. A client without a token does not wait
    /// for a place: it would take a place in the queue from one that has a token.
    pub(super) async fn admit(&self, has_token: bool) -> Option<ComeBack> {
        if let Some(refused) = self.throttle().await {
            return Some(refused);
        }
        let has_room = || self.hub.connections() < self.config.connections_max;
        let is_in = match has_token {
            true => self.waiting_room.enter(has_room, || self.hub.evict_unauthenticated()).await,
            false => self.waiting_room.is_passed(has_room),
        };
        if is_in { None } else { Some(self.full()) }
    }

    /// Waits for this connection's turn, or returns its refusal.
    async fn throttle(&self) -> Option<ComeBack> {
        let now_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        match self.admission.enter(now_us) {
            AdmissionDecision::After(Duration::ZERO) => None,
            AdmissionDecision::After(wait) => {
                self.counters.upgrades_queued.add(1);
                tokio::time::sleep(wait).await;
                None
            }
            AdmissionDecision::Full(wait) => {
                self.counters.upgrades_throttled.add(1);
                Some(ComeBack::after_about("too many clients connect at once; come back a little later", millis(wait)))
            }
        }
    }

    /// Counts a connection attempt of the client's address. `None` if it is not known, because a trusted proxy does not
    /// say it.
    pub(super) fn enter(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
    ) -> Result<Option<AddressPlace>, AddressRefusal> {
        let client = client_address(&self.config.trusted_proxies, peer, request.headers());
        client.map(|client| self.addresses.enter(client, self.now_ms())).transpose()
    }

    /// The refusal of a client whose address has too many connections or attempts.
    pub(super) fn crowded(&self, AddressRefusal { message, retry_after_ms }: AddressRefusal) -> ComeBack {
        self.counters.addresses_refused.add(1);
        ComeBack::after_about(message, retry_after_ms)
    }

    /// The refusal of new clients while the instance is full.
    fn full(&self) -> ComeBack {
        self.counters.upgrades_full.add(1);
        ComeBack::after_about("this instance is full; come back a little later", COME_BACK_FULL_MS)
    }
}

impl ComeBack {
    /// A random part of the same length is added. Otherwise all clients that were refused together would return
    /// together.
    fn after_about(message: &'static str, after_ms: u64) -> Self {
        let retry_after_ms = after_ms + u64::from(getrandom::u32().unwrap_or_default()) % after_ms.max(1);
        Self { message, retry_after_ms }
    }

    /// The refusal of an upgrade.
    pub(super) fn opening(self) -> Opening {
        let Self { message, retry_after_ms } = self;
        let (code, close) = (ErrorCode::Unavailable, Close::TryAgainLater);
        Opening::Refused { code, close, message: message.into(), retry_after_ms: Some(retry_after_ms) }
    }
}
