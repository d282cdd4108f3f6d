//! The buses of a configuration between simulated devices, and everything that they say.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate::config;
use tidegate::config::site::{Endpoint, Framing, Parity, SerialLine, Site};
use tidegate::counters::{Counters, DeviceCounters};
use tidegate::link::Link;
use tidegate::link::caller::Arrivals;
use tidegate::link::listen::{self, Terms, WAITING_MAX};
use tidegate::poll::lane::Order;
use tidegate::poll::memory;
use tidegate::poll::task::{Ports, Task};
use tidegate::reading::Quality;
use tidegate::scan::{Data, Polled};
use tidegate::sim::faults::{Fault, Faults};
use tidegate::sim::floor::Floor;
use tidegate::sim::serve::{FarEnd, Line, Shared};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A line at the speed of which tests do not wait long.
pub(crate) const LINE: SerialLine =
    SerialLine { baud: 115_200, data_bits: 8, parity: Parity::None, stop_bits: 1 };

/// Running buses.
pub(crate) struct Rig {
    pub(crate) site: Arc<Site>,
    pub(crate) counters: Arc<Counters>,
    /// For each link, where its bus takes orders; of a link with several buses the last one's.
    pub(crate) orders: Vec<Option<mpsc::Sender<Order>>>,
    polled: mpsc::Receiver<Polled>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    folder: tempfile::TempDir,
}

/// What buses said in a time.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// For each tag, by device and name, how often it had a value.
    pub(crate) values: BTreeMap<String, u64>,
    /// Values that were not those of the tag that they were said of.
    pub(crate) wrong: Vec<String>,
    /// What else was said of tags, each quality in the order in which it first came.
    pub(crate) bad: BTreeMap<String, Vec<Quality>>,
    pub(crate) ups: Vec<String>,
    pub(crate) downs: Vec<String>,
}

impl Heard {
    /// How often any tag had a value.
    pub(crate) fn count(&self) -> u64 {
        self.values.values().sum()
    }

    /// How often tags of `device` had one.
    pub(crate) fn of(&self, device: &str) -> u64 {
        self.values
            .iter()
            .filter(|(tag, _)| tag.starts_with(&format!("{device}:")))
            .map(|(_, count)| count)
            .sum()
    }

    /// Every value was its tag's own.
    #[track_caller]
    pub(crate) fn assert_true(&self) {
        assert!(self.wrong.is_empty(), "{} wrong values, such as {}", self.wrong.len(), self.wrong[0]);
    }
}

impl Rig {
    /// The links and devices of `text`, running.
    pub(crate) fn start(text: &str) -> Rig {
        Rig::start_in(tempfile::tempdir().unwrap(), text)
    }

    /// The same, with the state that an earlier one left.
    pub(crate) fn start_in(folder: tempfile::TempDir, text: &str) -> Rig {
        let head = format!(
            "[gateway]\nname = \"n\"\nenterprise = \"e\"\nstate_dir = \"{}\"\n[uplink.u]\nbroker = \"mqtt://127.0.0.1:1\"\n",
            folder.path().display()
        );
        let checked = config::parse("rig.toml", &(head + text));
        let site = checked.site.unwrap_or_else(|findings| {
            panic!("{}", config::finding::render_text(&findings, &checked.sources))
        });
        let site = Arc::new(site);
        let counters = tidegate::gateway::counters(&site);
        let (memory, keeper) = memory::open(&site);
        let (out, polled) = mpsc::channel(256);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        let mut orders = Vec::new();
        for (index, link) in site.links.iter().enumerate() {
            let mut callers = BTreeMap::new();
            let mut lane = None;
            for channel in site.channels(index) {
                let stream = match &channel.caller {
                    None => Link::new(link),
                    Some(caller) => {
                        let (sender, receiver) = mpsc::channel(WAITING_MAX);
                        callers.insert(caller.clone(), sender);
                        Link::dialled(link, Arrivals::new(receiver))
                    }
                };
                let (sender, receiver) = mpsc::channel(4);
                lane = Some(sender);
                let ports = Ports {
                    out: out.clone(),
                    orders: receiver,
                    memory: memory.clone(),
                    counters: counters.clone(),
                };
                tasks.spawn(Task::new(&site, &channel, stream, ports).unwrap().run(stopped.clone()));
            }
            if let Endpoint::Listen(listen) = &link.endpoint {
                let terms = Terms::new(link.name.clone(), listen);
                let counters = counters.links[index].clone();
                tasks.spawn(listen::run(listen.address, terms, callers, counters, stopped.clone()));
            }
            orders.push(lane);
        }
        Rig { site, counters, orders, polled, stop, tasks, folder }
    }

