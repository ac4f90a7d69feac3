//! Limits of one client address, and whose address it is.

use super::*;

/// Direct, by a header, and by the PROXY protocol.
#[tokio::test]
async fn each_client_address_has_its_own_limits() {
    let here = std::slice::from_ref;
    let trusted = TrustedProxies::parse(here(&"127.0.0.1".into()), crate::config::ForwardedHeader::XForwardedFor);
    let mut by_proxy_protocol = trusted.clone();
    by_proxy_protocol.speak_proxy_protocol = true;
    for (trusted_proxies, proxy_header, forwarded) in [
        (TrustedProxies::default(), "", ""),
        (trusted, "", "X-Forwarded-For: 6.6.6.6, CLIENT\r\n"),
        (by_proxy_protocol, "PROXY TCP4 CLIENT 127.0.0.1 1 2\r\n", ""),
    ] {
        let config = EdgeConfig {
            addresses: AddressLimits { connections_max: 2, connects_per_second: 5 },
            trusted_proxies,
            ..config()
        };
        let is_direct = proxy_header.is_empty() && forwarded.is_empty();
        let test = async {
            let mut edge =
                TestEdge::configured(config, Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now()))).await;
            let mut open = async |client: u8| {
                let from = if is_direct { client } else { 1 };
                let mut stream = connect_from(from, edge.address).await;
                let named = |text: &str| text.replace("CLIENT", &format!("127.0.0.{client}"));
                let request = named(proxy_header) + &upgrade("/ws", &named(forwarded));
                stream.write_all(request.as_bytes()).await.unwrap();
                edge.next_handoff().await
            };
            let refusal = |handoff: &Handoff| match &handoff.opening {
                Opening::Refused { close, retry_after_ms, message, .. } => {
                    assert_eq!(*close, Close::TryAgainLater);
                    Some((retry_after_ms.unwrap_or_default() > 0, message.contains("attempts")))
                }
                _ => None,
            };
            let mut kept = vec![open(2).await, open(2).await];
            assert!(kept.iter().all(|handoff| refusal(handoff).is_none()));
            assert_eq!(refusal(&open(2).await), Some((true, false)), "it has two");
            assert_eq!(refusal(&open(3).await), None, "another address");
            kept.pop();
            assert_eq!(refusal(&open(2).await), None, "a place is free again");
            for _ in 0..3 {
                open(2).await;
            }
            assert_eq!(refusal(&open(2).await), Some((true, true)), "five attempts a second");
            assert!(edge.counters.addresses_refused.get() >= 2);
        };
        LocalSet::new().run_until(test).await;
    }
}

/// Above the limit of its address, a client is refused before its token is looked at, or its key is waited for.
#[tokio::test]
async fn attempts_above_the_limit_of_an_address_cost_no_check_of_a_token() {
    let config = EdgeConfig { addresses: AddressLimits { connections_max: 1, connects_per_second: 0 }, ..config() };
    let test = async {
        let mut edge = TestEdge::configured(config, Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now()))).await;
        edge.connect().await.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
        let _first = edge.next_handoff().await;
        let mut stream = edge.connect().await;
        let forged = "Authorization: Bearer a.b.c\r\nSec-WebSocket-Protocol: tidegate.v1\r\n";
        stream.write_all(upgrade("/ws", forged).as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.contains("sec-websocket-protocol: tidegate.v1\r\n"), "{head}");
        let Opening::Refused { code, retry_after_ms, .. } = edge.next_handoff().await.opening else {
            panic!("refused")
        };
        assert!(code == ErrorCode::Unavailable && retry_after_ms.is_some(), "{code:?}");
        let stream = format!("GET /sse?channels=collection:1 HTTP/1.1\r\nHost: x\r\n{forged}\r\n");
        let answer = edge.exchange(stream.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\n\r\nretry: "), "{answer}");
        let malformed = upgrade("/ws", "").replace("Version: 13", "Version: 8");
        assert!(edge.exchange(malformed.as_bytes()).await.starts_with("HTTP/1.1 426 "));
        edge.health.advance(Phase::Draining);
        assert!(edge.exchange(upgrade("/ws", forged).as_bytes()).await.starts_with("HTTP/1.1 503 "));
        assert!(edge.exchange(stream.as_bytes()).await.contains("retry: 100\n"), "another instance takes it");
    };
    LocalSet::new().run_until(test).await;
}

