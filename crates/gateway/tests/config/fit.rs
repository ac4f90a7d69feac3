//! Values must be of their kind and fit each other.

use message_router::{Acknowledge, OnIsolation, OnSlow};
use tidegate_gateway::config::{KeyMaterial, PublishConfig, RawConfig, Secure, Sources};

use crate::given::{RSA_PUBLIC, SECRET, check, serving, set, sources};
use crate::temp_file::TempFile;

#[test]
fn values_must_fit_each_other() {
    for (key, value, expected) in [
        ("limits.outbox_bytes_max", "1048576", "at least 4194304, which is 4 × limits.message_bytes_max"),
        ("limits.message_bytes_max", "1048577", "at least 4194308, which is 4 × limits.message_bytes_max"),
        ("http.proxy_protocol", "true", "http.trusted_proxies with it"),
        ("http.trusted_proxies", "10.0.0.0/33", "a list of addresses and networks"),
        ("limits.inbound_bytes_max", "1048575", "at least limits.message_bytes_max, which is 1048576"),
        ("limits.pong_timeout_ms", "30000", "less than limits.ping_interval_ms, which is 30000"),
        ("registry.lease_ms", "4000", "nine tenths of the lease must hold two heartbeats and one call"),
        ("registry.reap_ms", "7000", "reap must be at least lease + heartbeat"),
        ("admin_listen", "127.0.0.1:8080", "an address that differs from listen"),
        ("auth.default_subscribe", "rooms:*", "there is no channel family \"rooms\""),
        ("auth.default_publish", "user:7", "user:ID belongs to that user"),
        ("families", "[{ name = 'room' }, { name = 'room' }]", "a name that no other row has"),
        ("families", "[{ keyed = true }]", "the first segment of the family's channels"),
        ("families", "[{ name = 'user', keyed = false }]", "true: user:ID belongs to that user"),
        ("families", "[{ name = 'user', presence = true }]", "false: each scope of user belongs to one user"),
        ("presence.grace_ms", "60001", "a whole number of milliseconds from 0 to 60000"),
        ("auth.keys", "[{ algorithm = 'HS256', secret = 'short' }]", "at least 32 bytes, this one has 5"),
        ("auth.keys", "[{ secret_file = 'x' }]", "HS256 or RS256 or ES256 or EdDSA"),
        ("auth.keys", "[{ algorithm = 'HS256', public_key_file = 'x' }]", "HS256 with secret or secret_file"),
        ("auth.keys", "[{ algorithm = 'RS256', secret_file = 'x' }]", "RS256 with public_key_file"),
        ("auth.keys", "[{ algorithm = 'HS256', secret_file = '/nowhere' }]", "a file that can be read; \"/nowhere\""),
        ("auth.keys", "[{ jwks_url = 'login.example.com/keys' }]", "it begins with https:// or http://"),
        ("auth.keys", "[{ jwks_url = 'http://me:pw@localhost/keys' }]", "no user and no password"),
        ("auth.keys", "[{ jwks_url = 'http://localhost/keys', kid = 'a' }]", "no key beside jwks_url"),
        ("auth.keys", "[{ jwks_url = 'http://localhost/keys', ca_file = '/nowhere' }]", "a file that can be read"),
        (
            "auth.keys",
            "[{ algorithm = 'HS256', secret = '0123456789abcdef0123456789abcdef', issuer = 'a' }]",
            "jwks_url with it",
        ),
        ("auth.keys", "[{ jwks_url = 'http://localhost/keys', scopes = ['admin:*'] }]", "admin:read, admin:drain"),
        ("drain.grace_ms", "14999", "at least 15000, which is drain.window_ms and the 5000 ms"),
        ("drain.kill_after_ms", "24999", "at least 25000, which is drain.grace_ms and the 5000 ms"),
        ("http.allowed_origins", "https://a.example/chat", "no path, as in https://app.example.com"),
        ("http.allowed_origins", "a.example", "an origin with its scheme"),
        ("http.allowed_origins", "https://a.example,wss://b.example", "instead of \"wss://b.example\""),
        ("http.websocket_paths", "ws", "a list of paths such as \"/ws\""),
        ("http.websocket_paths", "/ws,/readyz/", "another path than /readyz, which answers probes"),
        ("http.event_stream_paths", "/sse,/ws/", "which has \"/ws\" too"),
        ("http.session_cookie", "a b", "a cookie's name"),
        ("http.session_cookie", "tidegate_token", "another name than auth.cookie"),
        ("admin.allowed_hosts", "gw.example.com,http://gw", "instead of \"http://gw\""),
        ("log.filter", "a=b=c", "a log filter, such as info"),
        ("redis.ca_file", "ca.pem", "no file, because redis.url does not ask for TLS: write rediss:// there"),
        ("redis.cert_file", "client.pem", "no file, because redis.url does not ask for TLS"),
        ("redis.key_file", "client.key", "no file, because redis.url does not ask for TLS"),
        ("redis.prefix", "a:b", "a name: 1 to 128 letters"),
        ("shards", "65", "a whole number of threads from 0 to 64"),
    ] {
        let flags = vec![set(key, value)];
        let problems = check(Sources { flags, ..serving(&[]) }).expect_err(key);
        assert!(problems.starts_with("1 problem "), "{key} = {value}: {problems}");
        assert!(problems.contains(expected), "{key} = {value}: {problems}");
    }
}

