//! Whether a broker passes on what it acknowledges: it is asked to hand our own messages back. Pure.
//!
//! Over MQTT 3.1.1 a broker whose access list forbids a publication acknowledges it as if it were stored, and over both
//! versions it drops a forbidden one at QoS 0 without a word: readings would count as delivered and be gone. So each
//! connection subscribes to its own barrier, and to the first message of each kind that matters just before it is sent.
//! What came back is no longer subscribed to: a connection that is as it should be pays for three messages. JSON has no
//! barrier, for each of its messages is acknowledged by itself: the first status and the first reading are asked back.
//!
//! A message counts as dropped when the broker *granted* the subscription and has *acknowledged* the message, or one after
//! it (it reads in order), and has not handed it back within [`PATIENCE`]. What that means:
//!
//! | topic | means | becomes |
//! |---|---|---|
//! | the barrier | publishing or reading it is forbidden: what it proves is worth nothing | the end of the connection; readings stay |
//! | a birth, data, JSON | publishing *or* reading is forbidden, and nobody can tell which | once the same; from the second time on a warning that names both |
//!
//! The barrier is ours alone, so that an access list can be asked to allow both (docs/configuration.md). For births and data
//! reading is not needed otherwise, and careful lists forbid it: ending every connection would keep a gateway away from a
//! broker that takes everything. Ending the first one costs one more birth, and a list that was put right meanwhile
//! loses nothing. Until it is known, nothing counts as surely delivered. A subscription that is refused tells nothing and
//! is said once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a message that the broker has surely read may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest message that is asked back: it must be cheap, and fit what is taken from a broker.
const ECHO_SIZE_MAX: usize = 64 << 10;
/// So many connections in a row that ended while such a subscription was not answered show that it is what ends them.
const DEATHS_MAX: u32 = 2;

/// What is asked back from one broker, and what came.
#[derive(Debug)]
pub(super) struct SelfTest {
    /// None in JSON.
    barrier: Option<String>,
    /// The first subscription of a connection is to plans.
    has_plan: bool,
    /// The barrier first, where there is one.
    echoes: Vec<Echo>,
    /// Subscriptions of this connection.
    subscriptions: usize,
    /// Publications at QoS 1 that are not acknowledged.
    unacknowledged: VecDeque<Unacknowledged>,
    /// Whether a barrier was sent on this connection: without one there is nothing to come back.
    is_barrier_sent: bool,
    /// Connections in a row that ended at a subscription of ours.
    deaths: u32,
    /// Kinds that did not come back the last time.
    doubts: Vec<Kind>,
    /// Topics of which something was said once.
    told: Vec<String>,
}

/// A message that is to come back.
#[derive(Debug)]
struct Echo {
    topic: String,
    kind: Kind,
    /// Which subscription it is.
    index: usize,
    state: State,
    /// The broker has surely read it, since then.
    read: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Barrier,
    NodeBirth,
    DeviceBirth,
    DeviceData,
    /// In JSON: of the gateway or a device.
    Status,
    /// In JSON: of a tag or a device.
    Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The subscription is not answered.
    Asked,
    /// It is granted.
    Granted,
    /// The message is back, or will not come: the subscription is to be ended.
    Settled,
    /// Nothing more is to be done.
    Over,
}

#[derive(Debug)]
struct Unacknowledged {
    topic: String,
    /// Echoes that were sent before it, or are it.
    echoes: usize,
}

/// What was found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is of no use: why.
    Useless(String),
    /// A person should look: at what.
    Warning(String),
}

impl SelfTest {
    /// Of a gateway whose barrier has this topic; without a barrier: of JSON. `has_plan`: the first subscription of a connection
    /// is to plans, with the barrier behind them where there is one.
    pub(super) fn new(barrier: Option<String>, has_plan: bool) -> SelfTest {
        SelfTest {
            barrier,
            has_plan,
            echoes: Vec::new(),
            subscriptions: 0,
            unacknowledged: VecDeque::new(),
            is_barrier_sent: false,
            deaths: 0,
            doubts: Vec::new(),
            told: Vec::new(),
        }
    }