/// Also those that are refused for their token, until their sockets have ended.
#[tokio::test]
async fn refused_upgrades_count_for_their_address() {
    let config = EdgeConfig { addresses: AddressLimits { connections_max: 2, connects_per_second: 0 }, ..config() };
    let test = async {
        let mut edge = TestEdge::configured(config, Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now()))).await;
        let mut open = async |more: &str| {
            edge.connect().await.write_all(upgrade("/ws", more).as_bytes()).await.unwrap();
            edge.next_handoff().await
        };
        let code = |handoff: &Handoff| match handoff.opening {
            Opening::Refused { code, .. } => Some(code),
            _ => None,
        };
        let refused = [open("Authorization: Bearer x\r\n").await, open("Origin: https://evil.example\r\n").await];
        assert_eq!(refused.each_ref().map(code), [Some(ErrorCode::Unauthenticated), Some(ErrorCode::WrongOrigin)]);
        assert_eq!(code(&open("").await), Some(ErrorCode::Unavailable));
        drop(refused);
        assert_eq!(code(&open("").await), None, "both places are free again");
    };
    LocalSet::new().run_until(test).await;
}

/// What begins without the header that a trusted proxy has to write is cut, and anybody else needs none.
#[tokio::test]
async fn the_proxy_protocol_is_spoken_by_trusted_proxies_alone() {
    let mut trusted_proxies =
        TrustedProxies::parse(&["127.0.0.1".into()], crate::config::ForwardedHeader::XForwardedFor);
    trusted_proxies.speak_proxy_protocol = true;
    let config = EdgeConfig {
        addresses: AddressLimits { connections_max: 2, connects_per_second: 0 },
        trusted_proxies,
        ..config()
    };
    let test = async {
        let mut edge = TestEdge::configured(config, Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now()))).await;
        let probe = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(edge.exchange(probe.as_bytes()).await, "");
        assert!(edge.exchange(format!("PROXY UNKNOWN\r\n{probe}").as_bytes()).await.starts_with("HTTP/1.1 200 "));
        // A proxy that forwards bytes passes on what its client claims.
        let claimed = upgrade("/ws", "X-Forwarded-For: 6.6.6.6\r\n");
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        let mut kept = Vec::new();
        for header in [&b"PROXY UNKNOWN\r\n"[..], &local[..], b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n"].repeat(3) {
            edge.connect().await.write_all(&[header, claimed.as_bytes()].concat()).await.unwrap();
            kept.push(edge.next_handoff().await);
        }
        let is_open = |handoff: &Handoff| matches!(handoff.opening, Opening::AwaitHello);
        let open: Vec<bool> = kept.iter().map(is_open).collect();
        assert_eq!(open, [true, true, true, true, true, true, true, true, false], "two of the one that is named");
        let mut other = connect_from(9, edge.address).await;
        other.write_all(probe.as_bytes()).await.unwrap();
        assert!(read_to_end(&mut other).await.starts_with("HTTP/1.1 200 "), "the kubelet has no header");
        let mut liar = connect_from(9, edge.address).await;
        liar.write_all(format!("PROXY TCP4 1.1.1.1 127.0.0.1 1 2\r\n{probe}").as_bytes()).await.unwrap();
        assert!(!read_to_end(&mut liar).await.starts_with("HTTP/1.1 200 "), "it may not speak for others");
    };
    LocalSet::new().run_until(test).await;
}
