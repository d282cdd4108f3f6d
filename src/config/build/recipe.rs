//! Tags that need others for their value: transformers, powers of ten, units, colours.

use super::super::finding::Finding;
use super::super::site::{Kind, Recipe, Source, Tag};
use super::super::tree::{Node, Table};
use super::Build;
use super::names::Names;
use crate::expression;
use crate::tag::{TagId, ValueType};

/// Gives each tag the others that its `naming` names.
pub(super) fn resolve(build: &mut Build, names: &Names, tags: &mut [Tag], naming: &[Table]) {
    for (index, table) in naming.iter().enumerate() {
        let Some(tag) = tags.get(index) else { continue };
        let Some(recipe) = tag.recipe() else { continue };
        let mut recipe = recipe.clone();
        Resolver { build, names, tags, tag, table }.fill(&mut recipe);
        let Some(tag) = tags.get_mut(index) else { continue };
        if let Source::Registers(registers) = &mut tag.source {
            registers.recipe = Some(Box::new(recipe));
        }
    }
    check_depth(build, tags, naming);
}

struct Resolver<'a> {
    build: &'a mut Build,
    names: &'a Names,
    tags: &'a [Tag],
    tag: &'a Tag,
    table: &'a Table,
}

impl Resolver<'_> {
    fn fill(&mut self, recipe: &mut Recipe) {
        let colours = |tag: &Tag| tag.recipe().is_some_and(|recipe| !recipe.colours.is_empty());
        recipe.quality_from =
            self.all("quality_from", colours, "one that says `quality = { … }` of its values");
        if recipe.expression.as_ref().is_some_and(|expression| expression.kind() != expression::Kind::Number)
        {
            return; // what a device's defaults say of numbers
        }
        recipe.ratio = self.all("ratio", is_number, "a number");
        recipe.scale_from = self.all("scale_from", is_number, "a number").first().copied();
        recipe.decimals_from = self.all("decimals_from", is_number, "a number").first().copied();
        let is_word = |tag: &Tag| tag.value_type == ValueType::Text;
        let unit_from = self.all("unit_from", is_word, "a word, as \"kg\"").first().copied();
        recipe.unit_from = unit_from.zip(self.tag.unit);
        if let (Some(node), None) = (self.table.get("unit_from"), self.tag.unit) {
            let finding = Finding::new(node.at, "`unit_from` needs `unit`: what is the value to be in?");
            self.build.find(finding.with_help("write unit = \"kg\""));
        }
    }

    /// The tags that `key` names, each of the right sort.
    fn all(&mut self, key: &str, is_fit: impl Fn(&Tag) -> bool, wanted: &str) -> Vec<TagId> {
        let nodes = self.table.get(key).map_or(&[][..], Node::one_or_many);
        let mut found = Vec::new();
        for node in nodes {
            let name = node.text().unwrap_or_default();
            match self.names.find(self.tag.device, name) {
                Err(message) => self.build.find(Finding::new(node.at, format!("`{key}`: {message}"))),
                Ok(id) if self.tags.get(id.index()).is_some_and(|tag| is_fit(tag) && id != self.tag.id) => {
                    found.push(id);
                }
                Ok(_) => {
                    let message = format!("`{key}`: the tag `{name}` is not {wanted}");
                    self.build.find(Finding::new(node.at, message));
                }
            }
        }
        found
    }
}

fn is_number(tag: &Tag) -> bool {
    !matches!(tag.value_type, ValueType::Bool | ValueType::Text | ValueType::Time) && tag.kind != Kind::Event
}

/// What a value needs is read first: it may not itself need another.
fn check_depth(build: &mut Build, tags: &[Tag], naming: &[Table]) {
    for (tag, table) in tags.iter().zip(naming) {
        for input in tag.recipe().into_iter().flat_map(Recipe::inputs) {
            let Some(of) = tags.get(input.index()) else { continue };
            let readers = match &of.source {
                Source::Chosen(readers) => readers.as_slice(),
                Source::Registers(_) | Source::Constant(_) | Source::Computed | Source::Control(_) => {
                    &[input]
                }
            };
            let recipes = readers.iter().filter_map(|id| tags.get(id.index())?.recipe());
            if recipes.flat_map(Recipe::inputs).next().is_some() {
                let at = table.entries.first().map_or(build.whole, |entry| entry.key_at);
                let message =
                    format!("tag `{}` needs `{}`, which itself needs another tag", tag.name, of.name);
                build.find(Finding::new(at, message).with_help("compute it in `derived`"));
            }
        }
    }
}