#[test]
fn the_session_cookie_is_secure_where_its_name_or_the_listener_needs_it() {
    let cookie = |settings: &[(&str, &str)]| {
        let flags = settings.iter().map(|(key, text)| set(key, text)).collect();
        check(Sources { flags, ..serving(&[]) }).map(|config| config.http.session_cookie)
    };
    let secure = |settings: &[(&str, &str)]| cookie(settings).unwrap().secure;
    let (name, needs) = ("http.session_cookie", "http.session_cookie_secure");
    assert_eq!(cookie(&[]).unwrap().name.as_deref(), Some("tidegate_session"));
    assert_eq!(cookie(&[(name, "none")]).unwrap().name, None);
    assert_eq!(secure(&[]), Secure::Auto);
    assert_eq!(secure(&[(needs, "never")]), Secure::Never);
    assert_eq!(secure(&[(name, "__Host-tidegate")]), Secure::Always);
    assert_eq!(secure(&[(name, "__secure-tidegate")]), Secure::Always);
    let problems = cookie(&[(name, "__Host-tidegate"), (needs, "never")]).unwrap_err();
    assert!(problems.contains("which the prefix of http.session_cookie needs"), "{problems}");
}

#[test]
fn a_delay_is_part_of_what_the_process_has_until_it_is_killed() {
    let flags = |delay| vec![set("drain.delay_ms", delay), set("drain.kill_after_ms", "30000")];
    assert!(check(Sources { flags: flags("5000"), ..serving(&[]) }).is_ok());
    let problems = check(Sources { flags: flags("5001"), ..serving(&[]) }).unwrap_err();
    assert!(problems.contains("at least 30001, which is drain.delay_ms, drain.grace_ms and the 5000 ms"), "{problems}");
}

#[test]
fn families_are_changed_and_added_to() {
    let rows = "[{ name = 'room', ttl_ms = 5000, binary = true }, { name = 'system', history_entries_max = 0 }]";
    let config = check(serving(&[("TIDEGATE_FAMILIES", rows)])).unwrap();
    let names: Vec<_> = config.policies.families().iter().map(|(_, shape)| shape.name.clone()).collect();
    assert_eq!(names, ["user", "collection", "system", "room"]);
    let policy = |name| *config.policies.policy(config.policies.families().find(name).unwrap());
    assert_eq!((policy("room").ttl_ms, policy("room").lane, policy("room").binary), (5_000, 3, true));
    assert_eq!((policy("system").ttl_ms, policy("system").history_entries_max), (300_000, 0));
    assert!(!config.policies.families().shape(config.policies.families().find("system").unwrap()).keyed);
}

