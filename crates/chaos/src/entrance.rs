//! The entrance of clients and publishers: the address of each gateway, or HAProxy with the shipped file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use socket2::SockRef;
use test_support::Random;
use test_support::haproxy::server_cookie;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// HAProxy's own cookie, which names a gateway.
const SERVER_COOKIE: &str = "tidegate_server";

/// Receive buffer in the kernel of a client that reads slowly. The sender's buffer depends on the segment size.
const SLOW_WINDOW_BYTES: u32 = 2_048;
const SLOW_SEGMENT_BYTES: u32 = 536;
/// Read buffer in the library of a client that reads slowly.
const SLOW_BUFFER_BYTES: usize = 4 * 1024;

/// The path by which clients and publishers reach gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Via {
    /// Clients connect to the address of each gateway.
    Direct,
    /// All connections go through HAProxy with the shipped file.
    Haproxy,
}

/// The cookies that a connection sends. They have an effect only behind HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// HAProxy's own cookie for the wanted gateway.
    Wanted,
    /// The cookies from earlier connections, as a browser sends them.
    Kept,
    /// No cookies. HAProxy chooses the gateway.
    None,
}

/// The parameters of a connection attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approach<'a> {
    /// The token to send in the upgrade, if any.
    pub(crate) token: Option<&'a str>,
    pub(crate) wanted: usize,
    pub(crate) cookie: Cookie,
    /// The buffers between the gateway and this client are small.
    pub(crate) reads_slowly: bool,
}

/// The cookies that a client has received, by name.
pub(crate) type Jar = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    gateways: Vec<(String, SocketAddr)>,
    balancer: Option<SocketAddr>,
}

/// A WebSocket, and the first message if it was read to learn the instance.
#[derive(Debug)]
pub(crate) struct Socket {
    first: Option<Result<Message, Error>>,
    stream: WebSocketStream<TcpStream>,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
        })
    }
}

impl Entrance {
    /// An entrance through `balancer`, or directly if there is none.
    pub(crate) fn new(gateways: Vec<(String, SocketAddr)>, balancer: Option<SocketAddr>) -> Self {
        Self { gateways, balancer }
    }

    /// Number of gateways.
    pub(crate) fn len(&self) -> usize {
        self.gateways.len()
    }

    /// The id of gateway `index`.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.gateways[index].0
    }

    /// Behind HAProxy, half of these connections send no cookie, so that HAProxy chooses the gateway.
    pub(crate) fn any_cookie(&self, random: &mut Random) -> Cookie {
        if self.balancer.is_some() && random.one_in(2) { Cookie::None } else { Cookie::Wanted }
    }

    /// Connects to the wanted gateway, or through HAProxy. Returns the gateway that serves the connection.
    pub(crate) async fn connect(&self, approach: Approach<'_>, jar: &mut Jar) -> Option<(usize, Socket)> {
        let Approach { token, wanted, cookie, reads_slowly } = approach;
        let Some(balancer) = self.balancer else {
            let (stream, _) = dial_with(self.gateways[wanted].1, token, "", reads_slowly).await?;
            return Some((wanted, Socket { first: None, stream }));
        };
        let cookies = cookies(wanted, cookie, jar);
        let (mut stream, headers) = dial_with(balancer, token, &cookies, reads_slowly).await?;
        jar.extend(given(&headers));
        if token.is_none() {
            return Some((self.served_by(&cookies, &headers).unwrap_or(wanted), Socket { first: None, stream }));
        }
        // The token is in the upgrade, so `welcome` is the first message. It names the instance.
        let first = stream.next().await;
        let instance = first.as_ref().and_then(|message| instance(message.as_ref().ok()?));
        let index = instance.and_then(|instance| self.index(&instance));
        Some((index.unwrap_or(wanted), Socket { first, stream }))
    }

    /// The address of the wanted gateway or of HAProxy, and the cookies that a request to it sends.
    pub(crate) fn address(&self, wanted: usize, cookie: Cookie, jar: &Jar) -> (SocketAddr, String) {
        match self.balancer {
            None => (self.gateways[wanted].1, String::new()),
            Some(balancer) => (balancer, cookies(wanted, cookie, jar)),
        }
    }

    /// The index of the gateway with this id.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.gateways.iter().position(|(other, _)| other == name)
    }

    /// HAProxy sets its cookie if it chose another gateway than the cookie of the request names.
    fn served_by(&self, brought: &str, headers: &HeaderMap) -> Option<usize> {
        let brought = brought.split("; ").filter_map(|pair| pair.split_once('='));
        let brought = brought.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (_, value) = brought.chain(given(headers)).filter(|(name, _)| name == SERVER_COOKIE).last()?;
        (0..self.len()).find(|index| server_cookie(index + 1) == value)
    }
}

