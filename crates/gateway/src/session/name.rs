//! PURE. The id of a session, which is bound to its user: one half is random, the other half is a digest of the random
//! half and the user's name.
//!
//! So every instance can check that an id belongs to a user, without asking other instances or Redis. An id is not a
//! secret: only its user can use it, because a token is required. No user can make an id of their own that equals
//! another user's.

use sha1::{Digest, Sha1};
use wire::{SessionId, TenantId, UserId};

/// The id of a user's session, made from random bits. It uses half of the bits of `drawn`.
pub(crate) fn bind(drawn: SessionId, tenant: &TenantId, user: &UserId) -> SessionId {
    let random = drawn.bits() as u64;
    SessionId::from_random(u128::from(random) << 64 | u128::from(tag(random, tenant, user)))
}

/// Whether a session id belongs to the user.
pub(crate) fn is_of(id: SessionId, tenant: &TenantId, user: &UserId) -> bool {
    let (random, own) = ((id.bits() >> 64) as u64, id.bits() as u64);
    tag(random, tenant, user) == own
}

fn tag(random: u64, tenant: &TenantId, user: &UserId) -> u64 {
    let mut digest = Sha1::new();
    // Names contain no slash.
    for part in ["tidegate session ", tenant.as_str(), "/", user.as_str(), "/"] {
        digest.update(part);
    }
    digest.update(random.to_be_bytes());
    digest.finalize().iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_users_alone() {
        let tenant = |name| TenantId::parse(name).unwrap();
        let user = |name| UserId::parse(name).unwrap();
        let (acme, alice) = (tenant("acme"), user("alice"));
        let drawn = SessionId::parse("00000000000000000123456789abcdef").unwrap();
        let id = bind(drawn, &acme, &alice);
        // Instances of different builds must compute the same id.
        assert_eq!(id.to_string(), "0123456789abcdefc50d04d1cce92306");
        assert!(is_of(id, &acme, &alice));
        for (other_tenant, other_user) in [("acme", "bob"), ("globex", "alice"), ("acm", "ealice")] {
            let (other_tenant, other_user) = (tenant(other_tenant), user(other_user));
            assert!(!is_of(id, &other_tenant, &other_user), "{other_tenant}/{other_user}");
            assert_ne!(bind(drawn, &other_tenant, &other_user), id);
        }
        assert!(!is_of(drawn, &acme, &alice), "one that was drawn is nobody's");
        assert_ne!(bind(SessionId::from_random(1), &acme, &alice), id);
    }
}
