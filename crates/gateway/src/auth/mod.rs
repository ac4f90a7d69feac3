//! Tokens: they identify the user, grant channels, and are signed and verified here.

pub(crate) mod grants;
pub(crate) mod issuer;
pub(crate) mod report;
#[cfg(test)]
pub(crate) mod signed;
pub(crate) mod token;
mod user_name;
