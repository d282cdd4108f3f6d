//! May this be written? Every rule that needs nothing read from the device, in the order in which they are told. Pure.
//!
//! What remains to be found out on the line is in the [`Plan`] that comes out; what remains to be done with an alarm, in the
//! [`AlarmOrder`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarm::{self, AlarmOrder};
use super::encode::encode_as;
use super::history::{History, Known};
use super::plan::{Check, Plan, Readback, Rule, Wanted, devices};
use crate::config::site::{self, Device, Layout, Operand, Site, Tag, WriteBy, WriteFunctions, WritePolicy};
use crate::poll::lane::Job;
use crate::reading::{Timestamp, Value};
use crate::scan::Data;
use crate::tag::{DataType, DeviceId, TagId, ValueType};
use crate::write::{ID_MAX, Requester, WriteRequest};

/// A command that has not reached the wire within this since it came is refused, however long `max_age` is.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Ids are kept so much longer than they could be taken for new.
const KEEP_SLACK: Duration = Duration::from_secs(1);
/// A value may be off the grid by so much of a step: decimals are not exact.
const GRID_SLACK: f64 = 1e-6;
/// With so many steps the grid is finer than a number can tell.
const STEPS_MAX: f64 = 1e9;

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For intervals.
    pub at: Instant,
    /// When the request came here, not after `at`.
    pub received: Instant,
    /// For the age of commands.
    pub wall: Timestamp,
    /// Whether the wall clock can be trusted.
    pub is_clock_trusted: bool,
}

/// What the rules allow.
#[derive(Debug)]
pub enum Admitted {
    /// Something is written to a device.
    Write(Plan),
    /// Something is done with an alarm: no device is asked, and no line is busy by it.
    Alarm(AlarmOrder),
}

/// The rules of a site, and what was asked before.
#[derive(Debug)]
pub struct Rules {
    site: Arc<Site>,
    /// What was asked before.
    pub history: History,
}

impl Rules {
    /// Nothing has been asked yet.
    #[must_use]
    pub fn new(site: Arc<Site>) -> Rules {
        Rules { site, history: History::default() }
    }

    /// What is to be done for `request`, where the rules allow it. `is_busy` says whether another command
    /// has the line of a device: it is asked of every device that would be read or written.
    ///
    /// # Errors
    /// The rule that forbids it, in words that tell what to do.
    pub fn admit(
        &mut self,
        request: &WriteRequest,
        is_busy: impl Fn(DeviceId) -> bool,
        now: Now,
    ) -> Result<Admitted, String> {
        self.check_sender(request)?;
        let send_by = now.at + time_left(request, &self.site.commands, now)?;
        let site = self.site.clone();
        let (device, tag) = target(&site, request)?;
        if let Some(control) = tag.control() {
            let may_have = |tag: &Tag| may_have(&site, &request.by, tag);
            let value = request.value.as_ref();
            let order = alarm::order(&site, (device, tag, control), value, may_have, send_by)?;
            self.check_new(request, now.at)?;
            return Ok(Admitted::Alarm(order));
        }
        let policy = tag.write.as_ref().ok_or_else(|| read_only(tag))?;
        let value = request.value.as_ref().ok_or("no value, or not one of its datatype")?;
        let data = encode_as(policy, value).map_err(|error| error.to_string())?;
        check_value(policy, value, &data)?;
        self.check_new(request, now.at)?;
        if let Some(wait) = self.history.wait(tag.id, policy.every, now.at) {
            return Err(format!("too fast: wait {} (write.every is {})", said(wait), said(policy.every)));
        }
        let checks = checks(&site, device, policy, value);
        let job = job(policy, &data);
        let readback = readback(&site, tag, policy, value, data);
        if devices(device.id, &checks, readback.as_ref()).into_iter().any(is_busy) {
            return Err("busy: another command is under way on this line".to_owned());
        }
        if let Some(within) = policy.arm
            && !self.history.is_armed(tag.id, request, within, now.at)
        {
            return Err(format!("armed: send it again within {}", said(within)));
        }
        let variants = variants(device);
        Ok(Admitted::Write(Plan { tag: tag.id, device: device.id, variants, checks, job, send_by, readback }))
    }

    /// Whether whoever sent it may command at all.
    fn check_sender(&self, request: &WriteRequest) -> Result<(), String> {
        if request.is_retained {
            return Err(
                "retained: what a broker keeps for later is never carried out; send it without `retain`"
                    .to_owned(),
            );
        }
        if !self.site.commands.enabled {
            return Err("commands are switched off: `enabled = true` in [commands] allows them".to_owned());
        }
        match &request.by {
            Requester::Uplink(name) if !self.site.commands.uplinks.contains(name) => {
                Err(format!("uplink `{name}` may not command: `uplinks` in [commands] does not name it"))
            }
            Requester::Uplink(_) | Requester::Local(_) => Ok(()),
        }
    }

