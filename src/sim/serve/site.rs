//! Serves a floor in every place that a site looks for it: TCP ports, pseudo-terminals, units that dial in.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Dial, FarEnd, Line, Shared};
use crate::config::site::{Echo, Endpoint, Link, Listen, Site};
use crate::sim::faults::{Fault, Faults, Spoil, When};
use crate::sim::floor::far_end_of;
use crate::sim::sample;

/// How often a unit that dials in says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long after a call that has failed or ended the next one follows.
const PAUSE: Duration = Duration::from_secs(1);

/// What a site does not say of itself, by the names of links.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Where the gateway listens, if not on this machine at the port of the configuration.
    pub gateways: BTreeMap<String, SocketAddr>,
    /// What units say first: `{id}` in it is the id of each.
    pub registrations: BTreeMap<String, String>,
}

/// The far end of a link, or of one unit that dials in.
#[derive(Clone, Debug)]
pub struct End {
    /// The link's name.
    pub link: Arc<str>,
    /// Who answers there.
    pub far: FarEnd,
    /// Where.
    pub place: Place,
    /// What was sent comes back before each answer.
    pub has_echo: bool,
}

/// Where a far end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It listens here.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Whether the configuration names just this one.
        is_configured: bool,
    },
    /// A gateway opens this pseudo-terminal.
    Line(PathBuf),
    /// It calls a gateway.
    Dials {
        /// Who it is to the gateway.
        caller: Arc<str>,
        /// Where the gateway listens.
        gateway: SocketAddr,
        /// What it says first.
        registration: Vec<u8>,
    },
}

/// A link, or a unit that dials in, that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The link's name.
    pub link: Arc<str>,
    /// In words.
    pub why: String,
}

impl End {
    /// The faults of this far end: `plan`, and its echo.
    #[must_use]
    pub fn faults(&self, seed: u64, mut plan: Vec<Fault>) -> Faults {
        if self.has_echo {
            plan.push(Fault::new(When::Always, Spoil::Echoed(usize::MAX)));
        }
        Faults::new(seed, plan)
    }

    /// The variable of the environment by which a gateway finds it, with its value; `None`: it needs none.
    #[must_use]
    pub fn variable(&self) -> Option<(String, String)> {
        let link = self.link.to_uppercase().replace(['-', '.'], "_");
        match &self.place {
            Place::Tcp { is_configured: true, .. } | Place::Dials { .. } => None,
            Place::Tcp { address, .. } => Some((format!("TIDEGATE__LINK__{link}__TCP"), address.to_string())),
            Place::Line(path) => Some((format!("TIDEGATE__LINK__{link}__PORT"), path.display().to_string())),
        }
    }

    /// Makes `site` look for it where it is.
    pub fn lead(&self, site: &mut Site) {
        for link in site.links.iter_mut().filter(|link| link.name == self.link) {
            match (&mut link.endpoint, &self.place) {
                (Endpoint::Tcp { address, .. }, Place::Tcp { address: served, .. }) => {
                    *address = served.to_string();
                }
                (Endpoint::Serial { port, .. }, Place::Line(path)) => port.clone_from(path),
                (Endpoint::Tcp { .. } | Endpoint::Serial { .. } | Endpoint::Listen(_), _) => {}
            }
        }
    }
}

