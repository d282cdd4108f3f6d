//! The connection of a unit that has dialled in: the protocol's bytes, without what the unit says beside them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};
use tokio::time::timeout_at;

use super::filter::{Filter, HOLD};
use crate::clock;

/// The most that is read at once.
const READ_MAX: usize = 1024;

/// A caller, as its bus gets it.
#[derive(Debug)]
pub struct Caller {
    /// Who it says it is.
    pub id: String,
    /// Where it calls from.
    pub peer: SocketAddr,
    stream: TcpStream,
    filter: Filter,
    /// The protocol's bytes that came with the registration.
    early: BytesMut,
    chunk: BytesMut,
    /// Until when the filter may hold bytes back.
    held_until: Option<Instant>,
    /// It counts as connected until it is dropped.
    _place: OwnedSemaphorePermit,
}

impl Caller {
    pub(super) fn new(
        id: String,
        (stream, peer): (TcpStream, SocketAddr),
        (filter, early): (Filter, BytesMut),
        place: OwnedSemaphorePermit,
    ) -> Caller {
        let chunk = BytesMut::with_capacity(READ_MAX);
        let mut caller = Caller { id, peer, stream, filter, early, chunk, held_until: None, _place: place };
        caller.note_held();
        caller
    }

    /// Waits for bytes of the protocol and appends them to `protocol`, which holds the beginning of a frame or nothing;
    /// how many, 0 if the unit has hung up. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// Where the connection has failed.
    pub async fn read(&mut self, protocol: &mut BytesMut) -> io::Result<usize> {
        let before = protocol.len();
        protocol.extend_from_slice(&self.early.split());
        while protocol.len() == before {
            match self.read_chunk().await? {
                Some(0) => {
                    self.filter.handle_quiet(protocol);
                    break;
                }
                Some(_count) => self.filter.handle_bytes(&self.chunk.split(), protocol),
                None => self.filter.handle_quiet(protocol),
            }
            self.note_held();
        }
        Ok(protocol.len() - before)
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// Where the connection has failed.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Throws away what has come in unasked, without waiting; how many bytes of the protocol that was.
    ///
    /// To be done before every request, in any framing: heartbeats that nobody reads are glued to the answer.
    pub fn discard_input(&mut self) -> usize {
        let mut discarded = self.early.split().len();
        let mut protocol = BytesMut::new();
        let mut bytes = [0; READ_MAX];
        // a fault is left to the read that follows
        while let Ok(count @ 1..) = self.stream.try_read(&mut bytes) {
            self.filter.handle_bytes(bytes.get(..count).unwrap_or_default(), &mut protocol);
            discarded += protocol.split().len();
            self.note_held();
        }
        discarded
    }

    /// The connection.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn note_held(&mut self) {
        self.held_until = self.filter.is_holding().then(|| clock::monotonic() + HOLD);
    }

    /// The size of what has come, 0 at the end of the stream; `None` where what is held back has waited long enough.
    async fn read_chunk(&mut self) -> io::Result<Option<usize>> {
        self.chunk.reserve(READ_MAX);
        // given up or not, read_buf takes nothing that it does not leave in the chunk
        let read = self.stream.read_buf(&mut self.chunk);
        match self.held_until {
            None => read.await.map(Some),
            Some(until) => timeout_at(until.into(), read).await.ok().transpose(),
        }
    }
}

/// The connections of one caller, which a bus takes: the newest counts. Outlives a bus that has failed.
#[derive(Clone, Debug)]
pub struct Arrivals(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    callers: mpsc::Receiver<Caller>,
    next: Option<Caller>,
}

impl Arrivals {
    /// The far end of what a listener is given for a caller.
    #[must_use]
    pub fn new(callers: mpsc::Receiver<Caller>) -> Arrivals {
        Arrivals(Arc::new(Mutex::new(Waiting { callers, next: None })))
    }

    /// Waits until there is one. May be dropped at any time.
    pub async fn wait(&self) {
        let mut waiting = self.0.lock().await;
        while waiting.next.is_none() {
            match waiting.callers.recv().await {
                Some(caller) => waiting.next = Some(caller),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for a connection, and takes the newest of all that wait.
    pub async fn newest(&self) -> Caller {
        loop {
            self.wait().await;
            let mut waiting = self.0.lock().await;
            while let Ok(caller) = waiting.callers.try_recv() {
                waiting.next = Some(caller);
            }
            if let Some(caller) = waiting.next.take() {
                return caller;
            }
        }
    }
}
