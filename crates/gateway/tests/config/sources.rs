//! Flags, environment, file and defaults: what wins, and that every key is read.

use tidegate_gateway::config::{Config, Fallback, KEYS, RawConfig, Sources, ValueKind};

use crate::given::{RSA_PUBLIC, SECRET, check, keys_variable, serving, set, sources};
use crate::temp_file::TempFile;

#[test]
fn flags_outweigh_the_environment_and_the_environment_the_file() {
    let file = TempFile::new(
        "precedence.toml",
        "listen = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\n[limits]\nping_interval_ms = 20000\nmessages_burst = 7\n",
    );
    let mut sources = serving(&[
        ("TIDEGATE_LISTEN", "127.0.0.1:3"),
        ("TIDEGATE_LIMITS_PING_INTERVAL_MS", "21000"),
        ("UNRELATED", "x"),
    ]);
    sources.file = Some(file.0.clone());
    sources.flags = vec![set("listen", "127.0.0.1:4"), set("listen", "127.0.0.1:5")];
    let config = check(sources).unwrap();
    assert_eq!(config.listen.port(), 4, "of two flags the first");
    assert_eq!(config.admin_listen.port(), 2);
    assert_eq!(config.limits.ping_interval.as_millis(), 21_000);
    assert_eq!(config.limits.messages_burst, 7);
    assert_eq!(config.limits.messages_per_second, 100, "nobody set it");
}

#[test]
fn the_environment_names_the_file_and_a_flag_names_another() {
    let (one, other) = (TempFile::new("one.toml", "shards = 1"), TempFile::new("other.toml", "shards = 2"));
    let mut sources = serving(&[]);
    sources.environment.push(("TIDEGATE_CONFIG".into(), one.0.display().to_string()));
    assert_eq!(check(sources).unwrap().shards, 1);
    let mut sources = serving(&[("TIDEGATE_CONFIG", "/nowhere/at/all.toml")]);
    sources.file = Some(other.0.clone());
    assert_eq!(check(sources).unwrap().shards, 2);
}

#[test]
fn a_variable_may_write_the_dot_as_one_underscore_or_two_and_be_empty() {
    let config = check(serving(&[("TIDEGATE_LIMITS__MESSAGES_BURST", "9"), ("TIDEGATE_AUTH_ISSUER", "")])).unwrap();
    assert_eq!((config.limits.messages_burst, config.auth.issuer), (9, None));
    let both = [("TIDEGATE_LIMITS__MESSAGES_BURST", "9"), ("TIDEGATE_LIMITS_MESSAGES_BURST", "8")];
    let problems = check(serving(&both)).unwrap_err();
    assert!(problems.contains("expected one variable for it; TIDEGATE_LIMITS_MESSAGES_BURST is set too"), "{problems}");
}

#[test]
fn lists_are_written_as_in_toml_or_with_commas() {
    let origins = |text| check(serving(&[("TIDEGATE_HTTP_ALLOWED_ORIGINS", text)])).unwrap().http.allowed_origins.exact;
    assert_eq!(origins("https://a.example, http://b.example:81"), ["https://a.example", "http://b.example:81"]);
    assert_eq!(origins(r#"["https://a.example"]"#), ["https://a.example"]);
    assert!(
        check(serving(&[("TIDEGATE_HTTP_ALLOWED_ORIGINS", "https://a.example/chat")])).is_err(),
        "origins have no path"
    );
}

#[test]
fn lists_of_tables_may_be_json() {
    let toml = r#"[{ kid = "a", algorithm = "HS256", secret = "0123456789abcdef0123456789abcdef" }]"#;
    let json = r#"[ {"kid":"a", "algorithm":"HS256", "secret":"0123456789abcdef0123456789abcdef"} ]"#;
    let read = |name: &str, text: &str| {
        let mut sources = serving(&[]);
        sources.environment.retain(|(other, _)| other != name);
        sources.environment.push((name.into(), text.into()));
        format!("{:?}", check(sources).unwrap_or_else(|problems| panic!("{problems}")))
    };
    assert_eq!(read("TIDEGATE_AUTH_KEYS", toml), read("TIDEGATE_AUTH_KEYS", json));
    assert_eq!(
        read("TIDEGATE_FAMILIES", "[{ name = 'room', ttl_ms = 5000, binary = true }]"),
        read("TIDEGATE_FAMILIES", "[{\"name\": \"room\", \"ttl_ms\": 5000, \"binary\": true}]\n"),
    );
    for wrong in [r#"{"kid":"a"}"#, r#"[{"kid":"a","#, r#"[{"kid":null}]"#, "[1]"] {
        let problems = check(serving(&[("TIDEGATE_FAMILIES", wrong)])).unwrap_err();
        assert!(problems.contains("written in TOML or JSON"), "{problems}");
    }
}

/// Every value that came by a file has a line end.
#[test]
fn white_space_at_the_ends_of_a_variable_is_no_part_of_the_value() {
    let names =
        ["TIDEGATE_AUTH_ISSUER", "TIDEGATE_REDIS_URL", "TIDEGATE_LISTEN", "TIDEGATE_SHARDS", "TIDEGATE_INSTANCE"];
    let values = ["https://id.example", "redis://127.0.0.1", "127.0.0.1:7", "3", "web7"];
    let read = |end: &str| {
        let pairs: Vec<_> =
            names.iter().zip(values).map(|(name, value)| (*name, format!("{end}{value}{end}"))).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, &**value)).collect();
        format!("{:?}", check(serving(&pairs)).unwrap_or_else(|problems| panic!("{problems}")))
    };
    assert_eq!(read(""), read(" "));
    assert_eq!(read(""), read("\r\n"));
    // Flags and files are written by hand. Where nothing refuses the white space, no token would ever match.
    for (key, value) in [("auth.issuer", "https://id.example "), ("auth.audience", " a"), ("auth.issuer", "\u{feff}a")]
    {
        let problems = check(Sources { flags: vec![set(key, value)], ..serving(&[]) }).unwrap_err();
        assert!(problems.contains("without white space at its ends"), "{problems}");
    }
}

