//! PURE. A Redis URL, read by this crate alone: nothing in it is passed over, and no message about it repeats a part
//! of it that may belong to a password.

use redis::RedisConnectionInfo;

use crate::node::Node;

/// A URL that several programs write in several ways, taken apart and decoded.
pub(crate) struct RedisUrl {
    /// User and password. No database.
    pub(crate) settings: RedisConnectionInfo,
    /// At least one.
    pub(crate) nodes: Vec<Node>,
    /// What follows the first `/` behind the hosts. Not decoded.
    pub(crate) path: String,
    /// What follows the `?`, as pairs of a name and a decoded value.
    pub(crate) query: Vec<(String, String)>,
}

/// How reserved characters are written.
const ENCODED: &str = "in a user or password % is written %25, # is %23, / is %2F, ? is %3F and @ is %40";

impl RedisUrl {
    /// Parses what follows `://`. A host without a port has `port`.
    pub(crate) fn parse(rest: &str, port: u16) -> Result<Self, String> {
        // A "#" begins a fragment, which no server ever sees: most likely it belongs to a password.
        if rest.contains('#') {
            return Err(format!("it has a #; {ENCODED}"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || query.is_some_and(|query| query.contains('@')) {
            return Err(format!("it has an @ behind a / or a ?; {ENCODED}"));
        }
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let nodes = hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<_, _>>()?;
        let query = query.map(parse_query).transpose()?.unwrap_or_default();
        Ok(Self { settings: parse_user(user)?, nodes, path: path.to_owned(), query })
    }

    /// The number of a database: digits alone.
    pub(crate) fn parse_database(text: &str) -> Result<i64, String> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i32>().ok().filter(|_| is_number);
        number.map(i64::from).ok_or_else(|| "the database behind the / is a number, such as /3".to_owned())
    }

    /// The sentence about a parameter that this kind of URL does not have.
    pub(crate) fn refuse_parameter(name: &str, others: &str) -> String {
        // A name that is not listed may be a part of a password, and is not repeated.
        match name {
            "db" | "database" => "the database is written /3 behind the host, not as a parameter".to_owned(),
            "username" | "user" | "password" | "pass" | "pwd" | "auth" => {
                "user and password are written USER:PASSWORD@ before the host, not as parameters".to_owned()
            }
            "ssl" | "tls" | "ssl_cert_reqs" | "ssl_ca_certs" | "ssl_certfile" | "ssl_keyfile" => {
                "TLS is written rediss:// with the keys redis.ca_file, redis.cert_file and redis.key_file, not as a parameter".to_owned()
            }
            _ => format!("{others} is expected behind ?"),
        }
    }
}

/// Whether the text has characters that no part of a URL has.
pub(crate) fn has_stray_characters(text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\u{FEFF}' || c == char::REPLACEMENT_CHARACTER)
}

fn parse_user(user: Option<&str>) -> Result<RedisConnectionInfo, String> {
    // Each user of a connection names it. The client's own name would need one more permission.
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let Some(user) = user else { return Ok(settings) };
    if user.contains('@') {
        return Err(format!("it has two @; {ENCODED}"));
    }
    // A colon within a password is unambiguous: a user has none.
    let (user, password) = user
        .split_once(':')
        .ok_or("before the @ there is USER:PASSWORD, or :PASSWORD alone; a user has no meaning without a password")?;
    let (user, password) = (decode(user)?, decode(password)?);
    if password.is_empty() {
        return Err("the password before the @ is empty".to_owned());
    }
    let settings = settings.set_password(password);
    Ok(if user.is_empty() { settings } else { settings.set_username(user) })
}

/// Parses `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
fn parse_host(text: &str, port: u16) -> Result<Node, String> {
    let (host, port_text) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("an IPv6 address is written [ADDRESS]")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("between [ and ] there is an IPv6 address".to_owned());
            }
            let port = match rest.strip_prefix(':') {
                None if !rest.is_empty() => return Err("behind ] there is a port, such as :6379".to_owned()),
                port => port,
            };
            (host, port)
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() {
                return Err("it names no host, or has a comma too many".to_owned());
            }
            if !host.bytes().all(is_name) {
                return Err("a host is a name of letters, digits, - and ., or an address".to_owned());
            }
            (host, port)
        }
    };
    let port = match port_text {
        None => port,
        Some(text) => {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|number| is_number && *number != 0);
            number.ok_or("a port is a number from 1 to 65535; an IPv6 address is written [ADDRESS]")?
        }
    };
    Ok(Node { host: host.to_owned(), port })
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name.to_owned(), decode(value)?))
    };
    let pairs: Vec<_> = query.split('&').map(pair).collect::<Result<_, String>>()?;
    let is_twice =
        |(index, (name, _)): (usize, &(String, String))| pairs[..index].iter().any(|(other, _)| other == name);
    if pairs.iter().enumerate().any(is_twice) {
        return Err("a parameter behind ? is written twice".to_owned());
    }
    Ok(pairs)
}

/// Replaces `%40` by the byte that it stands for.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (Some(high), Some(low)) = (rest.first().and_then(digit), rest.get(1).and_then(digit)) else {
            return Err(format!("a % without two hexadecimal digits behind it; {ENCODED}"));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the bytes written with % are not UTF-8".to_owned())
}
