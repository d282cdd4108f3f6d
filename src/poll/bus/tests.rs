//! What a bus asks, and what it says of the ends.

use tokio::sync::oneshot;

use super::*;
use crate::clock;
use crate::config;
use crate::driver::Answer;
use crate::driver::client::Request;
use crate::poll::lane::Job;
use crate::tag::{Area, DeviceId, Span};

type Told = oneshot::Receiver<Result<Answer, OrderError>>;

const SITE: &str = r#"
    [gateway]
    name = "n"
    enterprise = "e"
    [uplink.u]
    broker = "mqtt://127.0.0.1"
    [link.l]
    tcp = "127.0.0.1:502"
    [device.d]
    link = "l"
    tags = [{ name = "t", at = "hr:0" }]
    "#;

fn bus(now: Instant) -> Bus {
    bus_of(SITE, now)
}

fn bus_of(text: &str, now: Instant) -> Bus {
    let site = config::parse("test.toml", text).site.unwrap();
    let channel = site.channels(0).pop().unwrap();
    let counters = Counters::new(1, site.devices.iter().map(|device| site.rates(device)));
    Bus::new(&site, &channel, &counters, super::super::memory::open(&site).0, now).unwrap()
}

fn order(job: Job, not_after: Instant) -> (Order, Told) {
    let (outcome, told) = oneshot::channel();
    (Order { device: DeviceId(0), job, not_after, is_patient: true, outcome }, told)
}

fn write() -> Job {
    Job::Write { area: Area::Coils, address: 0, data: Data::Bits(vec![true]), functions: None }
}

#[test]
fn a_write_that_waits_does_not_outlive_its_stream_and_a_read_does() {
    let at = clock::monotonic();
    let now = Now { at, stamp: clock::stamp(), wall: clock::wall() };
    let read = Job::Read(Span { area: Area::Coils, address: 0, count: 1 });
    for (job, is_kept) in [(write(), false), (read, true)] {
        let mut bus = bus(at);
        bus.handle_open(now);
        let (order, mut told) = order(job, at + Duration::from_secs(9));
        bus.handle_order(order);
        bus.handle_lost(Vec::new(), &Fault::Silent, now);
        assert_eq!(bus.order.is_some(), is_kept);
        assert_eq!(matches!(told.try_recv(), Ok(Err(OrderError::Down))), !is_kept);
    }
}

#[test]
fn a_stream_that_is_open_again_may_lead_to_another_device_and_its_probe_is_read_at_once() {
    let text = SITE.replace("tags =", "every = \"1h\"\nprobe = { at = \"ir:100\", equals = 1 }\ntags =");
    let (mut bus, mut at) = (bus_of(&text, clock::monotonic()), clock::monotonic());
    let read = |bus: &mut Bus, at: Instant| {
        let now = Now { at, stamp: clock::stamp(), wall: clock::wall() };
        bus.handle_time(now);
        let mut read = 0;
        while let Some(Request::Modbus(call, _)) = bus.take_read(0, at) {
            let response = tokio_modbus::Response::ReadHoldingRegisters(vec![1]);
            let (ticket, unit, result) = (call.ticket, call.unit, Ok(Answer::Response(response)));
            bus.handle_done(Done { ticket, unit, result, took: Duration::from_millis(1) }, now);
            read += 1;
        }
        read
    };
    let now = |at: Instant| Now { at, stamp: clock::stamp(), wall: clock::wall() };
    bus.handle_open(now(at));
    assert_eq!(read(&mut bus, at), 2, "the tag and the probe");
    at += Duration::from_secs(20);
    assert_eq!(read(&mut bus, at), 0);
    std::iter::from_fn(|| bus.take_said()).for_each(drop);
    bus.handle_lost(Vec::new(), &Fault::Silent, now(at));
    bus.handle_open(now(at));
    assert!(matches!(bus.take_said(), Some(Polled::Away(DeviceId(0)))));
    assert_eq!(read(&mut bus, at), 1, "the probe");
}

