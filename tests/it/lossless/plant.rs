//! The plant: devices with Modbus TCP of which no two answers are the same, and a log of what they answered.
//!
//! Nothing of the gateway's own Modbus is used here. Every value is given out once in the whole plant, so that a value
//! says by itself whose it is and when it was read.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tidegate::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::worker::Worker;

/// The first value: one that fills both of its registers, so that halves that were mixed up show.
const VALUE_FIRST: u32 = 1_234_567_890;
/// Registers in one answer (Modbus Application Protocol V1.1b3, 6.3).
const REGISTERS_MAX: u16 = 125;
const READ_HOLDING_REGISTERS: u8 = 3;

/// One tag of one device, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tag {
    pub(crate) device: u8,
    pub(crate) index: u8,
}

/// How many devices there are, and how many tags each has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) devices: u8,
    pub(crate) tags: u8,
}

impl Size {
    /// All tags.
    pub(crate) fn count(self) -> usize {
        usize::from(self.devices) * usize::from(self.tags)
    }
}

/// A value that left the plant in a reply that was written whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) tag: Tag,
    /// When the reply had been written.
    pub(crate) at_ms: u64,
    /// When the connection was opened on which it was written.
    pub(crate) opened_ms: u64,
}

/// What was served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// By value, from [`VALUE_FIRST`] on; none where the reply was not written whole.
    served: Vec<Option<Served>>,
}

impl Log {
    /// Who was served with `value`.
    pub(crate) fn get(&self, value: u32) -> Option<Served> {
        let index = usize::try_from(value.checked_sub(VALUE_FIRST)?).unwrap();
        *self.served.get(index)?
    }

    /// All values that were served, in the order in which they were given out.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, Served)> {
        (VALUE_FIRST..).zip(&self.served).filter_map(|(value, served)| Some((value, (*served)?)))
    }

    /// Values that nobody has yet; the first of them.
    pub(crate) fn give_out(&mut self, count: u8) -> u32 {
        let first = VALUE_FIRST + u32::try_from(self.served.len()).unwrap();
        self.served.resize(self.served.len() + usize::from(count), None);
        first
    }

    /// `count` values from `first` on were served to `tag` and those behind it.
    pub(crate) fn note(&mut self, first: u32, count: u8, served: Served) {
        let start = usize::try_from(first - VALUE_FIRST).unwrap();
        for (place, index) in self.served[start..].iter_mut().zip(0..count) {
            let tag = Tag { index: served.tag.index + index, ..served.tag };
            *place = Some(Served { tag, ..served });
        }
    }
}

/// A running plant.
pub(crate) struct Plant {
    pub(crate) size: Size,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    _worker: Worker,
}

impl Plant {
    pub(crate) fn start(size: Size) -> Plant {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = log.clone();
        let worker = Worker::start("plant", move || async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let opened_ms = clock::wall().millis();
                let log = log.clone();
                tasks.spawn(async move { serve(stream, size, opened_ms, &log).await.unwrap_or_default() });
                while tasks.try_join_next().is_some() {}
            }
        });
        Plant { size, address, log: kept, _worker: worker }
    }

    /// What has been served so far.
    pub(crate) fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    /// The link and the devices for the gateway's configuration: unit 1 is `d0`, tag `t0` is at register 0.
    pub(crate) fn configuration(&self) -> String {
        // an answer that comes so late that the gateway no longer waits for it is not read: never wait too briefly
        let mut text = format!("[link.plant]\ntcp = \"{}\"\n", self.address);
        let tags: Vec<String> = (0..self.size.tags)
            .map(|index| {
                format!("{{ name = \"t{index}\", at = \"hr:{}\", type = \"u32\" }}", u16::from(index) * 2)
            })
            .collect();
        for device in 0..self.size.devices {
            text += &format!(
                "[device.d{device}]\nlink = \"plant\"\nunit = {}\nevery = \"{}ms\"\ntimeout = \"4s\"\ntags = [{}]\n",
                device + 1,
                super::POLL.as_millis(),
                tags.join(", ")
            );
        }
        text
    }
}

/// Answers the requests of one connection until it ends.
async fn serve(mut stream: TcpStream, size: Size, opened_ms: u64, log: &Mutex<Log>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; 7];
    loop {
        stream.read_exact(&mut header).await?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut pdu = vec![0; length.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut pdu).await?;
        match wanted(&pdu, header[6], size) {
            Err(exception) => {
                let function = pdu.first().copied().unwrap_or_default() | 0x80;
                stream.write_all(&framed(&header, &[function, exception])).await?;
            }
            Ok((tag, count)) => {
                let first = log.lock().unwrap().give_out(count);
                let mut reply = vec![READ_HOLDING_REGISTERS, count * 4];
                (first..first + u32::from(count)).for_each(|value| reply.extend(value.to_be_bytes()));
                stream.write_all(&framed(&header, &reply)).await?;
                let served = Served { tag, at_ms: clock::wall().millis(), opened_ms };
                log.lock().unwrap().note(first, count, served);
            }
        }
    }
}

/// The first tag that a request asks for and how many; or the exception for it. Halves of tags are not to be had.
fn wanted(pdu: &[u8], unit: u8, size: Size) -> Result<(Tag, u8), u8> {
    let &[function, a, b, c, d] = pdu else { return Err(3) };
    let (address, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if function != READ_HOLDING_REGISTERS {
        return Err(1);
    }
    if !(1..=size.devices).contains(&unit) {
        return Err(0x0B);
    }
    if !(1..=REGISTERS_MAX).contains(&count) {
        return Err(3);
    }
    let is_whole = address % 2 == 0 && count % 2 == 0;
    if !is_whole || u32::from(address) + u32::from(count) > u32::from(size.tags) * 2 {
        return Err(2);
    }
    let index = u8::try_from(address / 2).unwrap();
    Ok((Tag { device: unit - 1, index }, u8::try_from(count / 2).unwrap()))
}

/// `pdu` behind the header that answers `request` (Modbus Messaging on TCP/IP V1.0b, 3.1.3).
fn framed(request: &[u8; 7], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
    let mut frame = vec![request[0], request[1], 0, 0, length[0], length[1], request[6]];
    frame.extend(pdu);
    frame
}
