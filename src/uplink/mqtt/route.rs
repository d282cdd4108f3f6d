//! The way to a broker: TCP, through a proxy where there is one, with TLS and a websocket where they are wanted.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::{self, Authority, HEAD_SIZE_MAX, Head};
use super::websocket::Incoming;
use crate::config::site::{Broker, Proxy, Uplink};
use crate::tls::{FarEnd, Tls, Wanted};

/// How long it may take until MQTT can be spoken. Less than what MQTT waits for, so that what is wrong on the way is said.
const PATIENCE: Duration = Duration::from_secs(12);
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
            let head = ask(&mut stream, &http::tunnel_request(&self.authority())).await?;
            head.check_tunnel(&self.authority()).map_err(io::Error::other)?;
        }
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.connect(stream).await?),
            None => Box::new(stream),
        };
        let websocket = match &self.broker.carrier.websocket {
            Some(path) => {
                let key = fastrand::u128(..).to_be_bytes();
                let request = http::upgrade_request(&self.authority(), path, key);
                ask(&mut stream, &request).await?.check_upgrade(path, key).map_err(io::Error::other)?;
                Some(Incoming::default())
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
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{whose}{}: {error}", Authority { host, port }))
        })?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The answer to a request. Nobody speaks after it before we do, so that more than the head is a fault.
async fn ask(stream: &mut (impl Stream + ?Sized), request: &str) -> io::Result<Head> {
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
            Some((head, size)) if size == answer.len() || !head.is_granted() => return Ok(head),
            Some(_) => return Err(io::Error::other("the far end speaks before it is asked")),
            None if answer.len() >= HEAD_SIZE_MAX => {
                return Err(io::Error::other("the far end's answer has no end"));
            }
            None => {}
        }
    }
}
