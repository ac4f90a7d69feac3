//! An instance: one gateway process. Its incarnation distinguishes it from earlier processes with the same id.

use std::fmt;

use wire::InstanceId;

/// One incarnation of an instance. A new one begins when the process starts and when it finds itself fenced.
///
/// The upper half is the start in Unix seconds, so that operators see the order. The lower half is random, so that two
/// incarnations differ even within one second, or when the clock was set back. Nothing compares incarnations by size.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// An incarnation that started at this time.
    #[must_use]
    pub fn new(unix_seconds: u32, random: u32) -> Self {
        Self(u64::from(unix_seconds) << 32 | u64::from(random))
    }

    /// Reads the printed form: 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An instance, as its peers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name of the instance. Two processes must not have the same id: only the first one gets the lease.
    pub id: InstanceId,
    /// Incarnation of this process.
    pub incarnation: Incarnation,
    /// Address that the instance listens on, for operators. No program connects to it.
    pub address: Box<str>,
}

/// State of a peer in the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The peer sends heartbeats.
    Up,
    /// The peer has been silent for as long as a lease lasts. It may not act as an owner any more, but may return in
    /// the same incarnation.
    Suspect,
    /// The peer has been silent for so long that its rows may be removed.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_prints_and_reads_back() {
        let incarnation = Incarnation::new(0x6500_0000, 0x0000_002a);
        assert_eq!(incarnation.to_string(), "650000000000002a");
        assert_eq!(Incarnation::parse("650000000000002a"), Some(incarnation));
        assert_eq!(Incarnation::parse("65000000 000002a"), None);
        assert_eq!(Incarnation::parse("2a"), None);
    }
}
