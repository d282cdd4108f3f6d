//! Instruments that talk by themselves, or answer what their type asks: whether what was heard is what a type describes. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::identify::Fit;
use crate::config::site::serial::{Instrument, Mode, Template, Vars};
use crate::config::site::{Device, DeviceProtocol, Site};
use crate::driver::Answer;
use crate::driver::exchange::{Exchange as _, Progress};
use crate::driver::serial::ask::{Ask, Listener};

/// Longer than any silence that ends a frame.
const QUIET: Duration = Duration::from_secs(60);

/// The types of instruments that fit what was heard on a line on which nothing was asked, the likeliest first.
#[must_use]
pub fn heard(types: &Site, heard: &[u8], now: Instant) -> Vec<Fit> {
    let mut all: Vec<(usize, Fit)> = types
        .devices
        .iter()
        .filter_map(|device| {
            let (instrument, vars) = instrument(device)?;
            let fields = fields(instrument, 0);
            let mut listener = Listener::new(instrument.clone(), vars.clone(), fields)
                .filter(|_| instrument.mode() != Mode::Poll)?;
            let mut frames = listener.take(heard, now);
            frames.extend(listener.take(&[], now + QUIET));
            let noise = listener.noise();
            // the first frame has begun before anybody listened
            let is_it = u64::try_from(frames.len()).is_ok_and(|count| count > noise.checksum + noise.foreign);
            let values =
                frames.iter().map(|frame| frame.iter().filter(|value| value.is_ok()).count()).max()?;
            let shown = format!("{} frames heard", frames.len());
            let fit = Fit { type_name: device.name.clone(), shown, is_heard: true, is_weak: false };
            (is_it && values > 0).then_some((values, fit))
        })
        .collect();
    all.sort_by_key(|(values, _)| std::cmp::Reverse(*values));
    all.into_iter().map(|(_, fit)| fit).collect()
}

/// What a device of the type `device` is asked first; `None`: it is asked nothing, or its address must be known.
#[must_use]
pub fn question(device: &Device) -> Option<Ask> {
    let (instrument, vars) = instrument(device).filter(|(instrument, _)| instrument.mode() == Mode::Poll)?;
    let is_nameless = !names(instrument).any(|name| name == "address");
    Ask::new(instrument, 0, vars, fields(instrument, 0)).filter(|_| is_nameless)
}

/// The unit as which it is asked; `None`: its requests name none.
#[must_use]
pub fn unit(device: &Device) -> Option<u8> {
    let (instrument, _) = instrument(device)?;
    names(instrument).any(|name| name == "unit").then_some(device.unit.0)
}

/// What the requests of an instrument fill in.
fn names(instrument: &Instrument) -> impl Iterator<Item = &str> {
    instrument.requests.iter().filter_map(|request| request.send.as_ref()).flat_map(Template::names)
}

/// Whether what was `heard` answers it, with at least one value.
#[must_use]
pub fn is_answered(ask: &mut Ask, heard: &[u8], now: Instant) -> bool {
    let mut progress = ask.take(heard, now);
    if progress == Progress::Wait {
        progress = ask.take(&[], now + QUIET);
    }
    matches!(progress, Progress::Done(Answer::Values(values)) if values.iter().any(Result::is_ok))
}

fn instrument(device: &Device) -> Option<(&Arc<Instrument>, &Vars)> {
    match &device.protocol {
        DeviceProtocol::Serial(instrument, vars) => Some((instrument, vars)),
        DeviceProtocol::Modbus | DeviceProtocol::Dlt645(_) => None,
    }
}

fn fields(instrument: &Instrument, request: usize) -> Vec<usize> {
    let count = instrument.requests.get(request).map_or(0, |request| request.fields.len());
    (0..count).collect()
}
