//! The gateway loses nothing: readings are followed from the plant to a subscriber at a real broker, through kills of
//! the gateway, of the broker and of everything between.
//!
//! The gateway is the program itself, seen from outside only. `tests/long lossless` runs the long forms.

mod json;
mod judge;
mod mosquitto;
mod plant;
mod program;
mod proxy;
mod scene;
mod subscriber;
mod verdict;
mod wire;
mod worker;

pub(crate) use judge::{How, is_good, number, value};
pub(crate) use mosquitto::{Mosquitto, free_port};
pub(crate) use plant::{Log, Plant, Served, Size, Tag};
pub(crate) use program::Program;
pub(crate) use proxy::Proxy;
pub(crate) use scene::now_ms;
pub(crate) use subscriber::{Arrival, Subscriber, What};

use std::time::Duration;

use fastrand::Rng;

use proxy::Fault;
use scene::Scene;
use verdict::Verdict;
use wire::{End, Side, Trap};

/// The edge node.
const ENTERPRISE: &str = "e";
const NODE: &str = "n";
/// How often the gateway reads every tag.
const POLL: Duration = Duration::from_millis(100);
/// 2,000 readings a second.
const SIZE: Size = Size { devices: 4, tags: 50 };

/// How many times: `variable`, or the short form.
fn times(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().and_then(|times| times.parse().ok()).unwrap_or(short)
}

/// Random choices, which `TIDEGATE_SEED` repeats.
fn rng(test: &str) -> Rng {
    let given = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(now_ms);
    eprintln!("{test}: TIDEGATE_SEED={seed}");
    Rng::with_seed(seed)
}

fn some_millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

fn some_end(rng: &mut Rng) -> End {
    if rng.bool() { End::Fin } else { End::Rst }
}

/// Small numbers as often as large ones, up to `max`, a power of two.
fn some_bytes(rng: &mut Rng, max: u64) -> u64 {
    let magnitude = rng.u32(0..=max.ilog2());
    rng.u64(1..=1 << magnitude)
}

#[track_caller]
fn assert_clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{verdict}");
}

#[tokio::test]
async fn the_gateway_is_killed_at_random() {
    let mut rng = rng("kills");
    let mut scene = Scene::start().await;
    for kill in 0..times("TIDEGATE_LONG_KILLS", 8) {
        // of eight kills three are in one outage of the broker: what is stored must outlast them all
        if kill % 8 == 3 {
            scene.note("broker out of reach");
            scene.proxy.close();
            let end = some_end(&mut rng);
            scene.order(Fault::Cut(end));
        }
        let vanishes = [1, 6].contains(&(kill % 8));
        let is_early = !vanishes && rng.u8(0..10) < 3; // it is still starting, bearing, or replaying
        scene.go_on(some_millis(&mut rng, if is_early { 10..400 } else { 400..3000 })).await;
        if vanishes {
            scene.order(Fault::Vanish); // it dies before it finds out that what it sent came nowhere
            scene.go_on(some_millis(&mut rng, 200..1500)).await;
        }
        scene.kill_gateway();
        if kill % 8 == 5 {
            scene.go_on(some_millis(&mut rng, 0..1500)).await;
            scene.note("broker within reach");
            scene.proxy.open();
        }
    }
    scene.proxy.open();
    scene.go_on(Duration::from_secs(1)).await;
    assert_clean(&scene.end("kills").await);
}

/// What is done to link and broker.
#[derive(Clone, Copy)]
enum Trouble {
    BrokerForgets,
    BrokerKilled,
    BrokerStopped,
    Cut(End),
    Vanish,
    Stall,
    StallThenCut,
    CutAfter,
    GatewayHeld,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::BrokerForgets,
    Trouble::BrokerKilled,
    Trouble::BrokerStopped,
    Trouble::Cut(End::Fin),
    Trouble::Cut(End::Rst),
    Trouble::Vanish,
    Trouble::Stall,
    Trouble::StallThenCut,
    Trouble::CutAfter,
    Trouble::GatewayHeld,
];
const PAUSE: Duration = Duration::from_secs(3);
/// Longer than two keep-alives, after which the gateway takes for granted what was acknowledged.
const HELD: Duration = Duration::from_secs(5);

async fn make(trouble: Trouble, scene: &mut Scene, rng: &mut Rng) {
    let admitted = scene.proxy.admitted_ms().len();
    match trouble {
        Trouble::BrokerForgets => scene.let_broker_forget(some_millis(rng, 500..2500)).await,
        Trouble::BrokerKilled => scene.kill_broker(some_millis(rng, 0..1000)).await,
        Trouble::BrokerStopped => scene.stop_broker(PAUSE).await,
        Trouble::Cut(end) => scene.order(Fault::Cut(end)),
        Trouble::Vanish => scene.order(Fault::Vanish),
        Trouble::Stall => scene.order(Fault::Stall(PAUSE, None)),
        Trouble::StallThenCut => {
            let end = some_end(rng);
            scene.order(Fault::Stall(PAUSE, Some(end)));
        }
        Trouble::GatewayHeld => scene.hold_gateway(HELD, some_end(rng)).await,
        Trouble::CutAfter => {
            let (side, bytes) = if rng.bool() { (Side::Gateway, 4096) } else { (Side::Broker, 16) };
            scene.order(Fault::CutAfter(side, some_bytes(rng, bytes), some_end(rng)));
        }
    }
    // most troubles come one by one, some before the one before is over
    if rng.u8(0..4) > 0 {
        scene.reached(PAUSE * 2, |scene| scene.proxy.admitted_ms().len() > admitted).await;
    }
    scene.go_on(some_millis(rng, 100..2000)).await;
}

