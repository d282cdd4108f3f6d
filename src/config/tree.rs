//! Configuration as written: values with the place where each stands, merged from several files.

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into [`super::source::Sources`].
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What.
    pub content: Content,
    /// Where.
    pub at: Place,
    /// Whether it came from the environment, where everything is text.
    pub from_environment: bool,
}

/// A value of TOML; dates are kept as what they are so that a finding can name them.
#[derive(Clone, Debug)]
pub enum Content {
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a point or an exponent.
    Float(f64),
    /// A string.
    Text(String),
    /// A date or a time: no key takes one.
    Date,
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A table, its entries in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// At most one a key.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key as written, without quotes.
    pub key: String,
    /// Where the key stands.
    pub key_at: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The table in it, if it is one.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        if let Content::Table(table) = &self.content { Some(table) } else { None }
    }

    /// The text in it, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// Its elements; a single value counts as a list of one.
    #[must_use]
    pub fn one_or_many(&self) -> &[Node] {
        if let Content::List(nodes) = &self.content { nodes } else { std::slice::from_ref(self) }
    }

    /// What kind of value this is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Bool(_) => "true or false",
            Content::Integer(_) => "a whole number",
            Content::Float(_) => "a number",
            Content::Text(_) => "text",
            Content::Date => "a date",
            Content::List(_) => "a list",
            Content::Table(_) => "a table",
        }
    }

    /// The same with `change` done to every string in it, keys included.
    #[must_use]
    pub fn map_text(&self, change: &dyn Fn(&str) -> String) -> Node {
        let content = match &self.content {
            Content::Text(text) => Content::Text(change(text)),
            Content::List(nodes) => Content::List(nodes.iter().map(|node| node.map_text(change)).collect()),
            Content::Table(table) => Content::Table(table.map_text(change)),
            Content::Bool(_) | Content::Integer(_) | Content::Float(_) | Content::Date => {
                self.content.clone()
            }
        };
        Node { content, ..*self }
    }
}

impl Node {
    /// Text that is the same for the same content, wherever it stands; secrets apart.
    fn write_plain(&self, out: &mut String) {
        match &self.content {
            Content::Table(table) => table.write_plain(out),
            Content::List(nodes) => {
                out.push('[');
                nodes.iter().for_each(|node| {
                    node.write_plain(out);
                    out.push(',');
                });
                out.push(']');
            }
            Content::Bool(_) | Content::Integer(_) | Content::Float(_) | Content::Text(_) | Content::Date => {
                *out += &format!("{:?}", self.content);
            }
        }
    }
}

impl Table {
    /// A number that is the same for the same keys and values, in whatever order and layout; secrets apart.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut plain = String::new();
        self.write_plain(&mut plain);
        crc32fast::hash(plain.as_bytes())
    }

    fn write_plain(&self, out: &mut String) {
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|entry| entry.key != "password").collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        for entry in entries {
            *out += &format!("{:?}={{", entry.key);
            entry.node.write_plain(out);
            *out += "};";
        }
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The table under `key`; an absent one is empty.
    #[must_use]
    pub fn table(&self, key: &str) -> &Table {
        const EMPTY: &Table = &Table { entries: Vec::new() };
        self.get(key).and_then(Node::table).unwrap_or(EMPTY)
    }

    /// The tables in the list under `key`; an absent one is empty.
    pub fn tables(&self, key: &str) -> impl Iterator<Item = &Node> {
        let nodes = self.get(key).map_or(&[][..], Node::one_or_many);
        nodes.iter().filter(|node| node.table().is_some())
    }

    /// The same without `key`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Table {
        self.entries.retain(|entry| entry.key != key);
        self
    }

    /// The same with `change` done to every string in it, keys included.
    #[must_use]
    pub fn map_text(&self, change: &dyn Fn(&str) -> String) -> Table {
        let entries = self.entries.iter().map(|entry| Entry {
            key: change(&entry.key),
            key_at: entry.key_at,
            node: entry.node.map_text(change),
        });
        Table { entries: entries.collect() }
    }

    /// This table refined by `upper`: tables merge key by key, other values of `upper` win, and of two tags of the
    /// same name the one of `upper` replaces the other whole, as a probe does.
    #[must_use]
    pub fn refined_by(&self, upper: &Table) -> Table {
        let mut merged = self.clone();
        for entry in &upper.entries {
            match merged.entries.iter_mut().find(|old| old.key == entry.key) {
                None => merged.entries.push(entry.clone()),
                Some(old) => old.node = refine(&entry.key, &old.node, &entry.node),
            }
        }
        merged
    }
}

fn refine(key: &str, lower: &Node, upper: &Node) -> Node {
    match (&lower.content, &upper.content) {
        (Content::Table(a), Content::Table(b)) if key != "probe" => {
            Node { content: Content::Table(a.refined_by(b)), ..upper.clone() }
        }
        (Content::List(a), Content::List(b)) if key == "tags" => {
            let replaced = |node: &&Node| {
                !b.iter().any(|new| tag_name(new).is_some() && tag_name(new) == tag_name(node))
            };
            let kept = a.iter().filter(replaced).chain(b).cloned();
            Node { content: Content::List(kept.collect()), ..upper.clone() }
        }
        _ => upper.clone(),
    }
}

/// The name of a tag as written.
#[must_use]
pub fn tag_name(tag: &Node) -> Option<&str> {
    tag.table()?.get("name")?.text()
}
