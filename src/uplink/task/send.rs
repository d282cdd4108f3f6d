//! Hands over what there is to send, and says farewell.

use tokio::sync::mpsc;

use super::Task;
use super::talk::{Talk, Turn};
use crate::clock;
use crate::position::Positions;
use crate::publication::Publication;
use crate::uplink::mqtt::{Connection, Happening, WINDOW};

/// What a packet takes beside its topic and payload, at most.
const PACKET_OVERHEAD: usize = 16;

impl Task {
    /// Hands over what there is to send, as far as the window goes.
    pub(super) fn send(&mut self, connection: &Connection, talk: &mut Talk) {
        while talk.in_hand < WINDOW && talk.turn.is_none() {
            let now = clock::monotonic();
            if self.delivery.barrier_due().is_some_and(|due| due <= now) {
                if !self.send_barrier(connection, talk) {
                    return;
                }
                continue;
            }
            if !self.delivery.has_room() {
                return; // a barrier is on its way
            }
            let Some(mut publication) = self.session.poll_publication(clock::wall()) else { return };
            let carried = std::mem::take(&mut publication.carried);
            let size = publication.payload.len() + publication.topic.len();
            let is_proof = publication.is_acknowledged;
            if size > talk.packet_size_max.saturating_sub(PACKET_OVERHEAD) {
                talk.turn = Some(Turn::GiveUp(format!(
                    "{} would be {size} bytes, more than the {} that the broker takes: let it take more, or describe a device with that many tags as two",
                    publication.topic, talk.packet_size_max
                )));
                return;
            }
            self.budget.iter_mut().for_each(|budget| budget.handle_sent(size + PACKET_OVERHEAD));
            if let Some(filter) = self.self_test.filter_before(&publication.topic, size, !carried.is_empty())
            {
                connection.subscribe(vec![filter]).ok(); // closing: its end is told by the pump
            }
            self.self_test.handle_sent(&publication.topic, is_proof);
            if connection.publish(publication).is_err() {
                return;
            }
            talk.in_hand += 1;
            self.delivery.handle_sent(carried, size, is_proof, now);
        }
    }

    /// Hands over a barrier; false where there is none, or the connection is closing, of which the pump tells the end.
    fn send_barrier(&mut self, connection: &Connection, talk: &mut Talk) -> bool {
        let Some(topic) = self.barrier.clone() else { return false };
        self.self_test.handle_sent(&topic, true);
        let barrier = Publication { topic, is_acknowledged: true, ..Publication::default() };
        let size = barrier.topic.len() + PACKET_OVERHEAD;
        self.budget.iter_mut().for_each(|budget| budget.handle_sent(size));
        let is_sent = connection.publish(barrier).is_ok();
        if is_sent {
            talk.in_hand += 1;
            self.delivery.handle_barrier_sent(clock::monotonic());
        }
        is_sent
    }

    /// Sends what waits, then the death certificate, then DISCONNECT. The broker's acknowledgement of the death proves
    /// that it has all that came before.
    pub(super) async fn farewell(
        &mut self,
        connection: &Connection,
        talk: &mut Talk,
        happenings: &mut mpsc::Receiver<Happening>,
        turn: &Turn,
    ) {
        talk.is_leaving = true;
        self.session.release();
        let sends_rest = matches!(turn, Turn::Stop);
        let mut is_said = talk.born.is_none();
        if is_said {
            connection.disconnect().ok(); // closing already
        }
        loop {
            if !is_said && sends_rest {
                self.send(connection, talk); // after a death there is nothing but a new session
            }
            if !is_said && talk.in_hand < WINDOW && !(sends_rest && self.session.is_waiting()) {
                is_said = true;
                if self.self_test.is_open() || self.self_test.wants_barrier() {
                    self.send_barrier(connection, talk); // what is acknowledged here would prove nothing otherwise
                }
                let death = self.session.death(talk.bd_seq, clock::wall());
                self.self_test.handle_sent(&death.topic, true);
                connection.publish(death).ok(); // closing: the will speaks
                self.delivery.handle_sent(Positions::default(), 0, true, clock::monotonic());
            }
            match happenings.recv().await {
                None | Some(Happening::Disconnected) => return,
                Some(happening) => self.handle(happening, connection, talk),
            }
            if matches!(talk.turn, Some(Turn::GiveUp(_))) {
                return;
            }
            if is_said && talk.born.is_some() && self.delivery.is_quiet() && !self.self_test.is_open() {
                talk.is_over = true;
                connection.disconnect().ok(); // closing already
            }
        }
    }
}
