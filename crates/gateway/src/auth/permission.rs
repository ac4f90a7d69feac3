//! PURE. What a service token permits: the scopes of its `scope` claim (RFC 8693 §4.2), for operators' programs.

/// One scope of a service token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Lists connections, dead letters and receipts on the admin port.
    AdminRead,
    /// Lets the instance drain.
    AdminDrain,
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permissions(u8);

impl Permission {
    pub(crate) const ALL: [Self; 2] = [Self::AdminRead, Self::AdminDrain];

    /// The scope, as the claim has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AdminRead => "admin:read",
            Self::AdminDrain => "admin:drain",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }
}

impl Permissions {
    pub(crate) const NONE: Self = Self(0);

    /// Reads scopes. Those of other programs are ignored.
    pub(crate) fn of<'s>(scopes: impl IntoIterator<Item = &'s str>) -> Self {
        let known = scopes.into_iter().filter_map(Permission::parse);
        Self(known.fold(0, |set, permission| set | 1 << permission as u8))
    }

    pub(crate) fn contain(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    /// The permissions that are in both sets.
    pub(crate) fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes of the set.
    pub(crate) fn scopes(self) -> impl Iterator<Item = &'static str> {
        Permission::ALL.into_iter().filter(move |permission| self.contain(*permission)).map(Permission::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_and_others_are_ignored() {
        let read = |claim: &str| Permissions::of(claim.split(' ')).scopes().collect::<Vec<_>>();
        assert_eq!(read("openid admin:drain admin:read profile"), ["admin:read", "admin:drain"]);
        assert_eq!(read("admin:read admin:read"), ["admin:read"]);
        for none in ["", "admin", "admin:*", "Admin:Read", "admin:read,admin:drain", "xadmin:read"] {
            assert_eq!(read(none), [""; 0], "{none}");
        }
        let all = Permissions::of(Permission::ALL.map(Permission::as_str));
        assert_eq!(all.within(Permissions::of(["admin:read"])), Permissions::of(["admin:read"]));
        assert_eq!(Permissions::NONE.within(all), Permissions::NONE);
    }
}