    fn check_new(&mut self, request: &WriteRequest, now: Instant) -> Result<(), String> {
        if request.id.len() > ID_MAX {
            return Err(format!("the id is longer than {ID_MAX} bytes"));
        }
        let Requester::Uplink(uplink) = &request.by else { return Ok(()) }; // the id was made here
        let keep = self.site.commands.max_age * 2 + KEEP_SLACK;
        self.history.remember(uplink, &request.id, keep, now).map_err(|known| match known {
            Known::Repeated => "replayed: a command with this id has come before".to_owned(),
            Known::Full => "busy: too many commands in a short time; wait".to_owned(),
        })
    }
}

/// How long it may still take to reach the wire, if it is neither too old nor of another session.
fn time_left(request: &WriteRequest, commands: &site::Commands, now: Now) -> Result<Duration, String> {
    let age = age(request, commands, now)?;
    let waited = now.at.saturating_duration_since(now.received);
    if waited >= SEND_WITHIN {
        return Err(format!("expired: it has waited here for {}", said(waited)));
    }
    Ok(commands.max_age.saturating_sub(age).min(SEND_WITHIN - waited))
}

/// How old it is by the clocks of the day; a request from here has no age by them.
fn age(request: &WriteRequest, commands: &site::Commands, now: Now) -> Result<Duration, String> {
    if matches!(request.by, Requester::Local(_)) {
        return Ok(Duration::ZERO);
    }
    let Some(sent_at) = request.sent_at else {
        return Err("no timestamp: whether it is still meant cannot be told; send it with one".to_owned());
    };
    if !now.is_clock_trusted {
        return Err("the gateway's clock is not set yet: the age of a command cannot be told".to_owned());
    }
    let since = |later: Timestamp, earlier: Timestamp| {
        Duration::from_millis(later.millis().saturating_sub(earlier.millis()))
    };
    let (age, ahead, max_age) = (since(now.wall, sent_at), since(sent_at, now.wall), commands.max_age);
    if age > max_age {
        return Err(format!("expired: sent {} ago, commands.max_age is {}", said(age), said(max_age)));
    }
    if ahead > max_age {
        return Err(format!("its timestamp is {} ahead of the gateway's clock", said(ahead)));
    }
    if sent_at < request.session_since {
        return Err("sent before this session began: it was not meant for it; send it again".to_owned());
    }
    Ok(age)
}

/// What is meant, if it may be written at all.
fn target<'a>(site: &'a Site, request: &WriteRequest) -> Result<(&'a Device, &'a Tag), String> {
    let named = site.devices.iter().find(|device| *device.name == *request.device);
    let is_told = |device: &&Device| site.tags_of(device).iter().any(|tag| may_have(site, &request.by, tag));
    let Some(device) = named.filter(is_told) else {
        return Err(format!("there is no device `{}`", request.device));
    };
    let tag = request.tag_id.and_then(|id| site.tags.get(id.index()));
    let Some(tag) = tag.filter(|tag| tag.device == device.id && may_have(site, &request.by, tag)) else {
        return Err(format!("device `{}` has no tag `{}`", device.name, request.tag));
    };
    if !tag.takes_commands() {
        return Err(read_only(tag));
    }
    if !device.enabled {
        return Err(format!("device `{}` is switched off (enabled = false)", device.name));
    }
    Ok((device, tag))
}

fn read_only(tag: &Tag) -> String {
    format!("tag `{}` is read-only: a `write` in the configuration would allow it", tag.name)
}

/// Whether whoever asks may know that there is such a tag.
fn may_have(site: &Site, by: &Requester, tag: &Tag) -> bool {
    match by {
        Requester::Local(_) => true,
        Requester::Uplink(name) => {
            let uplink = site.uplinks.iter().find(|uplink| uplink.name == *name);
            uplink.is_some_and(|uplink| uplink.share.takes_tag(tag))
        }
    }
}

