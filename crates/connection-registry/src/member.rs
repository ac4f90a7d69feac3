//! A member of a scope: a user, however many connections the user has there.

use std::sync::Arc;

use wire::{InstanceId, Scope, Timestamp, UserId};

/// What a member's token says about the member: JSON, which is passed on unchanged. One machine word when there is
/// none, because every connection has one.
pub type MemberInfo = Option<Arc<String>>;

/// A change of the members that this instance holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// The user's first connection on this instance has entered the scope.
    Enter(Scope, UserId, MemberInfo),
    /// The user's last connection on this instance has left the scope.
    Exit(Scope, UserId),
}

/// One member, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// User that is the member.
    pub user: UserId,
    /// Time of joining by the store's clock.
    pub since: Timestamp,
    /// What the member's token says about the member.
    pub info: MemberInfo,
    /// Instances that the member is connected to. Empty during the member's grace.
    pub instances: Vec<InstanceId>,
}

/// The members of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberList {
    /// Number of all members of the scope.
    pub count: usize,
    /// Some of the members, or all of them.
    pub members: Vec<Member>,
}