#[test]
fn variables_of_other_programs_are_told_from_typos() {
    let foreign = [("TIDEGATE_VERSION", "1.4.2"), ("TIDEGATE_IMAGE_TAG", "latest"), ("TIDEGATE_NAME", "/web/tidegate")];
    let mut raw = RawConfig::gather(serving(&foreign));
    Config::check(&mut raw).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(raw.foreign_variables(), ["TIDEGATE_IMAGE_TAG", "TIDEGATE_NAME", "TIDEGATE_VERSION"]);
    for (typo, nearest) in [
        ("TIDEGATE_PORT", "TIDEGATE_LISTEN"),
        ("TIDEGATE_LISTEN_PORT", "TIDEGATE_LISTEN"),
        ("TIDEGATE_REDIS_PASSWORD", "TIDEGATE_REDIS_"),
        ("TIDEGATE_SHARD", "TIDEGATE_SHARDS"),
    ] {
        let problems = check(serving(&[(typo, "8080")])).unwrap_err();
        assert!(problems.contains(&format!("the nearest is {nearest}")) && !problems.contains("8080"), "{problems}");
    }
}

/// Editors and shells of Windows write them.
#[test]
fn byte_order_marks_are_no_part_of_a_file() {
    let write = |name: &str, bytes: &[u8]| {
        let file = TempFile::new(name, "");
        std::fs::write(&file.0, bytes).unwrap();
        file
    };
    let with_config = |file: &TempFile| check(Sources { file: Some(file.0.clone()), ..serving(&[]) });
    let utf16 = |text: &str| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    assert_eq!(with_config(&write("mark.toml", "\u{feff}shards = 3".as_bytes())).unwrap().shards, 3);
    let problems = with_config(&write("utf16.toml", &utf16("shards = 3"))).unwrap_err();
    assert!(problems.contains("it is in UTF-16"), "{problems}");

    let with_key = |algorithm: &str, key: &str, file: &TempFile| {
        let row = format!("[{{ algorithm = '{algorithm}', {key} = '{}' }}]", file.0.display());
        let mut sources = serving(&[]);
        sources.flags.push(set("auth.keys", &row));
        check(sources)
    };
    let pem = write("mark.pem", format!("\u{feff}{RSA_PUBLIC}").as_bytes());
    with_key("RS256", "public_key_file", &pem).unwrap();
    let problems = with_key("HS256", "secret_file", &write("utf16.key", &utf16(SECRET))).unwrap_err();
    assert!(problems.contains("it is in UTF-16") && !problems.contains(SECRET), "{problems}");
    with_key("HS256", "secret_file", &write("mark.key", format!("\u{feff}{SECRET}\r\n").as_bytes())).unwrap();
    with_key("HS256", "secret_file", &write("plain.key", format!("{SECRET}\r\n").as_bytes())).unwrap();
}

/// A folder with a configuration and its keys can be moved, and the gateway started from anywhere.
#[test]
fn the_files_that_a_file_names_are_beside_it() {
    let folder = std::env::temp_dir().join(format!("tidegate-config-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token.key"), SECRET).unwrap();
    let file = folder.join("gateway.toml");
    std::fs::write(&file, "[[auth.keys]]\nalgorithm = 'HS256'\nsecret_file = 'token.key'\n").unwrap();
    let redis = ("TIDEGATE_REDIS_URL", "redis://127.0.0.1");
    let config = check(Sources { file: Some(file), ..sources(&[redis]) });
    // A variable names no folder: its files are looked for where the gateway was started.
    let row = "[{ algorithm = 'HS256', secret_file = 'token.key' }]";
    let elsewhere = check(sources(&[redis, ("TIDEGATE_AUTH_KEYS", row)]));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(config.unwrap_or_else(|problems| panic!("{problems}")).auth.keys.len(), 1);
    let problems = elsewhere.unwrap_err();
    assert!(problems.contains("a file that can be read; \"token.key\""), "{problems}");
}

