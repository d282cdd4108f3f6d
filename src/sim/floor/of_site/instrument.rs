//! Instruments on a floor that is made from a site: they say what the examples of their type say, one after the other. Pure.
//!
//! Nothing is made up of what a type describes: that would take the gateway's own templates and frames.

use std::sync::Arc;

use super::super::{Habit, Instrument, Scene, Truth, encode};
use super::{Untold, far_end_of, line_of};
use crate::config::site::serial::{Example, Instrument as Described, Mode, Request, Vars};
use crate::config::site::{Device, DeviceProtocol, Operand, Site};
use crate::tag::ValueType;

/// How often an instrument says its state by itself, and how often something happens to it.
const STATE_MS: u64 = 700;
const EVENT_MS: u64 = 2000;

/// The instruments of `site`, and which of their tags cannot be told.
pub(super) fn instruments(site: &Site) -> (Vec<Instrument>, Vec<Untold>) {
    let (mut instruments, mut untold) = (Vec::new(), Vec::new());
    for device in &site.devices {
        let DeviceProtocol::Serial(described, vars) = &device.protocol else { continue };
        let Some(link) = far_end_of(site, device) else { continue };
        let scenes = scenes(site, device, described, vars);
        let is_told =
            |name: &str| scenes.iter().any(|scene| scene.means.iter().any(|(tag, _)| **tag == *name));
        let why = if scenes.is_empty() {
            "no example of its type has an answer for this device: give the type `examples`, each with `in`, `out`, and \
             `send` where that differs from device to device"
        } else {
            "no example of its type says what it is: name it in `out` of one"
        };
        let tags = site.tags_of(device).iter().filter(|tag| tag.registers().is_some() && !is_told(&tag.name));
        untold.extend(tags.map(|tag| Untold { tag: site.full_name(tag.id), why: why.to_owned() }));
        let every_ms = if described.mode() == Mode::Event { EVENT_MS } else { STATE_MS };
        let habit = Habit::Player { scenes, every_ms };
        instruments.push(Instrument { name: device.name.clone(), link, line: line_of(site, device), habit });
    }
    (instruments, untold)
}

/// What a device says of the examples of its type: those that are meant for one with its address and the like.
fn scenes(site: &Site, device: &Device, described: &Described, vars: &Vars) -> Vec<Scene> {
    let usable = described.examples.iter().filter_map(|example| {
        let request = described.requests.iter().find(|request| request.name == example.request)?;
        let is_asked = request.send.is_some();
        let said = example.incoming.clone()?;
        // what must be dropped is no answer, but it may be heard
        let is_meant = (!example.out.is_empty() || !is_asked) && is_for(example, request, described, vars);
        if !is_meant || holds_another(described, example) {
            return None;
        }
        let asked = if is_asked { asked(example, request, described)? } else { Vec::new() };
        let means = means(site, device, example);
        Some(Scene { asked, said, means, is_event: described.mode() == Mode::Event })
    });
    usable.collect()
}

/// Whether all that an example names stands for the same with this device.
fn is_for(example: &Example, request: &Request, described: &Described, vars: &Vars) -> bool {
    let own = vars.over(&request.vars).over(&described.vars);
    let printed = example.vars.over(&request.vars).over(&described.vars);
    let sent = request.send.iter().flat_map(|template| template.names());
    let matched = request.frame.matches.iter().flat_map(|(_, template)| template.names());
    sent.chain(matched).all(|name| own.get(name) == printed.get(name))
}

/// What is asked where an example is the answer: what it says itself, or what is always sent, or what another example says
/// that is of the same.
fn asked(example: &Example, request: &Request, described: &Described) -> Option<Vec<u8>> {
    let always = || Some([described.wake.as_slice(), &request.send.as_ref()?.constant()?].concat());
    let other = || {
        let same = |other: &&Example| other.request == example.request && other.vars == example.vars;
        described.examples.iter().filter(same).find_map(|other| other.send.clone())
    };
    example.send.clone().or_else(always).or_else(other)
}

/// Whether another example is a part of this one, which then says more than it means.
fn holds_another(described: &Described, example: &Example) -> bool {
    let said = example.incoming.as_deref().unwrap_or_default();
    let others = described.examples.iter().filter_map(|other| other.incoming.as_deref());
    others
        .filter(|other| !other.is_empty() && other.len() < said.len())
        .any(|other| said.windows(other.len()).any(|part| part == other))
}

/// What an example says of the tags of a device.
fn means(site: &Site, device: &Device, example: &Example) -> Vec<(Arc<str>, Truth)> {
    let tags = site.tags_of(device).iter().filter(|tag| tag.registers().is_some());
    let all = tags.filter_map(|tag| {
        let operand = example.out.get(&tag.name)?;
        Some((tag.name.clone(), truth(operand, tag.value_type)?))
    });
    all.collect()
}

fn truth(operand: &Operand, value_type: ValueType) -> Option<Truth> {
    Some(match (operand, value_type) {
        (Operand::Number(number), ValueType::Integer(_)) => Truth::Integer(encode::whole(*number).into()),
        (Operand::Number(number), ValueType::Float) => Truth::Float(encode::single(*number)),
        (Operand::Number(number), ValueType::Double) => Truth::Double(*number),
        (Operand::Word(word), ValueType::Text) => Truth::Text(word.clone()),
        (Operand::Flag(flag), ValueType::Bool) => Truth::Bool(*flag),
        (Operand::Number(_) | Operand::Word(_) | Operand::Flag(_), _) => return None,
    })
}
