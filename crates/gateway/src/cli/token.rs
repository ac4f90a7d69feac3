//! `tidegate token`: signs a token for tests. `tidegate token check`: reads a token as a gateway does.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use tidegate_gateway::config::{RawConfig, SignConfig};
use tidegate_gateway::{IssueError, TokenRequest};

use super::{Exit, TokenArgs, TokenCheckArgs, TokenCommand};

pub(crate) fn token(args: TokenArgs) -> Exit {
    match args.command {
        Some(TokenCommand::Check(args)) => check(args),
        None => sign(args),
    }
}

fn sign(args: TokenArgs) -> Exit {
    let mut raw = RawConfig::gather(args.config.sources([]));
    let config = match SignConfig::check(&mut raw) {
        Ok(checked) => checked,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let issuer = match config.auth.issuer(config.families, args.kid.as_deref()) {
        Ok(issuer) => issuer,
        Err(error) => return Exit::Usage.because(error),
    };
    let request = TokenRequest {
        user: args.user.expect("required by the parser"),
        tenant: args.tenant,
        subscribe: args.subscribe,
        publish: args.publish,
        scopes: args.scope,
        info: args.info.map(|Info(info)| info),
        expires_in_s: args.expires_in,
    };
    match issuer.issue(&request, now().as_secs()) {
        Ok(token) => Exit::Ok.telling(format_args!("{token}\n")),
        Err(error @ IssueError::Refused(_)) => Exit::Data.because(error),
        Err(error @ IssueError::NoSecret(_)) => Exit::Usage.because(error),
    }
}

fn check(args: TokenCheckArgs) -> Exit {
    let mut raw = RawConfig::gather(args.config.sources([]));
    let config = match SignConfig::check(&mut raw) {
        Ok(checked) => checked,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let mut token = args.token;
    if token == "-" {
        token.clear();
        if let Err(error) = std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut token) {
            return Exit::Data.because(format_args!("standard input: {error}"));
        }
    }
    let now_unix_ms = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    let report = match runtime.block_on(config.auth.read_token(config.families, token.trim(), now_unix_ms)) {
        Ok(report) => report,
        Err(reason) => return Exit::Data.because(reason),
    };
    for grant in report.unknown_grants() {
        eprintln!("tidegate: warning: the grant {grant:?} is of a family that this configuration does not know");
    }
    let mut lines = report.lines();
    let asked = args.subscribe.iter().map(|channel| ("subscribe", channel, report.check_subscribe(channel)));
    let asked = asked.chain(args.publish.iter().map(|channel| ("publish", channel, report.check_publish(channel))));
    let mut exit = Exit::Ok;
    for (act, channel, granted) in asked {
        let answer = match granted {
            Ok(()) => "yes".into(),
            Err(reason) => {
                exit = Exit::Failure;
                format!("no: {reason}")
            }
        };
        lines.push(format!("may {act} {channel}: {answer}"));
    }
    exit.telling(format_args!("{}\n", lines.join("\n")))
}

/// The longest input that can be a token with a line end.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The presence info of a token.
#[derive(Debug, Clone)]
pub(super) struct Info(serde_json::Map<String, serde_json::Value>);

/// Parses a JSON object.
pub(super) fn parse_info(text: &str) -> Result<Info, String> {
    serde_json::from_str(text).map(Info).map_err(|error| format!("expected a JSON object: {error}"))
}

/// Parses `90s`, `15m`, `1h` or `7d` to seconds.
pub(super) fn parse_seconds(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a number and s, m, h or d, such as 90s or 1h";
    let unit = text.chars().next_back().ok_or(EXPECTED)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(EXPECTED),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| EXPECTED)?;
    number.checked_mul(unit_s).filter(|seconds| *seconds > 0).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        assert_eq!([parse_seconds("90s"), parse_seconds("1h"), parse_seconds("7d")], [Ok(90), Ok(3_600), Ok(604_800)]);
        for wrong in ["", "h", "1", "0s", "1w", "-1h", "1.5h", "99999999999999999999d", "1ü"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
