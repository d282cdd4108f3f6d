//! How far what is computed may go: no farther than all that it is computed from, unless its own `share` says so.

use std::collections::BTreeSet;

use super::super::site::{ClassStep, Share, Source, Step, Tag, Total};
use super::super::tree::Table;
use super::computed::{Gives, Pending};
use crate::tag::TagId;

/// Says of each computed tag what it is made of. `steps` stand in the order in which they are computed, `naming` is what
/// each tag that is read says of others.
pub(super) fn spread(
    tags: &mut [Tag],
    naming: &[Table],
    totals: &[Total],
    pending: &[Pending],
    steps: &mut [Step],
) {
    for index in 0..tags.len() {
        let said = naming.get(index).is_some_and(|table| table.get("share").is_some());
        let readers = match tags.get(index).map(|tag| (tag.id, &tag.source)) {
            Some((_, Source::Chosen(readers))) => readers.clone(),
            Some((id, _)) => vec![id],
            None => Vec::new(),
        };
        let recipes = readers.iter().filter_map(|id| tags.get(id.index())?.recipe());
        let expressions = recipes.filter(|_| !said).filter_map(|recipe| recipe.expression.as_ref());
        let inputs: Vec<TagId> = expressions.flat_map(|of| of.inputs().to_vec()).collect();
        let classes = of_all(tags, &inputs);
        tags.get_mut(index).into_iter().for_each(|tag| tag.made_of = classes.clone());
    }
    for total in totals {
        let classes = tags.get(total.of.index()).map_or_else(Vec::new, |tag| tag.made_of.clone());
        give(tags, &[total.tag], &classes);
    }
    let own = with_own(pending);
    for step in steps {
        let outputs = step.outputs();
        match step {
            Step::Class(class) => leave_private_out(tags, class),
            Step::Window(window) => {
                let of = tags.get(window.of.index()).map_or_else(Vec::new, |tag| tag.made_of.clone());
                // what is "aggregate" leaves in windows
                let in_windows = |share| if share == Share::Aggregate { Share::Window } else { share };
                give(tags, &outputs, &of.into_iter().map(in_windows).collect::<Vec<_>>());
            }
            Step::Derived(_) | Step::Machine(_) | Step::Alarm(_) => {
                if !outputs.iter().any(|tag| own.contains(tag)) {
                    let classes = of_all(tags, step.inputs());
                    give(tags, &outputs, &classes);
                }
                if let Step::Alarm(alarm) = step {
                    tell_events(tags, alarm.tag, alarm.events);
                }
            }
        }
    }
}

/// The tags with a `share` of their own: whoever wrote it has decided that what is computed may go so far.
fn with_own(pending: &[Pending]) -> BTreeSet<TagId> {
    let own = pending.iter().filter(|one| one.table.get("share").is_some());
    own.flat_map(|one| match &one.gives {
        Gives::Derived(tag) | Gives::Alarm { tag, .. } => vec![*tag],
        Gives::Machine(tags) => tags.iter().map(|(_, tag)| *tag).collect(),
        Gives::Class(_) | Gives::Window(_) => Vec::new(),
    })
    .collect()
}

/// The classes of all of these, each once.
fn of_all(tags: &[Tag], inputs: &[TagId]) -> Vec<Share> {
    let of = |tag: &Tag| tag.made_of.iter().copied().chain([tag.share]).collect::<Vec<_>>();
    let all = inputs.iter().filter_map(|input| tags.get(input.index())).flat_map(of);
    // a window of what is "aggregate" is no secret where that leaves as it is
    let all = all.map(|share| if share == Share::Window { Share::Aggregate } else { share });
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

fn give(tags: &mut [Tag], to: &[TagId], classes: &[Share]) {
    for id in to {
        tags.get_mut(id.index()).into_iter().for_each(|tag| tag.made_of = classes.to_vec());
    }
}

/// Events of a device go no farther than each of its alarms may. What people write about alarms tells of none: it is known
/// unless one of them is private, and whoever writes it finds only alarms that he may know of.
fn tell_events(tags: &mut [Tag], alarm: TagId, events: TagId) {
    let classes = of_all(tags, &[alarm]);
    let Some(device) = tags.get(events.index()).map(|tag| tag.device) else { return };
    for tag in tags.iter_mut().filter(|tag| tag.device == device) {
        if tag.id == events {
            tag.made_of.extend(&classes);
            tag.made_of.sort_unstable();
            tag.made_of.dedup();
        } else if tag.control().is_some() && classes.contains(&Share::Private) {
            tag.made_of = vec![Share::Private];
        }
    }
}

/// A machine that never leaves is not added up either; a class of nothing else does not leave.
fn leave_private_out(tags: &mut [Tag], class: &mut ClassStep) {
    let private: BTreeSet<TagId> = class
        .inputs
        .iter()
        .copied()
        .filter(|state| of_all(tags, &[*state]).contains(&Share::Private))
        .collect();
    let device = |tag: &TagId| tags.get(tag.index()).map(|tag| tag.device);
    let out: BTreeSet<_> = private.iter().filter_map(device).collect();
    class.machines.retain(|machine| !out.contains(machine));
    class.inputs.retain(|state| !private.contains(state));
    if class.machines.is_empty() {
        give(tags, &class.tags, &[Share::Private]);
    }
}
