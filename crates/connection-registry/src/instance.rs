//! An instance: one gateway process, unique in time by its incarnation.

use std::fmt;

use wire::InstanceId;

/// One incarnation of an instance. A new one begins when the process starts and when it finds itself fenced.
///
/// The upper half is the start in Unix seconds, so that operators see the order; the lower half is random, so that
/// two incarnations within a second, or under a clock set back, still differ. Nothing compares incarnations by size.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Puts one together.
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

/// An instance as its peers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// As operators name it. Two processes must not share one: the lease lets only the first of them in.
    pub id: InstanceId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// Where it listens, for operators to read. Nothing connects to it.
    pub address: Box<str>,
}

/// What the roster thinks of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its heartbeats come.
    Up,
    /// Silent for as long as a lease lasts: it may no longer act as owner, but may still come back as it was.
    Suspect,
    /// Silent for so long that its rows may be taken over.
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
