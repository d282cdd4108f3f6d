//! The program between two simulated devices, one that is never there, and the broker that writes everything down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tempfile::TempDir;
use tidegate::sim::floor::{Floor, demo_floor};
use tidegate::sim::serve::{Shared, serve_tcp};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::broker::Broker;
use super::log::What;
use crate::gateway::within;
use crate::lossless::Program;

/// The tags of the press and their datatypes with `types = "wide"`; the last one is an address that nothing answers for.
pub(super) const PRESS: [(&str, u32); 8] = [
    ("temperature", 9),
    ("position", 3),
    ("energy/import", 8),
    ("pieces", 4),
    ("alarm/door", 11),
    ("model", 12),
    ("running", 11),
    ("speed", 3),
];

/// Everything, running. The gateway is dropped first.
pub(super) struct Scene {
    pub(super) gateway: Program,
    pub(super) broker: Broker,
    pub(super) press: Plc,
    pub(super) oven: Plc,
    pub(super) folder: TempDir,
}

/// A controller that may be there or not.
pub(super) struct Plc {
    pub(super) address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Plc {
    fn new(address: SocketAddr) -> Plc {
        Plc { address, tasks: JoinSet::new() }
    }

    pub(super) async fn serve(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.tasks.spawn(serve_tcp(listener, "plc".into(), Shared::new(Floor::new(demo_floor()))));
    }

    pub(super) async fn hang_up(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Scene {
    /// The press is there, the oven is not yet, the third never; `more` are keys of the uplink.
    pub(super) async fn start(more: &str) -> Scene {
        Scene::begin(more, |_| {}).await
    }

    /// As [`Scene::start`]; `prepare` gets the state directory before.
    pub(super) async fn begin(more: &str, prepare: impl Fn(&Path)) -> Scene {
        let broker = Broker::start().await;
        let more = format!("broker = \"mqtt://{}\"\n{more}", broker.address);
        Scene::with(broker, &more, prepare).await
    }

    /// As [`Scene::begin`], the keys of the uplink name the broker.
    pub(super) async fn with(broker: Broker, uplink: &str, prepare: impl Fn(&Path)) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        prepare(&state);
        let addresses = different_addresses().await;
        let [mut press, oven] = [Plc::new(addresses[0]), Plc::new(addresses[1])];
        press.serve().await;
        let text = configuration(&state, uplink, addresses);
        let gateway = Program::start(folder.path(), &text, &[]);
        Scene { gateway, broker, press, oven, folder }
    }

    /// Waits until the press is born; then the oven comes and is born too.
    pub(super) async fn both_are_born(&mut self) {
        self.broker.hears(0, "DBIRTH", Some("press")).await;
        self.oven.serve().await;
        self.broker.hears(0, "DBIRTH", Some("oven")).await;
    }

    /// SIGTERM; the program and its connection have ended when this returns.
    pub(super) async fn stop(&mut self) {
        let mark = self.broker.mark();
        self.gateway.signal("-TERM");
        self.broker.wait(mark, "the end", |entry| matches!(entry.what, What::Ended)).await;
        let code = within(async {
            loop {
                if let Some(code) = self.gateway.ended() {
                    return code;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
        assert_eq!(code.await, Some(0), "exit code");
    }
}

/// Addresses where nobody listens yet, no two alike.
async fn different_addresses() -> [SocketAddr; 3] {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    }
    [0, 1, 2].map(|index: usize| listeners[index].local_addr().unwrap())
}

fn configuration(state: &Path, uplink: &str, [press, oven, nobody]: [SocketAddr; 3]) -> String {
    format!(
        r#"
        [gateway]
        name = "n"
        enterprise = "e"
        site = "hall-2"
        title = "二车间"
        state_dir = "{}"
        clock = "system"
        [log]
        level = "warn"
        [uplink.u]
        birth_jitter = "0s"
        reconnect_max = "1s"
        {uplink}
        [link.plc]
        tcp = "{press}"
        [link.late]
        tcp = "{oven}"
        [link.nobody]
        tcp = "{nobody}"
        [device.press]
        link = "plc"
        title = "Presse 1"
        every = "100ms"
        timeout = "300ms"
        tags = [
          {{ name = "temperature", at = "hr:0", type = "f32", unit = "Cel", title = "oil" }},
          {{ name = "position", at = "hr:2", type = "i32", order = "CDAB" }},
          {{ name = "energy/import", at = "hr:4", type = "u64", unit = "kWh" }},
          {{ name = "pieces", at = "hr:8", type = "u32", order = "BADC" }},
          {{ name = "alarm/door", at = "hr:10.12" }},
          {{ name = "model", at = "hr:40", type = "string", length = 8 }},
          {{ name = "running", at = "coil:0" }},
          {{ name = "speed", at = "hr:60" }},
        ]
        [device.oven]
        link = "late"
        unit = 2
        every = "100ms"
        timeout = "300ms"
        tags = [
          {{ name = "speed", at = "ir:72" }},
          {{ name = "flow", at = "hr:100", type = "f64" }},
          {{ name = "zone1/temperature", at = "ir:70", type = "i16" }},
        ]
        [device.nobody]
        link = "nobody"
        tags = [{{ name = "t", at = "hr:0" }}]
        "#,
        state.display()
    )
}
