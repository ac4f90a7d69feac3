//! `[tls]`: two files that fit each other, or none; and nothing of it in a gateway that cannot speak TLS.

use crate::given::{check, serving};

#[cfg(not(feature = "tls"))]
#[test]
fn a_gateway_that_cannot_speak_tls_refuses_it_and_says_how_to_build_one_that_can() {
    let problems = check(serving(&[("TIDEGATE_TLS_CERT_FILE", "a.pem"), ("TIDEGATE_TLS_KEY_FILE", "b.pem")]));
    let problems = problems.unwrap_err();
    assert!(problems.starts_with("2 problems "), "{problems}");
    assert_eq!(problems.matches("cargo build --release --features tls").count(), 2, "{problems}");
    assert!(check(serving(&[])).unwrap().tls.is_none());
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_gateway_that_cannot_speak_tls_does_not_reach_redis_without_it() {
    for url in ["rediss://h", "valkeys://h", "rediss+sentinel://h/main", "rediss+cluster://h"] {
        let problems = check(serving(&[("TIDEGATE_REDIS_URL", url)])).unwrap_err();
        assert!(problems.contains("TLS to Redis needs a gateway with the feature tls"), "{problems}");
        assert!(problems.contains("cargo build --release --features tls"), "{problems}");
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use std::path::Path;

    use super::*;
    use crate::temp_file::TempFile;

    fn key_file(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
        path.to_str().expect("the repository lies at a path in UTF-8").to_owned()
    }

    fn problems(files: &[(&str, &str)]) -> String {
        let problems = check(serving(files)).unwrap_err();
        assert_eq!(problems.matches("\n    expected ").count(), files.len().max(1), "{problems}");
        problems
    }

    const CERTIFICATE: &str = "TIDEGATE_TLS_CERT_FILE";
    const KEY: &str = "TIDEGATE_TLS_KEY_FILE";

    #[test]
    fn a_certificate_and_its_key_are_taken_together_or_not_at_all() {
        let (certificate, key) = (key_file("test_only_tls_certificate.pem"), key_file("test_only_tls_key.pem"));
        assert!(check(serving(&[(CERTIFICATE, &certificate), (KEY, &key)])).unwrap().tls.is_some());
        assert!(check(serving(&[])).unwrap().tls.is_none());
        let problems_found = problems(&[(CERTIFICATE, &certificate)]);
        assert!(
            problems_found.contains("tls.key_file is not set")
                && problems_found.contains("because tls.cert_file is set"),
            "{problems_found}"
        );
        let problems_found = problems(&[(KEY, &key)]);
        assert!(
            problems_found.contains("tls.cert_file is not set")
                && problems_found.contains("because tls.key_file is set"),
            "{problems_found}"
        );
    }

    const REDIS: (&str, &str) = ("TIDEGATE_REDIS_URL", "rediss://127.0.0.1");

    /// The files of `[redis]` are read with a URL that asks for TLS, and each is named when it is wrong.
    #[test]
    fn the_files_for_redis_are_checked_too() {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-support/keys");
        let file = |name: &str| keys.join(name).to_str().unwrap().to_owned();
        let [ca, certificate, key] =
            ["test_only_redis_ca.pem", "test_only_redis_client.pem", "test_only_redis_client_key.pem"].map(file);
        let names = ["TIDEGATE_REDIS_CA_FILE", "TIDEGATE_REDIS_CERT_FILE", "TIDEGATE_REDIS_KEY_FILE"];
        check(serving(&[REDIS, (names[0], &ca), (names[1], &certificate), (names[2], &key)])).unwrap();
        check(serving(&[("TIDEGATE_REDIS_URL", "valkeys+cluster://127.0.0.1"), (names[0], &ca)])).unwrap();
        for (files, says) in [
            (vec![(0, "no-such.pem")], "redis.ca_file = \"no-such.pem\""),
            (vec![(0, &*key)], "there is no certificate in it"),
            (vec![(0, &*ca), (1, &*certificate)], "redis.key_file is not set"),
            (vec![(0, &*ca), (2, &*key)], "redis.cert_file is not set"),
            (vec![(0, &*ca), (1, &*key), (2, &*key)], "redis.cert_file = "),
            (vec![(0, &*ca), (1, &*certificate), (2, &*certificate)], "redis.key_file = "),
            (vec![(0, &*ca), (1, &*ca), (2, &*key)], "redis.key_file = "),
        ] {
            let set: Vec<_> = files.iter().map(|(index, file)| (names[*index], *file)).chain([REDIS]).collect();
            let problems = check(serving(&set)).unwrap_err();
            assert!(problems.starts_with("1 problem ") && problems.contains(says), "{says}: {problems}");
        }
    }

    #[test]
    fn what_is_wrong_with_either_file_is_told_at_once() {
        let problems_found = problems(&[(CERTIFICATE, "no-such.pem"), (KEY, "no-such.key")]);
        assert_eq!(problems_found.matches("a file that can be read: No such file").count(), 2, "{problems_found}");
        // Each given in the other's place.
        let (certificate, key) = (key_file("test_only_tls_certificate.pem"), key_file("test_only_tls_key.pem"));
        let problems_found = problems(&[(CERTIFICATE, &key), (KEY, &certificate)]);
        assert_eq!(problems_found.matches("there is none in it").count(), 2, "{problems_found}");
        let line = |name: &str, body: &str| format!("-----BEGIN {name}-----\n{body}\n-----END {name}-----\n");
        let broken = TempFile::new("tls-broken.pem", &line("CERTIFICATE", "AAAA"));
        let hidden = TempFile::new("tls-hidden.pem", &line("PRIVATE KEY", "hidden! hidden!"));
        let problems_found = problems(&[(CERTIFICATE, broken.0.to_str().unwrap()), (KEY, hidden.0.to_str().unwrap())]);
        assert!(
            problems_found.contains("chain behind it; number 1 in it: ") && problems_found.contains("it is not base64"),
            "{problems_found}"
        );
        assert!(!problems_found.contains("hidden!"), "{problems_found}");
    }

    #[test]
    fn a_key_of_another_certificate_is_found_at_start() {
        let (certificate, other) = (key_file("test_only_tls_certificate.pem"), key_file("test_only_tls_other_key.pem"));
        let problems_found = check(serving(&[(CERTIFICATE, &certificate), (KEY, &other)])).unwrap_err();
        assert!(
            problems_found.starts_with("1 problem ") && problems_found.contains("tls.key_file = "),
            "{problems_found}"
        );
        assert!(problems_found.contains("the private key of the certificate"), "{problems_found}");
    }
}
