//! The kind of traffic on a connection to Redis, recognised by its first pieces.

/// The kind of traffic in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    Calls,
    /// Messages to a gateway.
    Subscriber,
    /// The hello messages that Sentinels exchange through Redis.
    SentinelHello,
    Replication,
}

impl Traffic {
    /// The kind that this piece to Redis shows, or `None` if it shows none.
    pub(super) fn of(piece: &[u8]) -> Option<Self> {
        let marks: [(&[u8], Self); 4] = [
            (b":commands", Self::Calls),
            (b":subscriber", Self::Subscriber),
            // The name is `sentinel-RUNID-pubsub`.
            (b"-pubsub", Self::SentinelHello),
            (b"REPLCONF", Self::Replication),
        ];
        let position_now = |mark: &[u8]| piece.windows(mark.len()).any(|window| window == mark);
        marks.into_iter().find(|(mark, _)| position_now(mark)).map(|(_, traffic)| traffic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_by_its_name_or_by_its_first_words() {
        let of = |text: &str| Traffic::of(text.as_bytes());
        assert_eq!(of("$7\r\nSETNAME\r\n$17\r\nx:gw-1:subscriber\r\n"), Some(Traffic::Subscriber));
        assert_eq!(of("$15\r\nx:gw-1:commands\r\n"), Some(Traffic::Calls));
        assert_eq!(of("CLIENT SETNAME sentinel-0a1b2c3d-pubsub"), Some(Traffic::SentinelHello));
        assert_eq!(of("CLIENT SETNAME sentinel-0a1b2c3d-cmd"), None);
        assert_eq!(of("*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n"), Some(Traffic::Replication));
        assert_eq!(of("PING"), None);
    }
}
