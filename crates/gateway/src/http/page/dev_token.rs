//! Issues tokens to every client that asks, signed with the key that dev mode generates at start or with the
//! configured key.

use wire::{Families, TenantId, UserId};

use crate::auth::issuer::{Issuer, TokenRequest};
use crate::http::percent::percent_decode;
use crate::http::refusal::Refusal;

/// Lifetime of a token, in seconds: long enough to use the page for half a day.
const LIFETIME_S: u64 = 12 * 60 * 60;

/// Issues the tokens of dev mode.
#[derive(Debug)]
pub(crate) struct DevTokens {
    issuer: Issuer,
    /// Grants of a token that is requested without grants: all channels except those of other users.
    all: Vec<String>,
}

impl DevTokens {
    pub(crate) fn new(issuer: Issuer, families: &Families) -> Self {
        let others = families.iter().filter(|(_, shape)| shape.name != "user");
        let all = others.flat_map(|(_, shape)| match shape.keyed {
            true => vec![format!("{}:*", shape.name)],
            false => vec![shape.name.clone(), format!("{}:*", shape.name)],
        });
        Self { issuer, all: all.collect() }
    }

    /// Parses `user=…&tenant=…&subscribe=…,…&publish=…,…` and signs a token with these claims.
    pub(super) fn issue(&self, query: &str, now_unix_s: u64) -> Result<String, Refusal> {
        let (mut user, mut tenant) = (None, TenantId::default());
        let (mut subscribe, mut publish) = (self.all.clone(), self.all.clone());
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode(&value.replace('+', " ")).ok_or(Refusal::bad_request("an invalid %-escape"))?;
            let grants = || value.split(',').filter(|grant| !grant.is_empty()).map(String::from).collect();
            match name {
                "user" => {
                    user = Some(UserId::parse(&value).map_err(|_| Refusal::bad_request("user is not a valid name"))?)
                }
                "tenant" => {
                    tenant = TenantId::parse(&value).map_err(|_| Refusal::bad_request("tenant is not a valid name"))?;
                }
                "subscribe" => subscribe = grants(),
                "publish" => publish = grants(),
                _ => return Err(Refusal::bad_request("/dev/token takes user, tenant, subscribe and publish")),
            }
        }
        let user = user.ok_or(Refusal::bad_request("a user is required: /dev/token?user=alice"))?;
        let request = TokenRequest {
            user,
            tenant: Some(tenant),
            subscribe,
            publish,
            scopes: Vec::new(),
            info: None,
            expires_in_s: LIFETIME_S,
        };
        let refused = "a grant is not a channel or pattern of this gateway, such as collection:42:*";
        self.issuer.issue(&request, now_unix_s).map_err(|_| Refusal::bad_request(refused))
    }
}