#[test]
fn a_reader_comes_and_goes_with_its_link() {
    let kind = "[type.reader]\nprotocol = \"serial\"\nframe = { end = \"0D\" }\n\
         tags = [{ name = \"code\", at = \"byte:0\", length = 4, type = \"string\", kind = \"event\" }]\n";
    let text = SITE.replace("tags = [{ name = \"t\", at = \"hr:0\" }]", "type = \"reader\"") + kind;
    let at = clock::monotonic();
    let now = |at: Instant| Now { at, stamp: clock::stamp(), wall: clock::wall() };
    let mut bus = bus_of(&text, at);
    bus.handle_open(now(at));
    assert!(matches!(bus.take_said(), Some(Polled::DeviceUp(DeviceId(0)))));
    bus.handle_lost(Vec::new(), &Fault::Silent, now(at));
    bus.handle_time(now(at + DOWN_AFTER));
    let said: Vec<Polled> = std::iter::from_fn(|| bus.take_said()).collect();
    let [Polled::Away(_), Polled::Scan(scan), Polled::DeviceDown(DeviceId(0), _)] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(matches!(scan.result, Err(Quality::BadNotConnected)));
    bus.handle_open(now(at + DOWN_AFTER * 2));
    assert!(matches!(bus.take_said(), Some(Polled::DeviceUp(DeviceId(0)))));
}

#[test]
fn an_order_whose_time_has_come_is_not_sent_any_more() {
    let at = clock::monotonic();
    for (after, is_sent) in [(Duration::from_millis(1), true), (Duration::ZERO, false)] {
        let mut bus = bus(at);
        let (order, mut told) = order(write(), at + after);
        bus.handle_order(order);
        assert_eq!(bus.take_order(0, at).is_some(), is_sent);
        assert_eq!(matches!(told.try_recv(), Ok(Err(OrderError::TooLate))), !is_sent);
    }
}

/// What a meter is told goes to all on the line: it is neither a request nor a miss of the one that stands for them.
#[test]
fn the_time_is_told_over_a_meter_that_does_not_answer_and_outlives_the_stream() {
    let meter = "protocol = \"dlt645\"\naddress = \"210220003011\"\nquirks = { wake = 2 }\n\
         tags = [{ name = \"v\", at = \"02010100\", format = \"XXX.X\" }]";
    let text = SITE.replace("tags = [{ name = \"t\", at = \"hr:0\" }]", meter);
    let at = clock::monotonic();
    let now = Now { at, stamp: clock::stamp(), wall: clock::wall() };
    let job = Job::BroadcastTime(crate::calendar::zone("Asia/Shanghai").unwrap());
    let mut bus = bus_of(&text, at);
    bus.stations[0].health.handle_silence();
    let (order_of_meter, mut told) = order(job.clone(), at + Duration::from_secs(60));
    bus.handle_order(order_of_meter);
    bus.handle_open(now);
    bus.handle_lost(Vec::new(), &Fault::Silent, now);
    bus.handle_open(now);
    let Some(Request::Other(_, call)) = bus.take_order(0, at) else { panic!("no request") };
    assert!(!call.exchange.is_answered());
    assert_eq!(call.timeout, Duration::from_millis(300));
    // 2026-11-26T18:30:00Z: 02:30 of the next day
    let bytes = call.exchange.request(Timestamp::from_millis(1_795_717_800_000));
    let expected =
        [&[0xFE, 0xFE, 0x68][..], &[0x99; 6], &[0x68, 0x08, 6], &[0x33, 0x63, 0x35, 0x5A, 0x44, 0x59]];
    assert!(bytes.starts_with(&expected.concat()), "{bytes:02X?}");
    assert!(!Arc::ptr_eq(&call.counters, &bus.counters[0]));
    let (ticket, unit) = (call.ticket, UnitId(1));
    bus.handle_done(Done { ticket, unit, result: Ok(Answer::Unanswered), took: Duration::ZERO }, now);
    assert_eq!(told.try_recv(), Ok(Ok(Answer::Unanswered)));
    let station = &bus.stations[0];
    assert_eq!(
        (station.asked, station.not_before),
        (0, Some(at)),
        "nothing of it is under way, nor is it to rest"
    );
    assert!(!station.health.is_answering() && bus.take_said().is_none());
    // no other protocol has it
    let mut bus = bus_of(SITE, at);
    let (order_of_slave, mut told) = order(job, at + Duration::from_secs(60));
    bus.handle_order(order_of_slave);
    bus.handle_open(now);
    assert!(bus.take_order(0, at).is_none());
    assert_eq!(told.try_recv(), Ok(Err(OrderError::Impossible)));
}

/// A SunSpec device on a bus: what is asked of it, and what is said of its tags.
mod walk {
    use std::collections::BTreeMap;

    use tokio_modbus::{ExceptionCode, Request as Asked, Response};

    use super::super::*;
    use crate::clock;
    use crate::config;
    use crate::driver::Answer;
    use crate::driver::client::Request;
    use crate::scan::Scan;

