//! Websockets and a proxy before a real broker. Debian's Mosquitto has no websockets: a server of our own stands before it,
//! which has its own reading of RFC 6455 and cuts what it sends into odd pieces.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ring::digest;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::version::TLS13;

use super::VERSIONS;
use super::scene::{Scene, folder};
use crate::lossless::Mosquitto;
use crate::tls::{Authority, params};

/// The lines of a head, without their ends.
async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let letter = |six: &[u8]| {
        let index = (0..6).fold(0, |index, bit| index << 1 | six.get(bit).copied().unwrap_or(0));
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(index)])
    };
    let mut text: String = bits.chunks(6).map(letter).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The stream of a websocket at `/mqtt`; none where another path is asked for.
async fn upgraded<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<Option<BufReader<S>>> {
    let mut stream = BufReader::new(stream);
    let head = head(&mut stream).await?;
    if head[0] != "GET /mqtt HTTP/1.1" {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(None);
    }
    let key = head.iter().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, accept.as_bytes()).as_ref());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(Some(stream))
}

/// One websocket before `broker`: what comes in goes there, what comes from there goes out in fragments with pings between.
async fn serve_websocket(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    broker: SocketAddr,
    pongs: &AtomicUsize,
) -> io::Result<()> {
    let Some(stream) = upgraded(stream).await? else { return Ok(()) };
    let (mut from_gateway, mut to_gateway) = tokio::io::split(stream);
    let (mut from_broker, mut to_broker) = TcpStream::connect(broker).await?.into_split();
    let up = async {
        loop {
            let (first, second) = (from_gateway.read_u8().await?, from_gateway.read_u8().await?);
            assert_eq!(second & 0x80, 0x80, "a client masks");
            let size = match second & 0x7F {
                126 => u64::from(from_gateway.read_u16().await?),
                127 => from_gateway.read_u64().await?,
                size => u64::from(size),
            };
            let mut mask = [0; 4];
            from_gateway.read_exact(&mut mask).await?;
            let mut data = vec![0; usize::try_from(size).unwrap()];
            from_gateway.read_exact(&mut data).await?;
            data.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= mask[index % 4]);
            match first {
                0x82 => to_broker.write_all(&data).await?,
                0x8A => {
                    assert_eq!(data, b"there?");
                    pongs.fetch_add(1, Ordering::Relaxed);
                }
                0x88 => return io::Result::Ok(()),
                other => panic!("frame {other:#x}"),
            }
        }
    };
    let down = async {
        let mut chunk = [0; 300];
        loop {
            let size = from_broker.read(&mut chunk).await?;
            if size == 0 {
                return io::Result::Ok(());
            }
            let (first, rest) = chunk[..size].split_at(size / 3);
            let mut frames = vec![0x02, u8::try_from(first.len()).unwrap()];
            frames.extend(first);
            frames.extend(b"\x89\x06there?");
            frames.extend([0x80, 126]);
            frames.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
            frames.extend(rest);
            to_gateway.write_all(&frames).await?;
            to_gateway.flush().await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// Whoever connects gets a websocket, over TLS where an authority has a certificate `broker`.
async fn websockets(
    broker: SocketAddr,
    authority: Option<&Authority>,
    tasks: &mut JoinSet<()>,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = authority.map(|authority| authority.acceptor("broker", false, &TLS13));
    let pongs = Arc::new(AtomicUsize::new(0));
    let counted = pongs.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, pongs) = (acceptor.clone(), counted.clone());
            connections.spawn(async move {
                match acceptor {
                    None => serve_websocket(stream, broker, &pongs).await,
                    Some(acceptor) => serve_websocket(acceptor.accept(stream).await?, broker, &pongs).await,
                }
            });
        }
    });
    (address, pongs)
}

/// A proxy that makes a way to ports of this machine; with `refusal` it makes none.
async fn proxy(refusal: Option<&'static str>, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut stream = BufReader::new(stream);
                let head = head(&mut stream).await?;
                let way = head[0].strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
                let way = way.unwrap_or_else(|| panic!("{head:?}"));
                assert!(head.contains(&format!("Host: {way}")), "{head:?}");
                if let Some(refusal) = refusal {
                    return stream.write_all(refusal.as_bytes()).await;
                }
                let mut far = TcpStream::connect(way).await?;
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut stream, &mut far).await.map(drop)
            });
        }
    });
    address
}

async fn broker() -> (tempfile::TempDir, Mosquitto) {
    let folder = folder();
    let broker = Mosquitto::start_with(folder.path(), "").await;
    (folder, broker)
}

#[tokio::test]
async fn a_broker_behind_a_websocket_is_told_over_both_versions() {
    for version in VERSIONS {
        let mut tasks = JoinSet::new();
        let (folder, broker) = broker().await;
        let (address, pongs) = websockets(broker.address, None, &mut tasks).await;
        let uplink = format!("broker = \"ws://{address}\"\nprotocol = \"{version}\"");
        let mut scene = Scene::start(folder, broker, &uplink).await;
        scene.delivers().await;
        scene.until("it answers pings", |_| pongs.load(Ordering::Relaxed) > 3).await;
        assert_eq!(scene.stop().await, Some(0));
        scene.until("it is dead", |scene| scene.count("NDEATH") > 0).await;
        assert_eq!(scene.count("NBIRTH"), 1, "one connection held: {}", scene.log());
    }
}

#[tokio::test]
async fn a_websocket_over_tls_through_a_proxy_is_no_different() {
    let authority = Authority::new();
    authority.issue("broker", &params(&["localhost"]), false);
    let mut tasks = JoinSet::new();
    let (folder, broker) = broker().await;
    let (address, _) = websockets(broker.address, Some(&authority), &mut tasks).await;
    let proxy = proxy(None, &mut tasks).await;
    let uplink = format!(
        "broker = \"wss://localhost:{}/mqtt\"\nca_file = \"{}\"\nproxy = \"http://{proxy}\"",
        address.port(),
        authority.file("ca.pem").display()
    );
    let mut scene = Scene::start(folder, broker, &uplink).await;
    scene.delivers().await;
}

#[tokio::test]
async fn a_path_without_a_websocket_is_told() {
    let mut tasks = JoinSet::new();
    let (folder, broker) = broker().await;
    let (address, _) = websockets(broker.address, None, &mut tasks).await;
    let mut scene = Scene::start(folder, broker, &format!("broker = \"ws://{address}/other\"")).await;
    scene.said("the broker answers 404 Not Found to a websocket at /other: is the path right?").await;
}

#[tokio::test]
async fn a_broker_behind_a_proxy_is_told_and_one_that_refuses_is_named() {
    let mut tasks = JoinSet::new();
    let (folder, broker) = broker().await;
    let open = proxy(None, &mut tasks).await;
    let mut scene = Scene::plain(folder, broker, &format!("proxy = \"http://{open}\"")).await;
    scene.delivers().await;
    drop(scene);
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\nno", "the proxy refuses the way to 127.0.0.1:"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy wants a name and a password"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "what answers does not speak HTTP"),
    ] {
        let (folder, broker) = self::broker().await;
        let refusing = proxy(Some(answer), &mut tasks).await;
        let mut scene = Scene::plain(folder, broker, &format!("proxy = \"http://{refusing}\"")).await;
        scene.said(expected).await;
    }
}
