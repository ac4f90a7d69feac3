//! One request over loopback, to query the state of a server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server on this machine that does not answer within this time has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The reply of a server: status, headers and body.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Gets `path` from `address`. The connection closes after the reply.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<HttpResponse> {
    request("GET", address, path)
}

/// Posts nothing to `path` at `address`.
pub(crate) fn post(address: SocketAddr, path: &str) -> io::Result<HttpResponse> {
    request("POST", address, path)
}

fn request(method: &str, address: SocketAddr, path: &str) -> io::Result<HttpResponse> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0");
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) =
        text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("an answer without an end of headers"))?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(HttpResponse { status: status(head)?, body: if is_chunked { join_chunks(body) } else { body.to_owned() } })
}

/// The status code in `HTTP/1.1 200 OK`.
pub(crate) fn status(head: &str) -> io::Result<u16> {
    let word = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    word.ok_or_else(|| io::Error::other(format!("not an HTTP status line: {:?}", head.lines().next())))
}

/// The values of all headers with this name.
pub(crate) fn headers<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn join_chunks(mut body: &str) -> String {
    let mut joined = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(bytes) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = rest.get(..bytes).filter(|chunk| !chunk.is_empty()) else { break };
        joined += chunk;
        body = rest[bytes..].trim_start_matches("\r\n");
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nset-cookie: a=1\r\nSet-Cookie: b=2; HttpOnly";
        assert_eq!(status(head).unwrap(), 101);
        assert_eq!(headers(head, "set-cookie").collect::<Vec<_>>(), ["a=1", "b=2; HttpOnly"]);
        assert!(status("SSH-2.0").is_err());
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(join_chunks("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"), "hello, world");
    }
}