    /// A connection is to begin. Its first subscription has the barrier as its last filter, where there is one.
    pub(super) fn handle_start(&mut self) -> Option<Verdict> {
        self.echoes.clear();
        self.unacknowledged.clear();
        self.is_barrier_sent = false;
        self.subscriptions = usize::from(self.has_plan && self.barrier.is_none());
        if let Some(barrier) = self.barrier.clone() {
            self.ask(&barrier, Kind::Barrier);
        }
        if self.deaths < DEATHS_MAX {
            return None;
        }
        let message = format!(
            "{DEATHS_MAX} connections in a row ended before the broker had answered a subscription of the self-test: this \
             one goes without, and it is not known whether the broker passes on what it acknowledges; does it hang up on \
             a client that subscribes to what it publishes?"
        );
        self.tell_once("self-test".to_owned(), message)
    }

    /// The connection has ended. One that went without is followed by one that asks again.
    pub(super) fn handle_end(&mut self) {
        let is_asking =
            self.echoes.iter().any(|echo| echo.kind != Kind::Barrier && echo.state == State::Asked);
        self.deaths = if is_asking { self.deaths.saturating_add(1) } else { 0 };
    }

    /// What is to be subscribed to before a message of `size` bytes is sent; `has_readings`: it carries some.
    pub(super) fn filter_before(&mut self, topic: &str, size: usize, has_readings: bool) -> Option<String> {
        let kind = match self.barrier {
            Some(_) => kind(topic)?,
            None if has_readings => Kind::Reading,
            None => Kind::Status,
        };
        if size > ECHO_SIZE_MAX
            || self.deaths >= DEATHS_MAX
            || self.echoes.iter().any(|echo| echo.kind == kind)
        {
            return None;
        }
        self.ask(topic, kind);
        Some(topic.to_owned())
    }

    fn ask(&mut self, topic: &str, kind: Kind) {
        let index = self.subscriptions;
        self.subscriptions += 1;
        self.echoes.push(Echo { topic: topic.to_owned(), kind, index, state: State::Asked, read: None });
    }

    /// A message was handed over.
    pub(super) fn handle_sent(&mut self, topic: &str, is_acknowledged: bool) {
        self.is_barrier_sent |= self.barrier.as_deref() == Some(topic);
        if is_acknowledged {
            let echoes = self.echoes.len();
            self.unacknowledged.push_back(Unacknowledged { topic: topic.to_owned(), echoes });
        }
    }

    /// The broker has answered a subscription; `refusal` is that of the last filter.
    pub(super) fn handle_subscribed(&mut self, index: usize, refusal: Option<&str>) -> Option<Verdict> {
        let echo = self.echoes.iter_mut().find(|echo| echo.index == index && echo.state == State::Asked)?;
        let Some(refusal) = refusal else {
            echo.state = State::Granted;
            return None;
        };
        echo.state = State::Over;
        let topic = echo.topic.clone();
        let message = format!(
            "the broker does not hand back {topic} ({refusal}): whether it passes on what is sent there is not known"
        );
        self.tell_once(topic, message)
    }

    /// The oldest publication at QoS 1 is acknowledged.
    pub(super) fn handle_acknowledged(&mut self, now: Instant) {
        let Some(Unacknowledged { topic, echoes }) = self.unacknowledged.pop_front() else { return };
        for echo in self.echoes.iter_mut().take(echoes) {
            if echo.kind != Kind::Barrier || echo.topic == topic {
                echo.read.get_or_insert(now);
            }
        }
    }

    /// The topic of the publication at QoS 1 with so many before it that are not acknowledged.
    pub(super) fn topic_behind(&self, behind: usize) -> &str {
        self.unacknowledged.get(behind).map_or("a message", |one| one.topic.as_str())
    }

    /// A message has come; whether it is one of ours. One that the broker had kept proves nothing.
    pub(super) fn handle_message(&mut self, topic: &str, is_retained: bool) -> bool {
        let Some(echo) = self.echoes.iter_mut().find(|echo| echo.topic == topic) else { return false };
        if !is_retained && matches!(echo.state, State::Asked | State::Granted) {
            echo.state = State::Settled;
            let kind = echo.kind;
            self.doubts.retain(|doubted| *doubted != kind);
        }
        true
    }