#[test]
fn a_family_says_what_happens_without_redis_and_to_slow_clients() {
    let rows = "[{ name = 'user', on_isolation = 'read_only', acknowledge = 'replicated' }, \
                 { name = 'cursor', history_entries_max = 0, on_slow = 'latest', on_isolation = 'local' }, \
                 { name = 'system', history_entries_max = 0 }]";
    let config = check(serving(&[("TIDEGATE_FAMILIES", rows)])).unwrap();
    let policy = |name| *config.policies.policy(config.policies.families().find(name).unwrap());
    assert_eq!(
        (policy("user").on_isolation, policy("collection").on_isolation),
        (OnIsolation::ReadOnly, OnIsolation::Local)
    );
    assert_eq!(
        (policy("cursor").on_isolation, policy("system").on_isolation),
        (OnIsolation::Local, OnIsolation::ReadOnly)
    );
    assert_eq!((policy("user").on_slow, policy("cursor").on_slow), (OnSlow::CatchUp, OnSlow::Latest));
    assert_eq!(policy("system").on_slow, OnSlow::Close, "without history there is nothing to catch up from");
    assert_eq!(
        (policy("user").acknowledge, policy("cursor").acknowledge),
        (Acknowledge::Replicated, Acknowledge::Stored)
    );

    let rows = "[{ name = 'cursor', history_entries_max = 0, on_slow = 'catch_up' }]";
    let problems = check(serving(&[("TIDEGATE_FAMILIES", rows)])).unwrap_err();
    assert!(problems.contains("families[0].on_slow") && problems.contains("without history"), "{problems}");
}

#[test]
fn keys_come_from_files_without_the_end_of_the_line() {
    let secret = TempFile::new("secret", &format!("{SECRET}\r\n"));
    let pem = TempFile::new("key.pem", RSA_PUBLIC);
    let rows = format!(
        "[{{ kid = 'h', algorithm = 'HS256', secret_file = '{}' }}, {{ algorithm = 'RS256', public_key_file = '{}' }}]",
        secret.0.display(),
        pem.0.display()
    );
    let config = check(Sources { flags: vec![set("auth.keys", &rows)], ..serving(&[]) }).unwrap();
    let [hmac, rsa] = &config.auth.keys[..] else { panic!("two keys") };
    assert!(matches!(&hmac.material, KeyMaterial::Hs256(read) if read.expose() == SECRET.as_bytes()));
    assert!(matches!(&rsa.material, KeyMaterial::Rs256(read) if read == RSA_PUBLIC.as_bytes()) && rsa.kid.is_none());
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_key() {
    let secret = TempFile::new("marked-secret", &format!("\u{feff}{SECRET}\n"));
    let pem = TempFile::new("marked-key.pem", &format!("\u{feff}{RSA_PUBLIC}"));
    let rows = |secret: &TempFile| {
        let (secret, pem) = (secret.0.display(), pem.0.display());
        format!(
            "[{{ algorithm = 'HS256', secret_file = '{secret}' }}, {{ algorithm = 'RS256', public_key_file = '{pem}' }}]"
        )
    };
    let check_rows = |rows: &str| check(Sources { flags: vec![set("auth.keys", rows)], ..serving(&[]) });
    let config = check_rows(&rows(&secret)).unwrap();
    assert!(matches!(&config.auth.keys[0].material, KeyMaterial::Hs256(read) if read.expose() == SECRET.as_bytes()));
    let wide = TempFile::new("wide-secret", "");
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        let units = "\u{feff}".encode_utf16().chain(SECRET.encode_utf16());
        std::fs::write(&wide.0, units.flat_map(order).collect::<Vec<u8>>()).unwrap();
        let problems = check_rows(&rows(&wide)).unwrap_err();
        assert!(problems.contains("auth.keys[0].secret_file") && problems.contains("UTF-16"), "{problems}");
    }
}

#[test]
fn publishing_needs_redis_and_no_keys() {
    let mut raw = RawConfig::gather(sources(&[("TIDEGATE_REDIS_URL", "redis://127.0.0.1:7")]));
    assert_eq!(PublishConfig::check(&mut raw).unwrap().redis.target.to_string(), "127.0.0.1:7");
    let problems = PublishConfig::check(&mut RawConfig::gather(sources(&[]))).unwrap_err().to_string();
    assert!(problems.contains("redis.url is not set"), "{problems}");
}
