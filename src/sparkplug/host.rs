//! The primary host: whether the application that a node serves is there (Sparkplug 3.0.0, 5.1 and 6.4.26). Pure.
//!
//! A host says its state in a message that each server keeps for whoever subscribes. Of two the one with the later time
//! counts, whatever the order in which they come; times are those of one server, for a host keeps them so.

use std::sync::Arc;

use serde::Deserialize;

use super::topic;
use crate::config::site::PrimaryHost;

/// Longer states are no states.
const STATE_SIZE_MAX: usize = 1024;

/// What is known of the primary host.
#[derive(Debug)]
pub(super) struct Host {
    topic: String,
    is_2_2: bool,
    /// Of each server: the time of the state that counted last.
    counted: Vec<Option<u64>>,
    server: usize,
    is_online: bool,
}

/// A state as of Sparkplug 3.0 (6.4.26).
#[derive(Deserialize)]
struct State {
    online: bool,
    timestamp: u64,
}

impl Host {
    pub(super) fn new(host: &PrimaryHost) -> Host {
        let id: &Arc<str> = &host.id;
        let topic = if host.is_2_2 { format!("STATE/{id}") } else { topic::host_state(id) };
        Host { topic, is_2_2: host.is_2_2, counted: Vec::new(), server: 0, is_online: false }
    }

    /// Where it says its state.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// From now on states come from this server; whether the host is there has to be said anew.
    pub(super) fn handle_server(&mut self, server: usize) {
        self.server = server;
        self.is_online = false;
    }

    /// Whether it is there, as far as is known.
    pub(super) fn is_online(&self) -> bool {
        self.is_online
    }

    /// A message: whether the host is there, if it says so validly and not later than what is known.
    pub(super) fn handle_message(&mut self, topic: &str, payload: &[u8]) -> Option<bool> {
        if topic != self.topic || payload.len() > STATE_SIZE_MAX {
            return None;
        }
        let is_online = if self.is_2_2 { word(payload) } else { self.state(payload) }?;
        self.is_online = is_online;
        Some(is_online)
    }

    fn state(&mut self, payload: &[u8]) -> Option<bool> {
        let State { online, timestamp } = serde_json::from_slice(payload).ok()?;
        if self.counted.len() <= self.server {
            self.counted.resize(self.server + 1, None);
        }
        let counted = self.counted.get_mut(self.server)?;
        if counted.is_some_and(|counted| timestamp < counted) {
            return None;
        }
        *counted = Some(timestamp);
        Some(online)
    }
}

/// A state as of Sparkplug 2.2.
fn word(payload: &[u8]) -> Option<bool> {
    match payload {
        b"ONLINE" => Some(true),
        b"OFFLINE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(is_2_2: bool) -> Host {
        Host::new(&PrimaryHost { id: "cluster".into(), is_2_2 })
    }

    fn says(host: &mut Host, payload: &str) -> Option<bool> {
        host.handle_message("spBv1.0/STATE/cluster", payload.as_bytes())
    }

    #[test]
    fn the_later_state_counts_and_the_first_always() {
        let mut host = host(false);
        assert_eq!(says(&mut host, r#"{"online":true,"timestamp":100}"#), Some(true));
        assert_eq!(says(&mut host, r#"{"online":false,"timestamp":99}"#), None);
        assert!(host.is_online());
        assert_eq!(says(&mut host, r#"{"online":false,"timestamp":100}"#), Some(false));
        assert_eq!(says(&mut host, r#"{"timestamp":101,"online":true,"more":1}"#), Some(true));
    }

    #[test]
    fn each_server_has_times_of_its_own() {
        let mut host = host(false);
        says(&mut host, r#"{"online":true,"timestamp":100}"#);
        host.handle_server(1);
        assert!(!host.is_online());
        assert_eq!(says(&mut host, r#"{"online":true,"timestamp":7}"#), Some(true));
        host.handle_server(0);
        assert_eq!(says(&mut host, r#"{"online":true,"timestamp":99}"#), None);
    }

    #[test]
    fn what_is_no_state_of_this_host_says_nothing() {
        let mut host = host(false);
        for payload in [
            "",
            "{}",
            "ONLINE",
            r#"{"online":1,"timestamp":1}"#,
            r#"{"online":true}"#,
            r#"{"online":true,"timestamp":-1}"#,
        ] {
            assert_eq!(says(&mut host, payload), None, "{payload}");
        }
        let state = br#"{"online":true,"timestamp":1}"#;
        for topic in ["spBv1.0/STATE/other", "STATE/cluster", "spBv1.0/STATE/cluster/x"] {
            assert_eq!(host.handle_message(topic, state), None, "{topic}");
        }
        assert_eq!(
            says(&mut host, &format!(r#"{{"online":true,"timestamp":1,"x":"{}"}}"#, "y".repeat(2000))),
            None
        );
    }

    #[test]
    fn a_host_of_version_2_2_says_a_word() {
        let mut host = host(true);
        assert_eq!(host.topic(), "STATE/cluster");
        assert_eq!(host.handle_message("STATE/cluster", b"ONLINE"), Some(true));
        assert_eq!(host.handle_message("STATE/cluster", b"OFFLINE"), Some(false));
        assert_eq!(host.handle_message("STATE/cluster", b"online"), None);
    }
}