    /// A subscription that has done its service.
    pub(super) fn poll_settled(&mut self) -> Option<String> {
        let echo = self.echoes.iter_mut().find(|echo| echo.state == State::Settled)?;
        echo.state = State::Over;
        Some(echo.topic.clone())
    }

    /// Whether what the broker has acknowledged may still turn out to be worth nothing.
    pub(super) fn is_open(&self) -> bool {
        self.echoes.iter().any(|echo| match echo.state {
            State::Asked => echo.kind == Kind::Barrier, // nothing is sent before that is answered
            State::Granted => echo.kind != Kind::Barrier || self.is_barrier_sent,
            State::Settled | State::Over => false,
        })
    }

    /// Whether it could be told by a barrier, and none was sent yet.
    pub(super) fn wants_barrier(&self) -> bool {
        let is_granted = |echo: &Echo| echo.kind == Kind::Barrier && echo.state == State::Granted;
        !self.is_barrier_sent && self.echoes.first().is_some_and(is_granted)
    }

    /// When something is to be judged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.echoes.iter().filter_map(Echo::due).min()
    }

    /// What is to be said of what has not come back by now.
    pub(super) fn poll_verdict(&mut self, now: Instant) -> Option<Verdict> {
        let echo = self.echoes.iter_mut().find(|echo| echo.due().is_some_and(|due| due <= now))?;
        echo.state = State::Settled;
        let (topic, seconds) = (echo.topic.clone(), PATIENCE.as_secs());
        if echo.kind == Kind::Barrier {
            return Some(Verdict::Useless(format!(
                "the broker acknowledges {topic} and does not hand it back within {seconds} s, so that its \
                 acknowledgements prove nothing: its access list (ACL) must let this client publish and read it"
            )));
        }
        let message = format!(
            "the broker has read {topic} and did not hand it back within {seconds} s: its access list (ACL) lets this \
             client not publish it, and then readings are dropped, or not read it, and then all is well; allow both to be \
             sure"
        );
        if self.doubts.contains(&echo.kind) {
            return self.tell_once(topic, message);
        }
        let missing = self.echoes.iter().filter(|echo| echo.topic == topic || echo.due().is_some());
        self.doubts.extend(missing.map(|echo| echo.kind).filter(|kind| *kind != Kind::Barrier));
        Some(Verdict::Useless(format!("{message} (all is sent once more, to see whether that lasts)")))
    }

    fn tell_once(&mut self, topic: String, message: String) -> Option<Verdict> {
        if self.told.contains(&topic) || self.told.len() >= 16 {
            return None;
        }
        self.told.push(topic);
        Some(Verdict::Warning(message))
    }
}

impl Echo {
    fn due(&self) -> Option<Instant> {
        self.read.filter(|_| self.state == State::Granted).map(|read| read + PATIENCE)
    }
}