/// Serves `floor` at every link of `site` by tasks of `tasks`; what cannot be served is said.
///
/// # Errors
/// Where the system has no port or no pseudo-terminal left.
pub async fn serve_site(
    site: &Site,
    floor: &Shared,
    wishes: &Wishes,
    tasks: &mut JoinSet<()>,
) -> io::Result<(Vec<End>, Vec<Unserved>)> {
    let (mut ends, mut unserved) = (Vec::new(), Vec::new());
    for (index, link) in site.links.iter().enumerate() {
        let far = FarEnd::new(link.name.clone(), link.framing, floor.clone());
        let end = |far, place| End { link: link.name.clone(), far, place, has_echo: link.echo != Echo::No };
        match &link.endpoint {
            Endpoint::Tcp { tls: Some(_), .. } => {
                unserved.push(Unserved { link: link.name.clone(), why: "TLS is not simulated".to_owned() });
            }
            Endpoint::Tcp { address, .. } => {
                let (listener, is_configured) = bind(address).await?;
                let place = Place::Tcp { address: listener.local_addr()?, is_configured };
                ends.push(end(far.clone(), place));
                tasks.spawn(far.listen(listener));
            }
            Endpoint::Serial { line, .. } => {
                let simulated = Line::open()?;
                ends.push(end(far.clone(), Place::Line(simulated.path.clone())));
                tasks.spawn(far.serve_line(simulated, *line));
            }
            Endpoint::Listen(listen) if is_kept_out(listen, gateway(link, listen, wishes)) => {
                let why = "`allow` keeps out this machine: simulate a copy without it".to_owned();
                unserved.push(Unserved { link: link.name.clone(), why });
            }
            Endpoint::Listen(listen) => {
                for (name, caller) in callers(site, index) {
                    let far = FarEnd::new(name, link.framing, floor.clone());
                    match dial(link, listen, &caller, wishes) {
                        Ok(dial) => {
                            let (gateway, registration) = (dial.gateway, dial.registration.clone());
                            ends.push(end(far.clone(), Place::Dials { caller, gateway, registration }));
                            tasks.spawn(far.dial(dial));
                        }
                        Err(why) => unserved.push(Unserved { link: link.name.clone(), why }),
                    }
                }
            }
        }
    }
    for end in &ends {
        end.far.set_faults(end.faults(0, Vec::new()));
    }
    Ok((ends, unserved))
}

/// The port of `address` on this machine if it is free, else another; and whether that is where `address` points.
async fn bind(address: &str) -> io::Result<(TcpListener, bool)> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port: u16 = port.parse().unwrap_or_default();
    let is_here = host == "localhost" || host == "127.0.0.1";
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok((listener, is_here && port > 0)),
        Err(_) => Ok((TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, false)),
    }
}

/// Who dials in at a link: the name of each on the floor, and to the gateway.
fn callers(site: &Site, link: usize) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let devices = site.devices.iter().filter(|device| device.link == link);
    devices.filter_map(|device| Some((far_end_of(site, device)?, device.caller.clone()?))).collect()
}

/// Where the gateway listens for the units of a link.
fn gateway(link: &Link, listen: &Listen, wishes: &Wishes) -> SocketAddr {
    wishes.gateways.get(&*link.name).copied().unwrap_or_else(|| here(listen.address))
}

/// Whether a gateway on this machine takes no call from it.
fn is_kept_out(listen: &Listen, gateway: SocketAddr) -> bool {
    let is_allowed = listen.allow.iter().any(|network| network.contains(gateway.ip()));
    gateway.ip().is_loopback() && !listen.allow.is_empty() && !is_allowed
}

/// How a caller of this name calls.
fn dial(link: &Link, listen: &Listen, caller: &str, wishes: &Wishes) -> Result<Dial, String> {
    let gateway = gateway(link, listen, wishes);
    let named = listen.callers.iter().flatten().find(|(_, name)| ***name == *caller);
    let id = named.map_or(caller, |(id, _)| id);
    let Some(pattern) = &listen.registration else {
        return Err(format!(
            "{caller}: a unit without `registration` is known by its address, and has none here"
        ));
    };
    let registration = match wishes.registrations.get(&*link.name) {
        Some(template) => {
            let said = template.replace("{id}", id).into_bytes();
            sample::says_id(pattern, &said, id).then_some(said)
        }
        None => sample::registration(pattern, id),
    };
    let Some(registration) = registration else {
        return Err(format!(
            "{caller}: nothing is known that the pattern `{pattern}` takes with the id {id}: say it with \
             --registration {}=TEXT, {{id}} in it is the id",
            link.name
        ));
    };
    let heartbeat = listen.heartbeat.as_ref().and_then(sample::heartbeat);
    Ok(Dial {
        gateway,
        registration,
        is_prefixed: listen.prefixed,
        heartbeat: heartbeat.map(|bytes| (bytes, HEARTBEAT)),
        pause: PAUSE,
    })
}

