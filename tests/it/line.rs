//! A serial line whose device answers late: no register's value may ever be taken for another's.

use std::sync::Arc;
use std::time::Duration;

use tidegate::config::site::{self, Endpoint, Framing, Parity, SerialLine};
use tidegate::counters::Counters;
use tidegate::driver::Answer;
use tidegate::driver::modbus::client::Client;
use tidegate::link::Link;
use tidegate::sim::faults::{Fault, Faults, Spoil, When};
use tidegate::sim::floor::{Device, Floor, Layout, Motion, Order, Point, Table};
use tidegate::sim::serve::{FarEnd, Line, Shared};
use tidegate::tag::UnitId;
use tokio::task::JoinSet;
use tokio_modbus::{Request, Response};

const TIMEOUT: Duration = Duration::from_millis(60);

/// Two registers each, which hold their own place: 10, 20, 30, 40.
const POINTS: &[Point] = &[at(10), at(20), at(30), at(40)];

const fn at(address: u16) -> Point {
    let motion = Motion::Ramp { start: address as i64, step: 0 };
    Point {
        name: "place",
        table: Table::HoldingRegisters,
        address,
        layout: Layout::Integer32(Order::Abcd),
        motion,
    }
}

const LINE: SerialLine = SerialLine { baud: 115_200, data_bits: 8, parity: Parity::None, stop_bits: 1 };

/// Answers every request in order, each so much later than a sound device.
fn serve_late(line: Line, delay: Duration) -> impl Future<Output = ()> {
    let floor = Floor::new(vec![Device { name: "late", link: "l", unit: 1, points: POINTS }]);
    let far = FarEnd::new("l", Framing::Rtu, Shared::new(floor));
    far.set_faults(Faults::new(0, vec![Fault::new(When::Always, Spoil::Late(delay, delay))]));
    far.serve_line(line, LINE)
}

fn client(path: &std::path::Path) -> Client {
    let endpoint = Endpoint::Serial { port: path.to_owned(), line: LINE };
    let link = site::Link { name: "l".into(), endpoint, framing: Framing::Rtu };
    Client::new(Link::new(&link), Arc::new(Counters::default()))
}

/// Asks for the places in turn; each value that is taken must be the one that was asked for. How many were.
async fn read_places(client: &mut Client, rounds: usize) -> usize {
    let mut taken = 0;
    for place in [10, 20, 30, 40].into_iter().cycle().take(rounds) {
        let answer = client.call(UnitId(1), Request::ReadHoldingRegisters(place, 2), TIMEOUT).await;
        if let Ok(Answer::Response(Response::ReadHoldingRegisters(words))) = answer {
            assert_eq!(words, [0, place], "hr:{place} got the value of another");
            taken += 1;
        }
    }
    taken
}

async fn check_late(delay: Duration, taken_min: usize) {
    let line = Line::open().unwrap();
    let path = line.path.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_late(line, delay));
    let mut client = client(&path);
    let taken = read_places(&mut client, 12).await;
    assert!(taken >= taken_min, "{taken} taken at a delay of {delay:?}");
}

#[tokio::test]
async fn an_answer_in_time_is_taken() {
    check_late(TIMEOUT / 4, 12).await;
}

#[tokio::test]
async fn an_answer_after_one_timeout_or_two_is_never_taken_for_the_next_ones() {
    check_late(TIMEOUT * 3 / 2, 0).await;
    check_late(TIMEOUT * 5 / 2, 0).await;
}

#[tokio::test]
async fn an_answer_to_what_was_asked_before_the_port_was_opened_is_never_taken() {
    let line = Line::open().unwrap();
    let path = line.path.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_late(line, TIMEOUT / 2));
    let mut first = client(&path);
    let asked = first.call(UnitId(1), Request::ReadHoldingRegisters(10, 2), TIMEOUT);
    // the first request may wait for the line to be quiet before it goes out
    assert!(tokio::time::timeout(TIMEOUT + TIMEOUT / 4, asked).await.is_err());
    drop(first);
    let mut second = client(&path);
    assert_eq!(read_places(&mut second, 8).await, 8);
}