/// What kind of message of Sparkplug is asked back; the others say nothing new.
fn kind(topic: &str) -> Option<Kind> {
    let mut parts = topic.split('/');
    match (parts.next(), parts.nth(1)) {
        (Some("spBv1.0"), Some("NBIRTH")) => Some(Kind::NodeBirth),
        (Some("spBv1.0"), Some("DBIRTH")) => Some(Kind::DeviceBirth),
        (Some("spBv1.0"), Some("DDATA")) => Some(Kind::DeviceData),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARRIER: &str = "tidegate/e/n/barrier";
    const BIRTH: &str = "spBv1.0/e/NBIRTH/n";
    const DATA: &str = "spBv1.0/e/DDATA/n/press";

    fn started() -> (SelfTest, Instant) {
        of(Some(BARRIER))
    }

    fn of(barrier: Option<&str>) -> (SelfTest, Instant) {
        let mut test = SelfTest::new(barrier.map(str::to_owned), false);
        assert_eq!(test.handle_start(), None);
        (test, crate::clock::monotonic())
    }

    fn born(test: &mut SelfTest) {
        assert_eq!(test.handle_subscribed(0, None), None);
        assert_eq!(test.filter_before(BIRTH, 100, false).as_deref(), Some(BIRTH));
        test.handle_sent(BIRTH, false);
        test.handle_sent(BARRIER, true);
        assert_eq!(test.handle_subscribed(1, None), None);
    }

    #[test]
    fn what_comes_back_is_asked_for_no_longer() {
        let (mut test, now) = started();
        assert!(test.is_open());
        born(&mut test);
        assert_eq!(test.filter_before("spBv1.0/e/NBIRTH/n", 100, false), None, "once a connection");
        assert_eq!(test.filter_before(DATA, 100, true).as_deref(), Some(DATA));
        test.handle_acknowledged(now);
        assert!(test.handle_message(BIRTH, false));
        assert!(test.handle_message(BARRIER, false));
        assert!(!test.handle_message("spBv1.0/e/NCMD/n", false));
        assert!(!test.is_open());
        let settled: Vec<String> = std::iter::from_fn(|| test.poll_settled()).collect();
        assert_eq!(settled, [BARRIER, BIRTH]);
        assert_eq!(test.poll_verdict(now + PATIENCE * 9), None);
        assert!(test.handle_message(BIRTH, false), "one that was under way");
        assert_eq!(test.poll_settled(), None);
    }

    #[test]
    fn a_barrier_that_is_acknowledged_and_does_not_come_back_makes_the_connection_useless() {
        let (mut test, now) = started();
        born(&mut test);
        assert_eq!((test.due(), test.poll_verdict(now + PATIENCE * 9)), (None, None), "it may be slow");
        test.handle_acknowledged(now);
        assert_eq!(test.due(), Some(now + PATIENCE));
        assert_eq!(test.poll_verdict(now + PATIENCE - Duration::from_millis(1)), None);
        let Some(Verdict::Useless(said)) = test.poll_verdict(now + PATIENCE) else { panic!("no verdict") };
        assert!(said.contains("tidegate/e/n/barrier") && said.contains("access list (ACL)"), "{said}");
    }

    /// A connection of which only the barrier comes back.
    fn birth_missing(test: &mut SelfTest, now: Instant) -> Option<Verdict> {
        test.handle_start();
        born(test);
        test.handle_acknowledged(now);
        test.handle_message(BARRIER, false);
        assert!(test.is_open(), "nothing is sure before it is judged");
        let verdict = test.poll_verdict(now + PATIENCE);
        assert!(!test.is_open());
        test.handle_end();
        verdict
    }

    #[test]
    fn a_birth_that_does_not_come_back_is_tried_again_and_then_told_once_with_both_reasons() {
        let (mut test, now) = started();
        let first = birth_missing(&mut test, now);
        assert!(
            matches!(&first, Some(Verdict::Useless(said)) if said.contains("sent once more")),
            "{first:?}"
        );
        let Some(Verdict::Warning(said)) = birth_missing(&mut test, now) else { panic!("no warning") };
        assert!(
            said.contains(BIRTH) && said.contains("not publish it") && said.contains("not read it"),
            "{said}"
        );
        assert_eq!(birth_missing(&mut test, now), None);
        test.handle_start();
        born(&mut test);
        test.handle_message(BIRTH, false);
        test.handle_end();
        let anew = birth_missing(&mut test, now);
        assert!(matches!(anew, Some(Verdict::Useless(_))), "the list has changed: {anew:?}");
    }

    #[test]
    fn all_that_is_missing_is_tried_again_together() {
        let (mut test, now) = started();
        for connection in 0..2 {
            test.handle_start();
            born(&mut test);
            test.filter_before(DATA, 100, true);
            test.handle_sent(DATA, false);
            test.handle_subscribed(2, None);
            test.handle_sent(BARRIER, true);
            test.handle_acknowledged(now);
            test.handle_acknowledged(now);
            test.handle_message(BARRIER, false);
            let verdicts: Vec<Verdict> = std::iter::from_fn(|| test.poll_verdict(now + PATIENCE)).collect();
            let (useless, warnings): (Vec<_>, Vec<_>) =
                verdicts.iter().partition(|verdict| matches!(verdict, Verdict::Useless(_)));
            assert_eq!((useless.len(), warnings.len()), [(1, 1), (0, 1)][connection], "{verdicts:?}");
            test.handle_end();
        }
    }

    #[test]
    fn a_subscription_that_is_refused_tells_nothing_and_is_said_once() {
        let (mut test, now) = started();
        let said = test.handle_subscribed(0, Some("not authorised"));
        assert!(matches!(said, Some(Verdict::Warning(said)) if said.contains("(not authorised)")));
        assert!(!test.is_open());
        test.handle_sent(BARRIER, true);
        test.handle_acknowledged(now);
        assert_eq!((test.due(), test.poll_verdict(now + PATIENCE * 9)), (None, None));
        test.handle_start();
        assert_eq!(test.handle_subscribed(0, Some("not authorised")), None);
    }

    #[test]
    fn what_the_broker_had_kept_is_no_echo_and_an_acknowledgement_proves_only_what_was_before() {
        let (mut test, now) = of(None);
        assert_eq!(test.filter_before("plant/press/status", 9, false).as_deref(), Some("plant/press/status"));
        test.handle_subscribed(0, None);
        test.handle_sent("plant/press/status", true);
        let filter = test.filter_before("plant/press/temperature", 9, true);
        assert_eq!(filter.as_deref(), Some("plant/press/temperature"));
        test.handle_subscribed(1, None);
        test.handle_sent("plant/press/temperature", true);
        assert!(test.handle_message("plant/press/temperature", true));
        assert!(test.handle_message("plant/press/status", false));
        test.handle_acknowledged(now);
        assert_eq!((test.due(), test.is_open()), (None, true));
        assert_eq!(test.topic_behind(0), "plant/press/temperature");
        test.handle_acknowledged(now);
        assert_eq!(test.due(), Some(now + PATIENCE));
    }

    #[test]
    fn json_has_no_barrier_and_asks_a_status_and_a_reading_back_whatever_their_topics() {
        let (mut test, now) = of(None);
        assert!(!test.is_open() && !test.wants_barrier());
        for (index, (topic, has_readings)) in
            [("tidegate/n/status", false), ("spBv1.0/n/d/t", true)].into_iter().enumerate()
        {
            assert_eq!(test.filter_before(topic, 9, has_readings).as_deref(), Some(topic));
            assert_eq!(test.filter_before("tidegate/n/d/other", 9, has_readings), None, "one of each kind");
            test.handle_sent(topic, true);
            assert_eq!(test.handle_subscribed(index, None), None);
            test.handle_acknowledged(now);
        }
        assert!(test.handle_message("tidegate/n/status", false));
        let Some(Verdict::Useless(said)) = test.poll_verdict(now + PATIENCE) else { panic!("no verdict") };
        assert!(said.contains("spBv1.0/n/d/t"), "{said}");
    }

    #[test]
    fn a_large_message_is_not_asked_back_and_none_where_that_ends_connections() {
        let (mut test, _) = started();
        assert_eq!(test.filter_before(BIRTH, ECHO_SIZE_MAX + 1, false), None);
        for _ in 0..DEATHS_MAX {
            assert_eq!(test.handle_start(), None);
            test.handle_subscribed(0, None);
            assert!(test.filter_before(BIRTH, 100, false).is_some());
            test.handle_end(); // before the answer
        }
        let said = test.handle_start();
        assert!(matches!(&said, Some(Verdict::Warning(said)) if said.contains("goes without")), "{said:?}");
        test.handle_subscribed(0, None);
        assert_eq!(test.filter_before(BIRTH, 100, false), None);
        assert!(test.wants_barrier(), "the barrier is asked for all the same");
        test.handle_end();
        assert_eq!(test.handle_start(), None);
        assert!(test.filter_before(BIRTH, 100, false).is_some(), "the one after that asks again");
    }
}
