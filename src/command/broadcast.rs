//! The time told to the meters of one stream: recorded, sent once in each way that they hear, and recorded again.
//!
//! No meter answers a broadcast, so that at best it is not known what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tracing::{error, info, warn};

use super::audit::Audit;
use super::daily::Due;
use super::wording;
use super::work::order;
use crate::clock;
use crate::poll::lane::{Job, Lane, OrderError};
use crate::tag::DeviceId;
use crate::write::WriteResult;

/// What is told of a broadcast that was sent.
const SENT: &str = "no meter answers a broadcast: whether any has followed is not known";

/// What one stream is told on one day.
#[derive(Debug)]
pub(super) struct Broadcast {
    /// The link, by name.
    pub(super) link: Arc<str>,
    /// The time of day that is wanted, as it is written.
    pub(super) time: String,
    pub(super) zone: TimeZone,
    pub(super) day: Date,
    pub(super) due: Due,
    /// The devices as which all are told, with their names.
    pub(super) devices: Vec<(DeviceId, Arc<str>)>,
    pub(super) not_after: Instant,
    pub(super) lanes: BTreeMap<DeviceId, Lane>,
    pub(super) audit: Audit,
}

/// What became of it, and why.
type Told = (WriteResult, String);

impl Broadcast {
    /// One after the other: a bus takes one order at a time.
    pub(super) async fn perform(&self) {
        for (device, name) in &self.devices {
            if self.record(name, "wanted", "").await.is_err() {
                continue; // it says so in the log, and nothing is sent that is not recorded
            }
            let (result, reason) = self.tell(*device).await;
            if result == WriteResult::Refused {
                warn!(link = %self.link, device = %name, reason, "the time is not told");
            } else {
                info!(link = %self.link, device = %name, result = result.word(), reason, "the time is told");
            }
            self.record(name, result.word(), &reason).await.ok(); // it says so in the log
        }
    }

    async fn tell(&self, device: DeviceId) -> Told {
        let refused =
            |why: &str| (WriteResult::Refused, format!("not sent: {why}; it is due again tomorrow"));
        match self.due {
            Due::Now => {}
            Due::Untrusted => return refused("the system clock is not trusted"),
            Due::Over => {
                return refused("the system clock was set past the time, or the gateway was held up");
            }
        }
        let job = Job::BroadcastTime(self.zone.clone());
        match order(&self.lanes, device, job, self.not_after, true).await {
            Ok(_) => (WriteResult::Unclear, SENT.to_owned()),
            Err(OrderError::Unclear(_)) => {
                (WriteResult::Unclear, format!("the link was lost while it was sent; {SENT}"))
            }
            Err(OrderError::TooLate | OrderError::Down) => refused("the line was not free in time"),
            Err(OrderError::Impossible) => refused("no such meter on this line"),
        }
    }

    /// Adds a line to the record.
    async fn record(&self, name: &str, event: &str, reason: &str) -> Result<(), ()> {
        let record = wording::Broadcast {
            id: format!("{} {} {name}", self.link, self.day),
            link: &self.link,
            device: name,
            time: &self.time,
        };
        let line = record.record(event, reason, clock::wall());
        self.audit.append(line, true).await.map_err(|error| {
            error!(%error, link = %self.link, event, "the broadcast of the time could not be recorded: is state_dir writable?");
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::calendar::zone;
    use crate::driver::Answer;
    use crate::poll::lane::Order;

    struct Bench {
        broadcast: Broadcast,
        orders: mpsc::Receiver<Order>,
        folder: tempfile::TempDir,
    }

    /// Two ways on one stream, which are due so.
    fn bench(due: Due) -> Bench {
        let (sender, orders) = mpsc::channel(1);
        let folder = tempfile::tempdir().unwrap();
        let devices = [(DeviceId(0), "a".into()), (DeviceId(1), "b".into())];
        let lane = Lane { bus: 0, orders: sender };
        let broadcast = Broadcast {
            link: "l".into(),
            time: "02:30".to_owned(),
            zone: zone("Asia/Shanghai").unwrap(),
            day: jiff::civil::date(2026, 11, 27),
            due,
            lanes: devices.iter().map(|(id, _)| (*id, lane.clone())).collect(),
            devices: devices.into(),
            not_after: clock::monotonic() + Duration::from_secs(60),
            audit: Audit::new(folder.path()),
        };
        Bench { broadcast, orders, folder }
    }

    /// What is recorded where the bus says this to each order, and how many orders there were.
    async fn recorded(bench: Bench, said: Result<Answer, OrderError>) -> (Vec<String>, usize) {
        let Bench { broadcast, mut orders, folder } = bench;
        let work = async move {
            broadcast.perform().await;
            drop(broadcast);
        };
        let bus = async {
            let mut count = 0;
            while let Some(order) = orders.recv().await {
                assert!(order.is_patient && matches!(order.job, Job::BroadcastTime(_)));
                assert_eq!(order.device, DeviceId(count), "one after the other");
                order.outcome.send(said.clone()).unwrap();
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(work, bus);
        let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
        let line = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| record[key].as_str().unwrap().to_owned();
            assert_eq!(
                (word("by"), word("link"), word("value")),
                ("broadcast_time".into(), "l".into(), "02:30".into())
            );
            format!("{} {}: {}", word("id"), word("event"), word("reason"))
        };
        (text.lines().map(line).collect(), usize::try_from(count).unwrap())
    }

    /// The event and the reason of both ways.
    #[track_caller]
    fn check((lines, count): (Vec<String>, usize), is_ordered: bool, sequel: &str) {
        let of =
            |name: &str| [format!("l 2026-11-27 {name} wanted: "), format!("l 2026-11-27 {name} {sequel}")];
        assert_eq!((lines, count), ([of("a"), of("b")].concat(), if is_ordered { 2 } else { 0 }));
    }

    #[tokio::test]
    async fn what_was_sent_is_unclear_and_what_was_not_is_refused() {
        let told = recorded(bench(Due::Now), Ok(Answer::Unanswered)).await;
        check(told, true, "unclear: no meter answers a broadcast: whether any has followed is not known");
        let told = recorded(bench(Due::Now), Err(OrderError::Unclear(Duration::ZERO))).await;
        check(
            told,
            true,
            "unclear: the link was lost while it was sent; no meter answers a broadcast: whether any has followed is not known",
        );
        let told = recorded(bench(Due::Now), Err(OrderError::TooLate)).await;
        check(told, true, "refused: not sent: the line was not free in time; it is due again tomorrow");
        let told = recorded(bench(Due::Untrusted), Ok(Answer::Unanswered)).await;
        check(told, false, "refused: not sent: the system clock is not trusted; it is due again tomorrow");
        let told = recorded(bench(Due::Over), Ok(Answer::Unanswered)).await;
        check(
            told,
            false,
            "refused: not sent: the system clock was set past the time, or the gateway was held up; it is due again tomorrow",
        );
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_not_sent() {
        let bench = bench(Due::Now);
        std::fs::create_dir(bench.folder.path().join("audit.log")).unwrap();
        assert_eq!(recorded(bench, Ok(Answer::Unanswered)).await, (Vec::new(), 0));
    }
}
