//! Limits of the number of connections of a user and of a tenant, over the whole fleet.

/// Limits that only the store can enforce, because connections are spread over instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections of one user. 0 means no limit. The owner's default is 10.
    pub per_user_max: u32,
    /// Most connections of one tenant. 0 means no limit.
    pub per_tenant_max: u32,
    /// Which connection of a user is closed above the user's limit. Above a tenant's limit the new connection is always
    /// refused.
    pub on_excess: OnExcess,
}

/// Which connection is closed when a user has one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExcess {
    /// The new connection is refused.
    Reject,
    /// The oldest connection is closed.
    CloseOldest,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { per_user_max: 10, per_tenant_max: 0, on_excess: OnExcess::Reject }
    }
}

impl OnExcess {
    /// Spelling that the store's function expects.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::CloseOldest => "close_oldest",
        }
    }
}
