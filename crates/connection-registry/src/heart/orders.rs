//! What the store wants done here: asked for by renewing the lease, and passed on to the rest of the gateway.

use super::Heart;
use crate::error::StoreError;
use crate::lease::Ask;
use crate::limits::Order;
use crate::load::Load;
use crate::store::Store;

impl<S: Store, L: Fn() -> Load + Send + 'static> Heart<S, L> {
    /// Renewing brings the orders. Without a lease they wait for the next beat.
    pub(super) async fn take_orders(&mut self) -> Result<(), StoreError> {
        let Ask::Renew(token) = self.lease.ask() else { return Ok(()) };
        self.number += 1;
        self.renew(&token).await
    }

    /// Passes on who has to go, and what is to be sent. Nobody listens when the gateway stops, and then everybody goes.
    pub(super) fn pass_on(&self, orders: Vec<Order>) {
        for errand in orders.into_iter().flat_map(|order| self.directory.errands(order)) {
            let _ = self.errands.send(errand);
        }
    }
}