    const SITE: &str = r#"
        [gateway]
        name = "n"
        enterprise = "e"
        [uplink.u]
        broker = "mqtt://127.0.0.1"
        [link.l]
        tcp = "127.0.0.1:502"
        [device.d]
        link = "l"
        retries = 0
        tags = [
          { name = "id", at = "sunspec:203+0" },
          { name = "power", at = "sunspec:203+2", type = "i16" },
          { name = "model", at = "sunspec:1+2", every = "1h" },
          { name = "plain", at = "hr:9" },
        ]
        "#;

    /// A bus, and the registers of the device on it.
    struct Scene {
        bus: Bus,
        site: Site,
        at: Instant,
        registers: BTreeMap<u16, u16>,
        /// It is silent where others refuse.
        is_silent: bool,
        is_busy: bool,
        /// What it says where it has no registers.
        refusal: ExceptionCode,
        asked: Vec<u16>,
    }

    impl Scene {
        fn new(base: u16, models: &[u16]) -> Scene {
            let site = config::parse("test.toml", SITE).site.unwrap();
            let channel = site.channels(0).pop().unwrap();
            let counters = Counters::new(1, site.devices.iter().map(|device| site.rates(device)));
            let at = clock::monotonic();
            let bus = Bus::new(&site, &channel, &counters, crate::poll::memory::open(&site).0, at).unwrap();
            let mut scene = Scene {
                bus,
                site,
                at,
                registers: BTreeMap::new(),
                is_silent: false,
                is_busy: false,
                refusal: ExceptionCode::IllegalDataAddress,
                asked: Vec::new(),
            };
            scene.lay(base, models);
            scene.bus.handle_open(scene.now());
            scene
        }

        /// From now on the device has its models there, and `hr:9`.
        fn lay(&mut self, base: u16, models: &[u16]) {
            self.registers.clear();
            let words = [&[0x5375, 0x6E53], models].concat();
            self.registers.extend((base..).zip(words));
            self.registers.insert(9, 99);
        }

        fn now(&self) -> Now {
            Now { at: self.at, stamp: clock::stamp(), wall: clock::wall() }
        }

        fn answer(&self, address: u16, count: u16) -> Result<Answer, Fault> {
            let words: Option<Vec<u16>> =
                (address..address + count).map(|address| self.registers.get(&address).copied()).collect();
            match words {
                Some(_) if self.is_busy => Ok(Answer::Exception(ExceptionCode::ServerDeviceBusy)),
                Some(words) => Ok(Answer::Response(Response::ReadHoldingRegisters(words))),
                None if self.is_silent => Err(Fault::Silent),
                None => Ok(Answer::Exception(self.refusal)),
            }
        }

        /// What is said in the next so many seconds: tags with their values, or why they have none.
        fn pass(&mut self, seconds: u64) -> Vec<String> {
            let end = self.at + Duration::from_secs(seconds);
            let mut said = Vec::new();
            loop {
                self.bus.handle_time(self.now());
                while let Some(Request::Modbus(call, _)) = self.bus.take_read(0, self.at) {
                    let Asked::ReadHoldingRegisters(address, count) = call.request else {
                        panic!("{call:?}")
                    };
                    self.asked.push(address);
                    let (ticket, unit, result) = (call.ticket, call.unit, self.answer(address, count));
                    let took = Duration::from_millis(1);
                    self.bus.handle_done(Done { ticket, unit, result, took }, self.now());
                }
                while let Some(polled) = self.bus.take_said() {
                    said.extend(self.shown(&polled));
                }
                match self.bus.next_due(self.at) {
                    Some(due) if due <= end => self.at = self.at.max(due),
                    _ => break,
                }
            }
            self.at = end;
            said
        }

        fn shown(&self, polled: &Polled) -> Vec<String> {
            let Polled::Scan(Scan { parts, result, .. }) = polled else { return vec![format!("{polled:?}")] };
            let name = |id: crate::tag::TagId| self.site.tags[id.index()].name.clone();
            let one = |part: &crate::scan::Part| match result {
                Ok(Data::Words(words)) => format!("{}={}", name(part.tag), words[usize::from(part.offset)]),
                Ok(_) => panic!("{result:?}"),
                Err(quality) => format!("{}!{}", name(part.tag), quality.id()),
            };
            parts.iter().map(one).collect()
        }
    }

    /// Common model of 2 registers, 203 of 2, end.
    const MODELS: [u16; 10] = [1, 2, 7, 8, 203, 2, 55, 56, 0xFFFF, 0];

