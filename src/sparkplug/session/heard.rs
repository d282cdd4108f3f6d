//! What a broker delivers to the node: the state of its primary host, and what hosts ask of it.

use std::time::{Duration, Instant};

use prost::Message as _;

use super::{NEXT_SERVER, REBIRTH, RELOAD, Session};
use crate::reading::Timestamp;
use crate::sparkplug::proto::Payload;
use crate::sparkplug::proto::payload::metric;

/// Births asked for oftener than this are born together, a while later.
const REBIRTH_MIN: Duration = Duration::from_secs(1);
/// A longer command is none: decoded it may take two hundred times as much.
const COMMAND_SIZE_MAX: usize = 64 << 10;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that this session understands or minds.
    Nothing,
    /// Everything is to be born again, which is done soon.
    Rebirth,
    /// The primary host is there.
    HostOnline,
    /// The primary host is not there.
    HostOffline,
    /// The node is to go on to the next server.
    NextServer,
    /// The configuration is to be taken over anew.
    Reload,
}

/// When births were sent last, and when those are due that have been asked for since.
#[derive(Debug, Default)]
pub(super) struct Rebirth {
    pub(super) last: Option<Instant>,
    pub(super) due: Option<Instant>,
}

impl Session {
    /// A message that the broker delivered, and what it says. A command that asks for a rebirth is obeyed, a burst of them
    /// once; anything that is not understood, garbage included, is passed over, and so is a command that the server had
    /// kept for whoever comes.
    pub fn handle_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Heard {
        if let Some(host) = &mut self.host
            && topic == host.topic()
        {
            return match host.handle_message(topic, payload) {
                Some(true) => Heard::HostOnline,
                Some(false) => Heard::HostOffline,
                None => Heard::Nothing,
            };
        }
        if is_retained || topic != self.node.node_commands() || payload.len() > COMMAND_SIZE_MAX {
            return Heard::Nothing;
        }
        let Ok(payload) = Payload::decode(payload) else { return Heard::Nothing };
        let asks = |name: &str| {
            let is_true = Some(metric::Value::BooleanValue(true));
            payload
                .metrics
                .iter()
                .any(|metric| metric.name.as_deref() == Some(name) && metric.value == is_true)
        };
        let commands = &self.site.commands;
        let (may, sent_at) = (commands.node_control, payload.timestamp.unwrap_or_default());
        let age_max = u64::try_from(commands.max_age.as_millis()).unwrap_or(u64::MAX);
        if commands.uplinks.contains(&self.uplink) && wall.millis().abs_diff(sent_at) <= age_max {
            if may.next_server && asks(NEXT_SERVER) {
                return Heard::NextServer;
            }
            if may.reload && asks(RELOAD) {
                return Heard::Reload;
            }
        }
        if !asks(REBIRTH) {
            return Heard::Nothing;
        }
        if self.live.is_some() {
            let soonest = self.rebirth.last.map_or(now, |last| last + REBIRTH_MIN);
            self.rebirth.due.get_or_insert(soonest.max(now));
        }
        Heard::Rebirth
    }

    /// When births are due that were asked for.
    #[must_use]
    pub fn rebirth_due(&self) -> Option<Instant> {
        self.rebirth.due
    }

    /// Bears everything again if that is due.
    pub fn handle_due(&mut self, now: Instant, wall: Timestamp) {
        if self.rebirth.due.is_some_and(|due| due <= now) {
            self.rebirth = Rebirth { last: Some(now), due: None };
            self.bear_again(wall);
        }
    }
}
