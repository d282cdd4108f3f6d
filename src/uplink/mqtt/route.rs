//! The way to a broker: TCP, through a proxy where there is one, with TLS and a websocket where they are wanted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::http::{self, Authority, HEAD_SIZE_MAX, Head};
use super::websocket::Incoming;
use crate::config::site::{Broker, Proxy, Uplink};
use crate::tls::{FarEnd, Tls, Wanted};

/// How long it may take until MQTT can be spoken. Less than what MQTT waits for, so that what is wrong on the way is said.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long an address may take that is not the last of its host.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(3);
/// The port that is shared with HTTP: there the protocol must be said (ALPN). Elsewhere nobody asks, and a server that
/// knows other names only would refuse.
const SHARED_PORT: u16 = 443;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A way, not yet gone.
pub(super) struct Route {
    broker: Broker,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
}

/// A way that stands.
pub(super) struct Open {
    pub(super) stream: Box<dyn Stream>,
    /// Takes apart what comes in, where it is a websocket.
    pub(super) websocket: Option<Incoming>,
}

impl Route {
    /// The way to `broker`; its files are read.
    ///
    /// # Errors
    /// Where there can be no TLS as it is configured.
    pub(super) fn new(uplink: &Uplink, broker: &Broker) -> io::Result<Route> {
        let own = uplink.tls.own.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let name = if broker.carrier.websocket.is_some() { "http/1.1" } else { "mqtt" };
        let wanted = Wanted {
            ca_file: uplink.tls.ca_file.as_deref(),
            identity: own,
            server_name: &broker.host,
            protocol: (broker.port == SHARED_PORT).then_some(name),
            far_end: FarEnd::Broker,
        };
        let tls =
            if broker.carrier.is_tls { Some(Tls::new(&wanted).map_err(io::Error::other)?) } else { None };
        Ok(Route { broker: broker.clone(), proxy: uplink.proxy.clone(), tls })
    }

    /// Whether it is more than TCP.
    pub(super) fn is_more_than_tcp(uplink: &Uplink, broker: &Broker) -> bool {
        broker.carrier.is_tls || broker.carrier.websocket.is_some() || uplink.proxy.is_some()
    }

    /// Goes it.
    ///
    /// # Errors
    /// Where it ends on the way: where, and why.
    pub(super) async fn open(&self) -> io::Result<Open> {
        let open = timeout(PATIENCE, self.go()).await;
        open.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            let message = format!("no way to {} within {seconds} s", self.authority());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }

    fn authority(&self) -> Authority<'_> {
        Authority { host: &self.broker.host, port: self.broker.port }
    }

    async fn go(&self) -> io::Result<Open> {
        let mut stream = self.tcp().await?;
        if self.proxy.is_some() {
            let (head, rest) = ask(&mut stream, &http::tunnel_request(&self.authority())).await?;
            head.check_tunnel(&self.authority()).map_err(io::Error::other)?;
            if !rest.is_empty() {
                // neither MQTT nor TLS begins at the broker
                return Err(io::Error::other("the far end speaks before it is asked"));
            }
        }
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.connect(stream).await?),
            None => Box::new(stream),
        };
        let websocket = match &self.broker.carrier.websocket {
            Some(path) => {
                let key = fastrand::u128(..).to_be_bytes();
                let request = http::upgrade_request(&self.authority(), path, key);
                let (head, rest) = ask(&mut stream, &request).await?;
                head.check_upgrade(path, key).map_err(io::Error::other)?;
                let mut incoming = Incoming::default();
                incoming.handle_bytes(&rest);
                Some(incoming)
            }
            None => None,
        };
        Ok(Open { stream, websocket })
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let (whose, host, port) = match &self.proxy {
            Some(Proxy { host, port }) => ("the proxy ", host, *port),
            None => ("", &self.broker.host, self.broker.port),
        };
        let stream = connect(host, port).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{whose}{}: {error}", Authority { host, port }))
        })?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The first of a host's addresses that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    first_of(&addresses).await
}

/// The last address has all the time that is left; each before it little, for the way to it may swallow everything.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    };
    for address in others {
        if let Ok(Ok(stream)) = timeout(ADDRESS_PATIENCE, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
}

/// The answer to a request, and what came behind it.
async fn ask(stream: &mut (impl Stream + ?Sized), request: &str) -> io::Result<(Head, BytesMut)> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = BytesMut::with_capacity(1 << 10);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the far end hung up: does it speak HTTP?",
            ));
        }
        match Head::read(&answer).map_err(io::Error::other)? {
            Some((head, size)) => return Ok((head, answer.split_off(size))),
            None if answer.len() >= HEAD_SIZE_MAX => {
                return Err(io::Error::other("the far end's answer has no end"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    /// What is made of an answer: the words of the check of an upgrade, and what came behind it.
    async fn answered(answer: &[u8]) -> (String, BytesMut) {
        let (mut near, mut far) = tokio::io::duplex(1 << 10);
        far.write_all(answer).await.unwrap();
        let (head, rest) = ask(&mut near, "x").await.unwrap();
        (head.check_upgrade("/m", [0; 16]).err().unwrap_or_default(), rest)
    }

    #[tokio::test]
    async fn the_status_is_judged_before_what_comes_behind_it() {
        let (said, _) = answered(b"HTTP/1.1 200 OK\r\n\r\n<html>").await;
        assert_eq!(said, "the broker answers 200 OK to a websocket at /m: is the path right?");
        let (_, rest) = answered(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x00").await;
        assert_eq!(rest, b"\x82\x00"[..]);
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_does_not_hide_the_next() {
        let swallowing = TcpSocket::new_v4().unwrap();
        swallowing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let swallowing = swallowing.listen(1).unwrap();
        let full = swallowing.local_addr().unwrap();
        let mut callers = Vec::new();
        while let Ok(caller) = timeout(Duration::from_millis(200), TcpStream::connect(full)).await {
            callers.push(caller.unwrap()); // until nobody more is answered
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let found = timeout(2 * ADDRESS_PATIENCE, first_of(&[full, there])).await.unwrap().unwrap();
        assert_eq!(found.peer_addr().unwrap(), there);
    }
}