    #[test]
    fn the_models_are_found_first_and_their_tags_are_read_where_they_lie() {
        let mut scene = Scene::new(40_000, &MODELS);
        let said = scene.pass(0);
        assert_eq!(scene.asked, [40_000, 40_002, 40_006, 40_010, 9, 40_004]);
        assert_eq!(said, ["plain=99", "model=7", "id=203", "power=55", "DeviceUp(DeviceId(0))"]);
        scene.asked.clear();
        assert_eq!(scene.pass(1), ["plain=99", "id=203", "power=55"]);
        assert_eq!(scene.asked, [9, 40_006], "it is known where they are");
    }

    #[test]
    fn behind_a_stream_that_was_opened_again_the_models_may_be_elsewhere() {
        let mut scene = Scene::new(50_000, &MODELS);
        assert!(scene.pass(0).contains(&"power=55".to_owned()));
        let moved: Vec<u16> = [vec![64_001, 1, 0], MODELS.to_vec()].concat();
        scene.lay(50_000, &moved);
        scene.asked.clear();
        scene.bus.handle_lost(Vec::new(), &Fault::Silent, scene.now());
        scene.bus.handle_open(scene.now());
        assert_eq!(scene.pass(1), ["plain=99", "id=203", "power=55", "model=7"]);
        assert_eq!(scene.asked, [40_000, 50_000, 50_002, 50_005, 50_009, 50_013, 9, 50_009, 50_007]);
    }

    #[test]
    fn a_tag_of_a_model_that_is_not_there_is_bad_and_is_looked_for_again() {
        let mut scene = Scene::new(0, &[1, 2, 7, 8, 203, 0, 0xFFFF, 0]);
        scene.registers.insert(9, 99);
        let said = scene.pass(0);
        assert!(
            said.contains(&"power!bad:config".to_owned()) && said.contains(&"id=203".to_owned()),
            "{said:?}"
        );
        // what was found where it was is news to nobody: what is read hourly is not read each minute
        scene.asked.clear();
        let said = scene.pass(90);
        assert!(said.iter().all(|said| !said.starts_with("power") && !said.starts_with("model")), "{said:?}");
        assert!(scene.asked.contains(&40_000) && !scene.asked.contains(&4), "{:?}", scene.asked);
        scene.registers.insert(7, 2); // the length of model 203
        scene.registers.extend([(8, 55), (9, 99), (10, 0xFFFF), (11, 0)]);
        let said = scene.pass(61);
        assert!(said.contains(&"power=55".to_owned()), "{said:?}");
        // a device without any
        let mut scene = Scene::new(40_000, &MODELS);
        scene.registers.retain(|address, _| *address == 9);
        let said = scene.pass(0);
        assert_eq!(said.iter().filter(|said| said.ends_with("!bad:config")).count(), 3, "{said:?}");
        assert!(
            said.contains(&"plain=99".to_owned()) && said.ends_with(&["DeviceUp(DeviceId(0))".to_owned()])
        );
    }

    #[test]
    fn a_device_that_is_silent_about_what_it_does_not_have_is_found_all_the_same() {
        let mut scene = Scene::new(0, &[1, 2, 7, 8, 203, 4, 55, 99, 56, 57, 0xFFFF, 0]);
        scene.is_silent = true;
        let said = scene.pass(30);
        assert!(said.contains(&"power=55".to_owned()), "{said:?}");
        // one that goes away and comes back has its models looked for again
        scene.registers.clear();
        let said = scene.pass(30);
        assert!(said.iter().any(|said| said.starts_with("DeviceDown(DeviceId(0)")), "{said:?}");
        scene.lay(40_000, &MODELS);
        let said = scene.pass(30);
        assert!(said.contains(&"power=55".to_owned()) && said.contains(&"plain=99".to_owned()), "{said:?}");
    }

    #[test]
    fn a_device_that_is_busy_has_its_models_all_the_same() {
        let mut scene = Scene::new(40_000, &MODELS);
        scene.is_busy = true;
        let said = scene.pass(20);
        assert!(!said.iter().any(|said| said.ends_with("!bad:config")), "{said:?}");
        scene.is_busy = false;
        let said = scene.pass(3);
        assert!(said.contains(&"power=55".to_owned()) && said.contains(&"model=7".to_owned()), "{said:?}");
    }

    #[test]
    fn a_device_that_refuses_in_another_way_has_its_models_too() {
        for refusal in [ExceptionCode::ServerDeviceFailure, ExceptionCode::IllegalFunction] {
            let mut scene = Scene::new(50_000, &MODELS);
            scene.refusal = refusal;
            let said = scene.pass(3);
            assert!(said.contains(&"power=55".to_owned()), "{refusal:?}: {said:?}");
        }
    }
}
