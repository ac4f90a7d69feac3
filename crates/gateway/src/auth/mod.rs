//! Tokens: they identify the user, grant channels, and are signed and verified here.

pub(crate) mod grants;
pub(crate) mod issuer;
pub(crate) mod key;
pub(crate) mod key_set;
pub(crate) mod key_set_url;
pub(crate) mod mistaken_secret;
pub(crate) mod permission;
pub(crate) mod report;
pub(crate) mod revocations;
#[cfg(test)]
pub(crate) mod signed;
pub(crate) mod token;
mod user_name;
