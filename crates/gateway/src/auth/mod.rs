//! Tokens: who a client is, which channels it may use, and how a token is signed.

pub(crate) mod grants;
pub(crate) mod issuer;
#[cfg(test)]
pub(crate) mod signed;
pub(crate) mod token;