impl Socket {
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.stream.next().await,
        }
    }

    pub(crate) async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// Sends a close frame.
    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        self.stream.close(None).await
    }

    /// Makes the connection reset when it is dropped.
    pub(crate) fn set_reset(&self) -> std::io::Result<()> {
        self.stream.get_ref().set_zero_linger()
    }
}

/// Opens a WebSocket directly to this gateway.
pub(crate) async fn dial(gateway: SocketAddr, token: &str) -> Option<WebSocketStream<TcpStream>> {
    Some(dial_with(gateway, Some(token), "", false).await?.0)
}

/// Opens a WebSocket with these cookies. Returns also the headers of the response.
async fn dial_with(
    address: SocketAddr,
    token: Option<&str>,
    cookies: &str,
    reads_slowly: bool,
) -> Option<(WebSocketStream<TcpStream>, HeaderMap)> {
    let stream = connect(address, reads_slowly).await.ok()?;
    let mut request = format!("ws://{address}/ws").into_client_request().ok()?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().ok()?);
    }
    if !cookies.is_empty() {
        request.headers_mut().insert(COOKIE, cookies.parse().ok()?);
    }
    let mut config = WebSocketConfig::default();
    if reads_slowly {
        config = config.read_buffer_size(SLOW_BUFFER_BYTES);
    }
    let (socket, response) = client_async_with_config(request, stream, Some(config)).await.ok()?;
    Some((socket, response.headers().clone()))
}

/// Opens a socket to this address. A client that reads slowly gets small kernel buffers.
pub(crate) async fn connect(address: SocketAddr, reads_slowly: bool) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if reads_slowly {
        socket.set_recv_buffer_size(SLOW_WINDOW_BYTES)?;
        SockRef::from(&socket).set_tcp_mss(SLOW_SEGMENT_BYTES)?;
    }
    socket.connect(address).await
}

fn cookies(wanted: usize, cookie: Cookie, jar: &Jar) -> String {
    match cookie {
        Cookie::Wanted => format!("{SERVER_COOKIE}={}", server_cookie(wanted + 1)),
        Cookie::Kept => jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; "),
        Cookie::None => String::new(),
    }
}

/// The names and values of the cookies that these headers set.
fn given(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers.get_all(SET_COOKIE).iter().map(HeaderValue::to_str).filter_map(Result::ok).filter_map(cookie)
}

/// The name and the value of the cookie that this `Set-Cookie` sets.
pub(crate) fn cookie(set_cookie: &str) -> Option<(String, String)> {
    let (name, value) = set_cookie.split(';').next()?.split_once('=')?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// The instance that a `welcome` names.
fn instance(message: &Message) -> Option<String> {
    let frame: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
    let is_welcome = frame["type"] == "welcome";
    frame["payload"]["instance"].as_str().filter(|_| is_welcome).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_by_name_without_their_attributes() {
        let mut headers = HeaderMap::new();
        for text in ["tidegate_server=g2; path=/; HttpOnly", "tidegate_session=ab; SameSite=Lax", "nonsense"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(text));
        }
        let jar: Jar = given(&headers).collect();
        assert_eq!(
            jar,
            [("tidegate_server", "g2"), ("tidegate_session", "ab")].map(|(a, b)| (a.into(), b.into())).into()
        );
    }

    #[test]
    fn without_a_welcome_the_cookies_tell_the_instance() {
        let gateways = (1..=3).map(|n| (format!("gw-{n}"), SocketAddr::from(([127, 0, 0, 1], n)))).collect();
        let entrance = Entrance::new(gateways, None);
        let mut headers = HeaderMap::new();
        let brought = format!("tidegate_session=ab; {SERVER_COOKIE}={}", server_cookie(2));
        assert_eq!((entrance.served_by("", &headers), entrance.served_by(&brought, &headers)), (None, Some(1)));
        let given = format!("{SERVER_COOKIE}={}; path=/", server_cookie(3));
        headers.append(SET_COOKIE, given.parse().unwrap());
        assert_eq!(entrance.served_by(&brought, &headers), Some(2), "it was led elsewhere");
    }

    #[test]
    fn a_welcome_tells_the_instance_and_no_other_frame_does() {
        let frame = |kind: &str| Message::text(format!(r#"{{"type":"{kind}","payload":{{"instance":"gw-2"}}}}"#));
        assert_eq!(instance(&frame("welcome")).as_deref(), Some("gw-2"));
        assert_eq!(instance(&frame("notice")), None);
        assert_eq!(instance(&Message::Close(None)), None);
    }
}
