//! What the store wants done here: asked for by renewing the lease, and passed on to the rest of the gateway.

use super::Heart;
use crate::error::StoreError;
use crate::lease::Ask;
use crate::limits::{Addressee, Closing, Errand, Order};
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
        let errand = |errand| _ = self.errands.send(errand);
        for order in orders {
            match order {
                // Its client may have come back meanwhile.
                Order::Session(closing, since) => match self.directory.seated(closing.session) {
                    Some((number, at)) if since.is_none() || since == at => errand(Errand::Close(closing, number)),
                    _ => {}
                },
                Order::User(tenant, user, why) => {
                    for session in self.directory.sessions_of(&tenant, &user) {
                        if let Some((number, _)) = self.directory.seated(session) {
                            errand(Errand::Close(Closing { session, why }, number));
                        }
                    }
                }
                Order::Notice(Addressee::Session(session), notice) => errand(Errand::Notice(vec![session], notice)),
                Order::Notice(Addressee::User(tenant, user), notice) => {
                    errand(Errand::Notice(self.directory.sessions_of(&tenant, &user), notice));
                }
            }
        }
    }
}
