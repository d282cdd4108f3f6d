//! Carries the bytes of one connection between the MQTT client and the way to its broker.
//!
//! The client library makes plain connections only, unless it is built with crates that are no longer maintained. So it
//! connects to a socket of this process (unix(7), abstract: there is no file), and all that lies below MQTT is done here.
//! Any program on this machine could connect to such a socket: only this process is let in, for the way may be one that
//! has proven with our certificate who we are.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::LAST_WORDS;
use super::route::{Open, Route, Stream};
use super::websocket::{self, Incoming, Piece};
use crate::tls::{FarEnd, in_words};

/// What is read at once.
const CHUNK_SIZE: usize = 16 << 10;
/// Pings of a websocket that wait for their answer; more are not answered.
const PINGS_MAX: usize = 4;

/// The near end, before the client has connected to it.
pub(super) struct Carriage {
    listener: UnixListener,
    route: Route,
}

impl Carriage {
    /// A socket for the client, and its name.
    ///
    /// # Errors
    /// Where the system gives none.
    pub(super) fn new(route: Route) -> io::Result<(Carriage, String)> {
        let name = format!("tidegate-{}-{:032x}", std::process::id(), fastrand::u128(..));
        let address = SocketAddr::from_abstract_name(&name)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok((Carriage { listener: UnixListener::from_std(listener)?, route }, format!("\0{name}")))
    }

    /// Carries until the client has closed its end and all that it said is on its way.
    ///
    /// # Errors
    /// Where the way to the broker is not to be had, or ends.
    pub(super) async fn run(self) -> io::Result<()> {
        let near = self.client().await?;
        drop(self.listener);
        let Open { stream, websocket } = self.route.open().await?;
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = tokio::io::split(stream);
        let is_websocket = websocket.is_some();
        let (pings_out, pings) = mpsc::channel(PINGS_MAX);
        let down = down(far_in, near_out, websocket, pings_out);
        tokio::pin!(down);
        // what is dropped with the other half is of a connection that has ended
        let ended = tokio::select! {
            ended = up(near_in, far_out, is_websocket, pings) => match ended {
                Ok(()) => Ok(()),
                // it takes no more, but may have said why
                Err(error) => timeout(LAST_WORDS, &mut down).await.unwrap_or(Err(error)),
            },
            ended = &mut down => ended,
        };
        ended.map_err(|error| {
            // a far end that ends TLS without a word has hung up as any other
            let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
            if is_end { hung_up() } else { in_words(error, FarEnd::Broker) }
        })
    }

    async fn client(&self) -> io::Result<UnixStream> {
        let own = i32::try_from(std::process::id()).ok();
        loop {
            let (stream, _) = self.listener.accept().await?;
            if stream.peer_cred()?.pid() == own {
                return Ok(stream);
            }
        }
    }
}

fn hung_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the broker has hung up")
}

fn mask() -> [u8; 4] {
    fastrand::u32(..).to_be_bytes()
}

/// From the client to the broker.
async fn up(
    mut near: OwnedReadHalf,
    mut far: WriteHalf<Box<dyn Stream>>,
    is_websocket: bool,
    mut pings: mpsc::Receiver<bytes::Bytes>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        // both may be dropped at any time
        let size = tokio::select! {
            size = near.read(&mut chunk) => size?,
            Some(ping) = pings.recv() => {
                far.write_all(&websocket::pong(&ping, mask())).await?;
                far.flush().await?;
                continue;
            }
        };
        let data = chunk.get(..size).unwrap_or_default();
        match (data, is_websocket) {
            ([], false) => return far.shutdown().await,
            ([], true) => {
                far.write_all(&websocket::close(mask())).await?;
                return far.shutdown().await;
            }
            (data, false) => far.write_all(data).await?,
            (data, true) => far.write_all(&websocket::binary(data, mask())).await?,
        }
        far.flush().await?; // TLS keeps bytes back otherwise
    }
}

/// From the broker to the client. It ends by failing.
async fn down(
    mut far: ReadHalf<Box<dyn Stream>>,
    mut near: OwnedWriteHalf,
    mut websocket: Option<Incoming>,
    pings: mpsc::Sender<bytes::Bytes>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        // some may have come with the answer to the upgrade
        while let Some(piece) = poll_piece(&mut websocket)? {
            match piece {
                Piece::Data(data) => near.write_all(&data).await?,
                Piece::Ping(data) => drop(pings.try_send(data)), // full: a far end that asks faster than it listens
                Piece::Close(code) => {
                    let code = code.map(|code| format!(", code {code}")).unwrap_or_default();
                    return Err(io::Error::other(format!("the broker has closed the websocket{code}")));
                }
            }
        }
        let size = far.read(&mut chunk).await?;
        let data = chunk.get(..size).unwrap_or_default();
        if data.is_empty() {
            return Err(hung_up());
        }
        match &mut websocket {
            Some(websocket) => websocket.handle_bytes(data),
            None => near.write_all(data).await?,
        }
    }
}

fn poll_piece(websocket: &mut Option<Incoming>) -> io::Result<Option<Piece>> {
    match websocket {
        Some(websocket) => websocket.poll_piece().map_err(io::Error::other),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_with_the_answer_to_the_upgrade_is_carried() {
        let (far, _broker) = tokio::io::duplex(100);
        let (far, _) = tokio::io::split(Box::new(far) as Box<dyn Stream>);
        let (client, near) = UnixStream::pair().unwrap();
        let (_, near) = near.into_split();
        let (mut client, _) = client.into_split();
        let mut websocket = Incoming::default();
        websocket.handle_bytes(b"\x82\x02ab");
        let (pings, _) = mpsc::channel(1);
        let mut data = [0; 2];
        tokio::select! {
            ended = down(far, near, Some(websocket), pings) => panic!("{ended:?}"),
            size = client.read_exact(&mut data) => assert_eq!(size.unwrap(), 2),
        }
        assert_eq!(&data, b"ab");
    }
}