/// Where to find on this machine what listens at `address`.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::reading::Timestamp;
    use crate::sim::floor::floor_of;

    /// What is served of a site with these links and devices, and what is not.
    async fn served(text: &str, wishes: &Wishes) -> (Vec<End>, Vec<Unserved>, JoinSet<()>) {
        let head = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n";
        let checked = config::parse("site.toml", &format!("{head}{text}"));
        let site = checked.site.unwrap_or_else(|findings| {
            panic!("{}", config::finding::render_text(&findings, &checked.sources))
        });
        let floor = Shared::new(floor_of(&site, Timestamp::from_millis(0)).into_floor());
        let mut tasks = JoinSet::new();
        let (ends, unserved) = serve_site(&site, &floor, wishes, &mut tasks).await.unwrap();
        (ends, unserved, tasks)
    }

    const TAGS: &str = "tags = [{ name = 't', at = 'hr:0' }]";

    #[tokio::test]
    async fn a_taken_port_is_replaced_and_the_variable_says_so() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = format!(
            "[link.PLC-1]\ntcp = '127.0.0.1:{port}'\n[device.d]\nlink = 'PLC-1'\n{TAGS}\n\
             [link.line]\nport = '/dev/ttyUSB0'\nserial = '9600 8N1'\necho = true\n[device.e]\nlink = 'line'\n{TAGS}"
        );
        let (ends, unserved, _tasks) = served(&text, &Wishes::default()).await;
        assert_eq!(unserved, []);
        let [plc, line] = &ends[..] else { panic!("{ends:?}") };
        let (name, address) = plc.variable().unwrap();
        assert_eq!(name, "TIDEGATE__LINK__PLC_1__TCP");
        assert_ne!(address, format!("127.0.0.1:{port}"));
        let (name, path) = line.variable().unwrap();
        assert_eq!(name, "TIDEGATE__LINK__LINE__PORT");
        assert!(path.starts_with("/dev/pts/"), "{path}");
        assert!(line.has_echo && !plc.has_echo);

        drop(taken);
        let (ends, ..) = served(&text, &Wishes::default()).await;
        assert_eq!(ends[0].variable(), None);
    }

    #[tokio::test]
    async fn units_say_what_their_link_knows_them_by_or_it_is_said_that_they_cannot() {
        let dtu = |listen: &str| {
            format!(
                "[link.dtu]\nlisten = '0.0.0.0:5020'\nframing = 'rtu'\n{listen}\n[device.d]\nlink = 'dtu'\ncaller = 'x'\n{TAGS}"
            )
        };
        let said = async |listen: &str, wishes: &Wishes| {
            let (ends, unserved, _tasks) = served(&dtu(listen), wishes).await;
            match (ends.first().map(|end| end.place.clone()), unserved.first()) {
                (Some(Place::Dials { gateway, registration, .. }), None) => {
                    format!("{gateway} {}", String::from_utf8(registration).unwrap())
                }
                (None, Some(unserved)) => unserved.why.clone(),
                other => panic!("{other:?}"),
            }
        };
        let none = Wishes::default();
        let named = "registration = '^DTU-(?<id>[0-9]+)$'\ncallers = { 17 = 'x' }";
        assert_eq!(said(named, &none).await, "127.0.0.1:5020 DTU-17");
        assert_eq!(said("registration = '^DTU-(?<id>[a-z]+)$'", &none).await, "127.0.0.1:5020 DTU-x");
        let odd = "registration = '(?i)^dtu-(?<id>[0-9]+)$'\ncallers = { 17 = 'x' }";
        assert!(said(odd, &none).await.contains("--registration dtu=TEXT"));
        let wishes = Wishes {
            gateways: [("dtu".to_owned(), "127.0.0.1:7".parse().unwrap())].into(),
            registrations: [("dtu".to_owned(), "Dtu-{id}".to_owned())].into(),
        };
        assert_eq!(said(odd, &wishes).await, "127.0.0.1:7 Dtu-17");
        let far = format!("{named}\nallow = ['10.0.0.0/8']");
        assert!(said(&far, &none).await.contains("`allow` keeps out this machine"));
    }
}
