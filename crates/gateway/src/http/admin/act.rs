//! What a request to the admin port asks for.

use hyper::Method;

use crate::auth::permission::Permission;
use crate::http::refusal::Refusal;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Livez,
    Readyz,
    Metrics,
    ListConnections,
    ListDeadLetters,
    ListReceipts,
    Drain,
}

impl Act {
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        let act = match path {
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/connections" => Self::ListConnections,
            "/dead-letters" => Self::ListDeadLetters,
            "/receipts" => Self::ListReceipts,
            "/drain" => Self::Drain,
            _ => return Err(Refusal::no_admin_path()),
        };
        let allowed = match act {
            Self::Livez | Self::Readyz | Self::Metrics => "GET, HEAD",
            Self::ListConnections | Self::ListDeadLetters | Self::ListReceipts => "GET",
            Self::Drain => "POST",
        };
        if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
            Ok(act)
        } else {
            Err(Refusal::method_not_allowed(allowed))
        }
    }

    /// Whether it is a probe, which tells nobody more than whether the instance runs.
    pub(super) fn is_probe(self) -> bool {
        matches!(self, Self::Livez | Self::Readyz)
    }

    /// Whether it changes something.
    pub(super) fn is_change(self) -> bool {
        self == Self::Drain
    }

    /// What a service token needs for it. Probes and metrics need none.
    pub(super) fn permission(self) -> Option<Permission> {
        match self {
            Self::Livez | Self::Readyz | Self::Metrics => None,
            Self::ListConnections | Self::ListDeadLetters | Self::ListReceipts => Some(Permission::AdminRead),
            Self::Drain => Some(Permission::AdminDrain),
        }
    }

    /// The name in the audit log of what operators do. Programs read probes and metrics all the time.
    pub(super) fn audited(self) -> Option<&'static str> {
        match self {
            Self::Livez | Self::Readyz | Self::Metrics => None,
            Self::ListConnections => Some("list_connections"),
            Self::ListDeadLetters => Some("list_dead_letters"),
            Self::ListReceipts => Some("list_receipts"),
            Self::Drain => Some("drain"),
        }
    }
}