fn check_value(policy: &WritePolicy, value: &Value, data: &Data) -> Result<(), String> {
    let is_allowed = |operand: &Operand| {
        let allowed = match operand {
            Operand::Number(number) => Value::Double(*number),
            Operand::Flag(flag) => Value::Bool(*flag),
            Operand::Word(word) => Value::Text(word.as_str().into()),
        };
        encode_as(policy, &allowed).is_ok_and(|allowed| allowed == *data)
    };
    if !policy.allow.is_empty() && !policy.allow.iter().any(is_allowed) {
        let all: Vec<String> = policy.allow.iter().map(ToString::to_string).collect();
        return Err(format!("{value} is not allowed: write.allow has {}", all.join(", ")));
    }
    if policy.words.is_some() || policy.layout.value_type() == ValueType::Bool {
        return Ok(());
    }
    let number = value.decimal().ok_or("not a number")?;
    if let Some(min) = policy.min.filter(|min| number < *min) {
        return Err(format!("out of range: {number} is below write.min, {min}"));
    }
    if let Some(max) = policy.max.filter(|max| number > *max) {
        return Err(format!("out of range: {number} is above write.max, {max}"));
    }
    policy.step.map_or(Ok(()), |step| check_grid(number, policy.min.unwrap_or(0.0), step))
}

/// Whether `number` is so many whole steps from `first`.
fn check_grid(number: f64, first: f64, step: f64) -> Result<(), String> {
    let steps = (number - first) / step;
    if steps.abs() > STEPS_MAX {
        return Err(format!("whether {number} is on the grid of write.step, {step}, cannot be told"));
    }
    if (steps - steps.round()).abs() <= GRID_SLACK {
        return Ok(());
    }
    let near = first + steps.round() * step;
    Err(format!("off the grid: write.step is {step}, the nearest value is {near}"))
}

/// Of each variant that the device may be of, what it must show right before the write.
fn variants(device: &Device) -> Vec<Vec<Check>> {
    let check = |probe: &site::Probe| Check {
        reads: vec![(device.id, probe.layout.span)],
        rule: Rule::Probe(probe.layout, probe.test.clone()),
    };
    device.variants.iter().map(|variant| variant.probes.iter().map(check).collect()).collect()
}

/// What else must be read right before the write.
fn checks(site: &Site, device: &Device, policy: &WritePolicy, value: &Value) -> Vec<Check> {
    let one = |layout: Layout, rule: Rule| Check { reads: vec![(device.id, layout.span)], rule };
    let mut checks = Vec::new();
    if let Some(interlock) = &policy.interlock {
        let read =
            |id: &TagId| site.tags.get(id.index()).and_then(|tag| Some((tag.device, tag.layout()?.span)));
        let reads = interlock.reads.iter().filter_map(read).collect();
        checks.push(Check { reads, rule: Rule::Interlock(interlock.clone()) });
    }
    if let (Some(most), Some(wanted)) = (policy.max_change, value.decimal()) {
        let layout = policy.layout;
        checks.push(one(layout, Rule::Change { layout, most, wanted }));
    }
    checks
}

fn job(policy: &WritePolicy, data: &Data) -> Job {
    let layout = policy.layout;
    let address = layout.span.address;
    if let (DataType::Bool { bit: Some(bit) }, Data::Bits(bits)) = (layout.data_type, data) {
        let mask = 1_u16.checked_shl(bit.into()).unwrap_or(0);
        let mask = if layout.order.bytes_swapped { mask.swap_bytes() } else { mask };
        let or = if bits.first() == Some(&true) { mask } else { 0 };
        return Job::Mask { address, and: !mask, or };
    }
    let functions = match policy.function {
        WriteBy::Single => Some(WriteFunctions::Single),
        WriteBy::Multiple => Some(WriteFunctions::Multiple),
        WriteBy::Device | WriteBy::Mask => None,
    };
    Job::Write { area: layout.span.area, address, data: data.clone(), functions }
}

fn readback(site: &Site, tag: &Tag, policy: &WritePolicy, value: &Value, data: Data) -> Option<Readback> {
    let is_bit = matches!(policy.layout.data_type, DataType::Bool { bit: Some(_) });
    match policy.readback {
        site::Readback::Answer => None,
        site::Readback::Own => {
            // of a register of which one bit was written, the others are not known
            let wanted = if is_bit { Wanted::Value(value.clone()) } else { Wanted::Data(data) };
            Some(Readback { tag: tag.id, device: tag.device, registers: tag.registers()?.clone(), wanted })
        }
        site::Readback::Tag(id) => {
            let of = site.tags.get(id.index())?;
            let wanted = Wanted::Value(value.clone());
            Some(Readback { tag: id, device: of.device, registers: of.registers()?.clone(), wanted })
        }
    }
}

/// A time in words.
fn said(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{} ms", time.as_millis().max(1))
    } else {
        format!("{:.1} s", seconds).replace(".0 s", " s")
    }
}

#[cfg(test)]
mod tests;
