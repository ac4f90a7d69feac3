//! What a connection to Redis carries, told by its first pieces.

/// What a tunnel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    Calls,
    /// Messages to a gateway.
    Subscriber,
    /// What Sentinels tell each other through Redis.
    SentinelHello,
    Replication,
}

impl Traffic {
    /// By what goes to Redis in this piece; nothing if that does not tell.
    pub(super) fn of(piece: &[u8]) -> Option<Self> {
        let marks: [(&[u8], Self); 4] = [
            (b":commands", Self::Calls),
            (b":subscriber", Self::Subscriber),
            // sentinel-RUNID-pubsub
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