#[test]
fn variables_that_kubernetes_makes_of_a_service_are_passed_over() {
    let links = [
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "8080"),
        ("TIDEGATE_SERVICE_PORT_WS", "8080"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:8080"),
        ("TIDEGATE_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TIDEGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ];
    check(serving(&links)).unwrap();
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let mut variables: Vec<String> = KEYS.iter().map(|key| key.variable()).collect();
    variables.push("TIDEGATE_CONFIG".into());
    for variable in &variables {
        assert_eq!(variables.iter().filter(|other| *other == variable).count(), 1, "{variable}");
        assert_eq!(variable.replace("__", "_"), *variable, "a double underscore stands for a dot");
        // Were it taken for one of Kubernetes' variables, it would be passed over even when it is wrong.
        if variable != "TIDEGATE_CONFIG" {
            let key = KEYS.iter().find(|key| key.variable() == *variable).unwrap();
            assert!(check(serving(&[(variable, "\u{FFFD}")])).is_err(), "{} is not read from {variable}", key.name);
        }
    }
}

#[test]
fn every_key_changes_what_the_gateway_runs_by() {
    let pem = TempFile::new("rsa.pem", RSA_PUBLIC);
    let rsa = format!("[{{ algorithm = 'RS256', public_key_file = '{}' }}]", pem.0.display());
    let runs_by = |flags: &[(&str, &str)]| {
        let flags = flags.iter().map(|(key, text)| set(key, text)).collect();
        let config = check(Sources { flags, environment: vec![keys_variable()], ..sources(&[]) });
        format!("{:?}", config.unwrap_or_else(|problems| panic!("{problems}")))
    };
    let redis = ("redis.url", "redis://127.0.0.1:6379");
    // Those of TLS mean nothing one by one; `tls.rs` tests what is read of them.
    for key in KEYS.iter().filter(|key| !key.name.starts_with("tls.") && !key.name.ends_with("_file")) {
        let one_more = |default: &str| (default.parse::<i64>().expect("a number") + 1).to_string();
        let other = match (key.name, key.kind, key.default) {
            ("auth.keys", ..) => rsa.clone(),
            ("auth.default_subscribe" | "auth.default_publish", ..) => "collection:7".into(),
            ("admin.allowed_hosts", ..) => "gw.example.com".into(),
            ("http.allowed_origins", ..) => "https://b.example".into(),
            ("http.websocket_paths" | "http.event_stream_paths", ..) => "/another".into(),
            ("http.trusted_proxies", ..) => "10.0.0.7".into(),
            ("families", ..) => "[{ name = 'room' }]".into(),
            ("limits.message_bytes_max", ..) => "2048".into(),
            ("registry.heartbeat_interval_ms", ..) => "1900".into(),
            ("registry.lease_ms", ..) => "5900".into(),
            ("log.filter", ..) => "debug".into(),
            ("drain.kill_after_ms", ..) => "40000".into(),
            (_, ValueKind::Flag, _) => "true".into(),
            (_, ValueKind::Number { .. }, Fallback::Toml(default)) => one_more(default),
            (_, ValueKind::Choice(words), _) => words[1].into(),
            (name, ..) if name.ends_with("listen") => "127.0.0.1:1234".into(),
            _ => "another".into(),
        };
        let (before, after) = match key.name {
            "broker" => (runs_by(&[redis]), runs_by(&[("broker", "memory")])),
            "redis.url" => (runs_by(&[redis]), runs_by(&[(redis.0, "redis://127.0.0.1:6380")])),
            "dev_page" => {
                let dev = ("dev", "true");
                (runs_by(&[redis, dev, ("dev_page", "false")]), runs_by(&[redis, dev, ("dev_page", "true")]))
            }
            "http.proxy_protocol" => {
                let trusted = ("http.trusted_proxies", "10.0.0.7");
                (runs_by(&[redis, trusted]), runs_by(&[redis, trusted, ("http.proxy_protocol", "true")]))
            }
            // The default is as many as there are cores.
            "shards" => (runs_by(&[redis, ("shards", "1")]), runs_by(&[redis, ("shards", "2")])),
            name => (runs_by(&[redis]), runs_by(&[redis, (name, &other)])),
        };
        assert_ne!(before, after, "{} is a key that nothing reads", key.name);
    }
}