#[tokio::test]
async fn links_and_brokers_fail_at_random() {
    let mut rng = rng("links");
    let mut scene = Scene::start().await;
    scene.go_on(Duration::from_secs(1)).await;
    let mut troubles = Vec::new();
    for _ in 0..times("TIDEGATE_LONG_FAULTS", TROUBLES.len()) {
        if troubles.is_empty() {
            troubles = TROUBLES.to_vec();
            rng.shuffle(&mut troubles);
        }
        make(troubles.pop().unwrap(), &mut scene, &mut rng).await;
    }
    scene.go_on(Duration::from_secs(1)).await;
    assert_clean(&scene.end("links").await);
}

/// How far into an exchange a cut falls: past all births, into what follows them.
const EXCHANGE: u64 = 1 << 16;
/// What the broker says in an exchange: CONNACK (4 bytes), SUBACK (6), some PUBACK (4 each).
const ANSWERS: u64 = 24;

/// What counts as delivered must have been acknowledged: no time that passes makes up for that.
#[tokio::test]
async fn the_gateway_is_held_while_what_it_said_is_under_way() {
    let mut rng = rng("held");
    let mut scene = Scene::start().await;
    for _ in 0..times("TIDEGATE_LONG_HOLDS", 4) {
        scene.go_on(some_millis(&mut rng, 1000..2000)).await;
        scene.hold_gateway(HELD, some_end(&mut rng)).await;
    }
    scene.go_on(PAUSE).await;
    assert_clean(&scene.end("held").await);
}

#[tokio::test]
async fn the_link_is_cut_at_every_point_of_an_exchange() {
    let mut rng = rng("cuts");
    let mut scene = Scene::start().await;
    scene.go_on(Duration::from_secs(1)).await;
    let cuts = times("TIDEGATE_LONG_CUTS", 24);
    // a third byte by byte, a third anywhere, a third at all bytes of what the broker answers, in steps of five
    let traps = (0..cuts).map(|cut| {
        let step = u64::try_from(cut / 3 + 1).unwrap();
        let (side, bytes) = match cut % 3 {
            0 => (Side::Gateway, step),
            1 => (Side::Gateway, some_bytes(&mut rng, EXCHANGE)),
            _ => (Side::Broker, (step * 5) % ANSWERS + 1),
        };
        Trap { side, bytes, end: some_end(&mut rng) }
    });
    scene.proxy.set_traps(traps.collect::<Vec<_>>());
    scene.order(Fault::Cut(End::Rst));
    while scene.proxy.traps() > 0 {
        let left = scene.proxy.traps();
        scene.note(&format!("trap, {left} left"));
        if !scene.reached(PAUSE, |scene| scene.proxy.traps() < left).await {
            scene.order(Fault::Cut(End::Rst)); // it is not reached: there is not so much to say
        }
    }
    scene.go_on(PAUSE).await;
    scene.order(Fault::Cut(End::Rst));
    assert_clean(&scene.end("cuts").await);
}

#[tokio::test]
async fn after_an_outage_live_data_comes_first_and_history_in_order() {
    const OUTAGE: Duration = Duration::from_secs(5);
    let mut scene = Scene::start().await;
    scene.go_on(Duration::from_secs(2)).await;
    scene.proxy.close();
    scene.order(Fault::Cut(End::Rst));
    let closed_ms = now_ms();
    scene.go_on(OUTAGE).await;
    let admitted = scene.proxy.admitted_ms().len();
    scene.note("open");
    scene.proxy.open();
    scene.until("the gateway is back", |scene| scene.proxy.admitted_ms().len() > admitted).await;
    let back_ms = *scene.proxy.admitted_ms().last().unwrap();
    let verdict = scene.end("outage").await;
    let seen = || scene.judge.seen().iter().filter(|seen| seen.arrived_ms >= back_ms);
    let live = seen().find(|seen| seen.how == How::Live).map(|seen| seen.arrived_ms);
    let missed = seen().filter(|seen| (closed_ms..back_ms).contains(&seen.source_ms));
    let history: Vec<u64> =
        missed.filter(|seen| seen.how == How::History).map(|seen| seen.arrived_ms).collect();
    let complete = history.iter().max();
    let since = |at: Option<u64>| at.map_or("never".into(), |at_ms| format!("{} ms", at_ms - back_ms));
    eprintln!(
        "outage: {} readings of history; after the connection: live data {}, history {} to {}",
        history.len(),
        since(live),
        since(history.iter().min().copied()),
        since(complete.copied())
    );
    assert_clean(&verdict);
    assert!(live.unwrap() < back_ms + 2000, "live data within 2 s");
    assert!(live.unwrap() <= *complete.unwrap(), "live data does not wait for history");
}
