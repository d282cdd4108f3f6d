//! A strict judge of the edge node: every assertion of Sparkplug B 3.0.0 that applies to one, held against the bytes that
//! the program itself sends. docs/sparkplug.md has the table; the ids that a test holds stand above it, and
//! `table` sees to it that table, ids and tests stay together.
//!
//! `broker` writes everything down, `wire`, `fields` and `log` take it apart, `scene` is what is around the program,
//! `rules` is what always holds. The other files are tests: of a whole life, of connecting, of rebirths, and so on.

mod aliases;
mod broken;
mod broker;
mod connect;
mod devices;
mod fields;
mod history;
mod life;
mod log;
mod mqtt5;
mod names;
mod node;
mod primary_host;
mod rebirth;
mod rules;
mod scene;
mod sequence;
mod table;
mod wire;
