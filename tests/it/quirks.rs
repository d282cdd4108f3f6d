//! What devices, adapters and networks do in the field, by the numbers of the catalogue of quirks (Q01 to Q34): each is
//! done to running buses, and what these make of it is held against what the catalogue expects.

mod answers;
mod limits;
mod links;
mod pace;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate::clock;
use tidegate::config::site::Framing;
use tidegate::driver::Answer;
use tidegate::poll::lane::{Job, Order, OrderError};
use tidegate::reading::Quality;
use tidegate::scan::Data;
use tidegate::sim::faults::Fault;
use tidegate::sim::serve::FarEnd;
use tidegate::tag::{Area, DeviceId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::subscriber::DefaultGuard;

use crate::rig::{Heard, LINE, Rig, far_end, serve_line, serve_tcp};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// How a gateway reaches devices.
#[derive(Clone, Copy, Debug)]
enum Way {
    Tcp,
    Line,
    /// A serial line behind a server that hands bytes through.
    Behind,
}

const WAYS: [Way; 3] = [Way::Tcp, Way::Line, Way::Behind];
/// Those without transaction ids.
const SERIAL_WAYS: [Way; 2] = [Way::Line, Way::Behind];

/// Runs a check over each of these, side by side.
async fn on_each<T: Send, F: Future<Output = ()> + Send + 'static>(
    cases: impl IntoIterator<Item = T>,
    check: impl Fn(T) -> F,
) {
    let mut checks = JoinSet::new();
    for case in cases {
        checks.spawn(check(case));
    }
    while let Some(checked) = checks.join_next().await {
        checked.unwrap();
    }
}

/// Devices, and the running buses that read them.
struct Field {
    rig: Rig,
    far: FarEnd,
    _tasks: JoinSet<()>,
}

impl Field {
    /// Units with these faults, and `devices` that read them over link `l`, which has `keys` beside what the way needs.
    async fn new(
        way: Way,
        units: impl IntoIterator<Item = u8>,
        faults: impl IntoIterator<Item = Fault>,
        keys: &str,
        devices: &str,
    ) -> Field {
        let mut tasks = JoinSet::new();
        let framing = if matches!(way, Way::Tcp) { Framing::Tcp } else { Framing::Rtu };
        let far = far_end(framing, units, faults);
        let link = match way {
            Way::Tcp => format!("tcp = \"{}\"", serve_tcp(&far, &mut tasks).await),
            Way::Behind => format!("tcp = \"{}\"\nframing = \"rtu\"", serve_tcp(&far, &mut tasks).await),
            Way::Line => {
                let port = serve_line(&far, LINE, &mut tasks);
                format!("port = \"{}\"\nserial = \"115200 8N1\"", port.display())
            }
        };
        let rig = Rig::start(&format!("[link.l]\n{link}\n{keys}\n{devices}"));
        Field { rig, far, _tasks: tasks }
    }

    async fn hear(&mut self, millis: u64) -> Heard {
        self.rig.hear(MS(millis)).await
    }

    /// Hears until every tag of these devices has had a value in this hearing; panics where that takes too long.
    #[track_caller]
    fn hear_all<'a>(&'a mut self, millis: u64) -> impl Future<Output = Heard> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let tags = self.rig.site.tags.len();
            let heard = self.rig.hear_until(MS(millis), |heard| heard.values.len() >= tags).await;
            assert_eq!(heard.values.len(), tags, "{caller}: values of all tags, but {:?}", heard.bad);
            heard
        }
    }

    /// Writes words to the holding registers of a device.
    async fn write(&self, device: &str, address: u16, words: &[u16]) -> Result<Answer, OrderError> {
        let device = self.rig.site.devices.iter().find(|one| &*one.name == device).expect("a device");
        let job = Job::Write {
            area: Area::HoldingRegisters,
            address,
            data: Data::Words(words.to_vec()),
            functions: None,
        };
        self.order(device.id, job, false).await
    }

    /// Gives an order to a device.
    async fn order(&self, device: DeviceId, job: Job, is_patient: bool) -> Result<Answer, OrderError> {
        let (outcome, told) = oneshot::channel();
        let not_after = clock::monotonic() + MS(5000);
        let order = Order { device, job, not_after, is_patient, outcome };
        let link = self.rig.site.devices[device.index()].link;
        self.rig.orders.get(link).and_then(Option::as_ref).unwrap().send(order).await.unwrap();
        tokio::time::timeout(MS(8000), told).await.expect("an outcome in time").unwrap()
    }
}

/// Device `d<unit>` on link `l`.
fn device(unit: u8, keys: &str) -> String {
    format!("[device.d{unit}]\nlink = \"l\"\nunit = {unit}\n{keys}\n")
}

/// Whatever else was said, none of these devices' tags was bad.
#[track_caller]
fn assert_good(heard: &Heard, devices: &[&str]) {
    let is_of = |tag: &&String| devices.iter().any(|device| tag.starts_with(&format!("{device}:")));
    let bad: Vec<_> = heard.bad.iter().filter(|(tag, _)| is_of(tag)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    for device in devices {
        assert!(heard.of(device) > 0, "{device} has values");
    }
}

/// All that was said of tags of `device` beside values.
fn bad_of(heard: &Heard, device: &str) -> Vec<Quality> {
    let of_device = heard.bad.iter().filter(|(tag, _)| tag.starts_with(&format!("{device}:")));
    let mut all: Vec<Quality> = Vec::new();
    for quality in of_device.flat_map(|(_, qualities)| qualities) {
        if !all.contains(quality) {
            all.push(*quality);
        }
    }
    all
}

/// What is logged while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Log, DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// How many lines hold this.
    fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
