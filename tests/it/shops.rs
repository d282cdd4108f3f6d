//! The shops of `configs/` as they stand: the whole program between simulated meters, PLCs and drives that move by a
//! script and a consumer who looks at what machines have done.

mod heard;
mod machining;
mod moulding;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tidegate::clock;
use tidegate::sim::floor::{Device, Floor, Form, Layout, Motion, Order, Point, Table};
use tidegate::sim::serve::Shared;
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, serve_broker};
use crate::root;
use heard::Heard;

/// The longest that a whole scene may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running shop.
struct Shop {
    floor: Shared,
    consumer: Consumer,
    heard: RefCell<Heard>,
    _gateway: Gateway,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Shop {
    /// Starts the gateway with this file of `configs/`; when all `devices` are born, the floor begins anew.
    async fn open(
        file: &str,
        links: &[(&str, String)],
        floor: Shared,
        mut tasks: JoinSet<()>,
        devices: &[&str],
    ) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let broker = free_address().await;
        serve_broker(broker, &mut tasks).await;
        let consumer = Consumer::subscribe(broker).await;
        let mut variables = place(folder.path(), broker);
        variables.extend(links.iter().map(|(name, value)| (*name, value.clone())));
        let gateway = Gateway::run(folder.path(), &root().join("configs").join(file), &variables);
        let heard = RefCell::default();
        let mut shop = Shop { floor, consumer, heard, _gateway: gateway, _folder: folder, _tasks: tasks };
        shop.watch("births", |heard| devices.iter().all(|device| heard.is_born(device))).await;
        shop.floor.restart();
        shop
    }

    /// Listens until what was heard is enough.
    async fn watch(&mut self, what: &str, is_enough: impl Fn(&Heard) -> bool) {
        let end = clock::monotonic() + PATIENCE;
        while !is_enough(&self.heard.borrow()) {
            let next = self.consumer.wait_for_any(|topic, payload| {
                self.heard.borrow_mut().take(topic, payload);
                true
            });
            let is_late = tokio::time::timeout_at(end.into(), next).await.is_err();
            assert!(!is_late, "{what} did not come: {:#?}", self.heard.borrow());
        }
    }

    /// Every value of these tags that the devices gave came to the consumer, and no other.
    fn check_served(&self, tags: &[&str]) {
        let log = self.floor.with(Floor::take_log);
        let mut checked = 0;
        for ((device, tag), served) in log.iter().filter(|((_, tag), _)| tags.contains(&&**tag)) {
            let mut served: Vec<String> = served.iter().map(|one| one.truth.to_string()).collect();
            served.dedup();
            assert_eq!(self.heard.borrow().values(device, tag), served, "{device}/{tag}");
            checked += 1;
        }
        assert!(checked > 0, "none of {tags:?}");
    }

    fn check(&self, device: &str, expected: &[(&str, &[&str])]) {
        for (tag, values) in expected {
            assert_eq!(self.heard.borrow().values(device, tag), *values, "{device}/{tag}");
        }
    }

    fn check_last(&self, device: &str, expected: &[(&str, &str)]) {
        for (tag, value) in expected {
            assert_eq!(self.heard.borrow().last(device, tag).as_deref(), Some(*value), "{device}/{tag}");
        }
    }
}

/// What differs from the place that the file is written for: the broker, folders, and a time of day within a shift.
fn place(folder: &Path, broker: SocketAddr) -> Vec<(&'static str, String)> {
    let password = folder.join("password");
    std::fs::write(&password, "secret").unwrap();
    vec![
        ("STATE_DIRECTORY", folder.join("state").display().to_string()),
        ("TIDEGATE__GATEWAY__CLOCK", "system".to_owned()),
        ("TIDEGATE__GATEWAY__TIMEZONE", zone_at_ten()),
        ("TIDEGATE__GATEWAY__WORKDAYS", "mon-sun".to_owned()),
        ("TIDEGATE__UPLINK__CLOUD__BROKER", format!("mqtt://{broker}")),
        ("TIDEGATE__UPLINK__CLOUD__PASSWORD_FILE", password.display().to_string()),
        ("TIDEGATE__UPLINK__CLOUD__BIRTH_JITTER", "0s".to_owned()),
        ("TIDEGATE__LOG__LEVEL", "error".to_owned()),
    ]
}

/// A zone in which it is between ten and eleven in the morning: two hours into a shift, and far from any break.
fn zone_at_ten() -> String {
    let hour = i64::try_from(clock::wall().millis() / 3_600_000 % 24).unwrap();
    match (10 - hour + 12).rem_euclid(24) - 12 {
        0 => "UTC".to_owned(),
        // the sign of these names is the other way round
        ahead => format!("Etc/GMT{:+}", -ahead),
    }
}

fn device(name: &str, link: &str, unit: u8, points: Vec<Point>) -> Device {
    Device { name: name.into(), link: link.into(), unit, baud: None, points }
}

fn register(name: &str, address: u16, motion: Motion) -> Point {
    Point::new(name, Table::HoldingRegisters, address, Layout::new(Form::Whole(1)), motion)
}

/// A number of 32 bits, the lowest register first.
fn long(name: &str, address: u16, motion: Motion) -> Point {
    Point::new(
        name,
        Table::HoldingRegisters,
        address,
        Layout::new(Form::Whole(2)).ordered(Order::Cdab),
        motion,
    )
}