    /// Hears all that is said for so long.
    pub(crate) async fn hear(&mut self, time: Duration) -> Heard {
        self.hear_until(time, |_| false).await
    }

    /// Hears all that is said until `is_enough`, or for so long.
    pub(crate) async fn hear_until(&mut self, time: Duration, is_enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        let end = tidegate::clock::monotonic() + time;
        while !is_enough(&heard) {
            match tokio::time::timeout_at(end.into(), self.polled.recv()).await {
                Ok(polled) => self.note(&mut heard, polled.expect("running buses")),
                Err(_) => break,
            }
        }
        heard
    }

    fn note(&self, heard: &mut Heard, polled: Polled) {
        let name = |device: tidegate::tag::DeviceId| self.site.devices[device.index()].name.to_string();
        let scan = match polled {
            Polled::DeviceUp(device) => return heard.ups.push(name(device)),
            Polled::DeviceDown(device, _) => return heard.downs.push(name(device)),
            Polled::Away(_) => return, // the scan that comes next says it
            Polled::Scan(scan) => scan,
        };
        for part in scan.parts.iter() {
            let tag = &self.site.tags[part.tag.index()];
            let device = &self.site.devices[tag.device.index()];
            let full = format!("{}:{}", device.name, tag.name);
            let span = tag.layout().unwrap().span;
            match &scan.result {
                Err(quality) => {
                    let qualities = heard.bad.entry(full).or_default();
                    if !qualities.contains(quality) {
                        qualities.push(*quality);
                    }
                }
                Ok(Data::Bits(_) | Data::Values(_)) => *heard.values.entry(full).or_default() += 1,
                Ok(Data::Words(words)) => {
                    let offset = usize::from(part.offset);
                    // a pair of registers holds its address, and its unit beside a counter
                    let is_own = words[offset] == span.address
                        && (span.count < 2 || words[offset + 1].to_be_bytes()[0] == device.unit.0);
                    if !is_own {
                        heard.wrong.push(format!("{full} at {span} got {:04X?}", &words[offset..]));
                    }
                    *heard.values.entry(full).or_default() += 1;
                }
            }
        }
    }

    /// What is counted of a device.
    pub(crate) fn device(&self, name: &str) -> &DeviceCounters {
        let index = self.site.devices.iter().position(|device| &*device.name == name).expect("a device");
        &self.counters.devices[index]
    }

    /// Stops all, and gives back the state that is left.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        let Rig { stop, mut tasks, folder, polled, .. } = self;
        stop.send(true).unwrap();
        drop(polled);
        while tasks.join_next().await.is_some() {}
        folder
    }
}

/// Units of link `l` whose registers say whose they are, with these faults.
pub(crate) fn far_end(
    framing: Framing,
    units: impl IntoIterator<Item = u8>,
    faults: impl IntoIterator<Item = Fault>,
) -> FarEnd {
    let far = FarEnd::new("l", framing, Shared::new(Floor::new(Vec::new()).with_addressed("l", units)));
    far.set_faults(Faults::new(1, faults.into_iter().collect()));
    far
}

/// Serves `far` over TCP; where.
pub(crate) async fn serve_tcp(far: &FarEnd, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(far.clone().listen(listener));
    address
}

/// Serves `far` on a pseudo-terminal; where.
pub(crate) fn serve_line(far: &FarEnd, line: SerialLine, tasks: &mut JoinSet<()>) -> std::path::PathBuf {
    let end = Line::open().unwrap();
    let path = end.path.clone();
    tasks.spawn(far.clone().serve_line(end, line));
    path
}

/// `count` tags of two registers, `step` apart.
pub(crate) fn tags(count: u16, step: u16) -> String {
    let tag = |index: u16| format!("{{ name = \"r{0}\", at = \"hr:{0}\", type = \"u32\" }}", index * step);
    format!("tags = [{}]", (0..count).map(tag).collect::<Vec<_>>().join(", "))
}
