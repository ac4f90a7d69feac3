//! The header with which a proxy begins a connection: PROXY protocol, versions 1 and 2.

use std::io;
use std::net::SocketAddr;

use ppp::v2::Command;
use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header of version 1, with its line end.
const V1_BYTES_MAX: usize = 107;
/// Longest part behind the length in a header of version 2. Certificates and names that proxies add have less.
const V2_BYTES_MAX: usize = 4096;
const SIGNATURE_BYTES: usize = v2::PROTOCOL_PREFIX.len();

/// Reads the header and nothing behind it. Returns the address of the client; `None` if the proxy connects for itself
/// (a health check) or does not know.
///
/// # Errors
/// If the connection does not begin with a header.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // Both versions are longer than the signature of version 2.
    let mut header = vec![0; SIGNATURE_BYTES];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(SIGNATURE_BYTES + 4, 0);
        stream.read_exact(&mut header[SIGNATURE_BYTES..]).await?;
        let length = usize::from(u16::from_be_bytes([header[SIGNATURE_BYTES + 2], header[SIGNATURE_BYTES + 3]]));
        if length > V2_BYTES_MAX {
            return Err(invalid());
        }
        header.resize(SIGNATURE_BYTES + 4 + length, 0);
        stream.read_exact(&mut header[SIGNATURE_BYTES + 4..]).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(b"\n") {
            if header.len() == V1_BYTES_MAX {
                return Err(invalid());
            }
            // One byte at a time: what follows belongs to TLS or HTTP.
            header.push(stream.read_u8().await?);
        }
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(addresses) => Some((addresses.source_address, addresses.source_port).into()),
            v1::Addresses::Tcp6(addresses) => Some((addresses.source_address, addresses.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(addresses) => Some((addresses.source_address, addresses.source_port).into()),
            v2::Addresses::IPv6(addresses) => Some((addresses.source_address, addresses.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    async fn read(bytes: &[u8]) -> (io::Result<Option<String>>, Vec<u8>) {
        let mut stream = bytes;
        let read = read_header(&mut stream).await.map(|address| address.map(|address| address.to_string()));
        (read, stream.to_vec())
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_rest() {
        let of_four = [V2, b"\x21\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\x12\x34\0\x50"].concat();
        let of_six = [V2, b"\x21\x21\0\x24", &[0x20, 1, 0xd, 0xb8], &[0; 12], &[0; 16], b"\x12\x34\0\x50"].concat();
        let with_more = [V2, b"\x21\x11\0\x10\x01\x02\x03\x04\x7f\0\0\x01\x12\x34\0\x50", b"\x04\0\x01x"].concat();
        let local = [V2, b"\x20\0\0\0"].concat();
        for (header, expected) in [
            (&b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[..], Some("1.2.3.4:1")),
            (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some("[2001:db8::1]:1")),
            (b"PROXY UNKNOWN\r\n", None),
            (&of_four, Some("1.2.3.4:4660")),
            (&of_six, Some("[2001:db8::]:4660")),
            (&with_more, Some("1.2.3.4:4660")),
            (&local, None),
        ] {
            let (read, rest) = read(&[header, b"GET /ws"].concat()).await;
            assert_eq!(read.unwrap().as_deref(), expected, "{}", header.escape_ascii());
            assert_eq!(rest, b"GET /ws", "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let too_long = [V2, b"\x21\x11\xff\xff", &[0; 65_535]].concat();
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        for bytes in [&b"GET /ws HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 1.2.3.4\r\n", &too_long, &endless, b"PROXY", V2] {
            assert!(read(bytes).await.0.is_err(), "{}", bytes[..bytes.len().min(40)].escape_ascii());
        }
    }
}
