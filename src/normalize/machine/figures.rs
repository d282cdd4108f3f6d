//! The figures of an account, as ISO 22400-2:2014 names them.
//!
//! | element | here |
//! |---|---|
//! | PBT, planned busy time | planned time of the shift that has passed, breaks apart |
//! | APT, actual production time | `run` |
//! | AUST, actual unit setup time | `setup` |
//! | ADET, actual unit delay time: interruptions by malfunction | `fault` |
//! | ADOT, actual unit down time: available, and not executing | `idle` and `stop` |
//!
//! What is down and what is delay follows OPC 40501-1, C.2.3, which maps a machine tool's states to the same elements.
//! PBT = APT + AUST + ADET + ADOT + unknown. Availability = APT / PBT, effectiveness (performance) = PRI × PQ / APT,
//! quality ratio = GQ / PQ, OEE = their product. A figure whose denominator is 0, or whose input is not counted, is
//! `None`. Pieces outside of planned time are pieces of the shift, and do not count for the performance, for the time in
//! which they were made does not count either.

use std::time::Duration;

use super::state::State;
use super::tally::Tally;
use crate::config::site::MachineRule;
use crate::reading::Quality;

/// The part of PBT that may be unknown before the figures are called uncertain: 1 of this many.
const UNKNOWN_SHARE: u32 = 100;

/// What is published of a machine's account. Times are within planned time.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// What it is doing.
    pub state: State,
    /// `2026-11-26 08:00-20:00`: the local date on which the shift began, and its name; `None` between shifts.
    pub shift: Option<String>,
    /// What is made; of a shift: what was made last.
    pub product: Option<String>,
    /// PQ; `None` where pieces are not counted.
    pub pieces: Option<f64>,
    /// SQ; `None` where scrap is not counted.
    pub scrap: Option<f64>,
    /// GQ = PQ - SQ; `None` where one is not counted, or where there is more scrap than pieces.
    pub good: Option<f64>,
    /// Energy of one piece, good or not, in kWh.
    pub kwh_per_piece: Option<f64>,
    /// APT / PBT, 0 to 1; `None` also where all of PBT is unknown.
    pub availability: Option<f64>,
    /// PRI × PQ / APT; above 1 where the machine is faster than planned.
    pub performance: Option<f64>,
    /// GQ / PQ, 0 to 1.
    pub quality: Option<f64>,
    /// Availability × performance × quality.
    pub oee: Option<f64>,
    /// Time in `run`, in s.
    pub apt_s: f64,
    /// Time in `idle` and `stop`, in s.
    pub adot_s: f64,
    /// Time in `fault`, in s.
    pub adet_s: f64,
    /// Time in `setup`, in s.
    pub aust_s: f64,
    /// Planned time that has passed, in s.
    pub pbt_s: f64,
    /// Of it, time of which nothing is known, in s.
    pub unknown_s: f64,
    /// Energy, in kWh; `None` where it is not metered.
    pub energy_kwh: Option<f64>,
    /// How far to trust the times and the availability: not accurate where more than 1 % of PBT is unknown.
    pub time_quality: Quality,
    /// How far to trust pieces, scrap, good and quality: not accurate where counts may be missing.
    pub count_quality: Quality,
    /// How far to trust the energy and, with `count_quality`, the energy of a piece.
    pub energy_quality: Quality,
}

impl Figures {
    /// The figures of an account of a machine with this rule.
    #[must_use]
    pub fn of(
        rule: &MachineRule,
        tally: &Tally,
        state: State,
        shift: Option<String>,
        product: Option<String>,
    ) -> Figures {
        let times = &tally.times;
        let (pbt, apt) = (times.sum(), times.run);
        let pieces = rule.pieces.map(|_| tally.pieces);
        let scrap = rule.scrap.map(|_| tally.scrap);
        let good = pieces.zip(scrap).map(|(pieces, scrap)| pieces - scrap).filter(|good| *good >= 0.0);
        let energy_kwh = rule.has_energy.then_some(tally.energy_kwh);
        let availability =
            if times.unknown < pbt { ratio(apt.as_secs_f64(), pbt.as_secs_f64()) } else { None };
        let is_planned = rule.cycle.is_some() && rule.pieces.is_some() && !tally.has_uncycled;
        let performance = is_planned.then(|| ratio(tally.planned_s, apt.as_secs_f64())).flatten();
        let quality = good.zip(pieces).and_then(|(good, pieces)| ratio(good, pieces));
        let oee = availability.zip(performance).zip(quality).map(|((a, p), q)| a * p * q);
        let doubt = |is_doubtful| if is_doubtful { Quality::UncertainNotAccurate } else { Quality::Good };
        Figures {
            state,
            shift,
            product,
            pieces,
            scrap,
            good,
            kwh_per_piece: energy_kwh.zip(pieces).and_then(|(energy, pieces)| ratio(energy, pieces)),
            availability,
            performance,
            quality,
            oee: oee.filter(|oee| oee.is_finite()),
            apt_s: apt.as_secs_f64(),
            adot_s: times.idle.saturating_add(times.stop).as_secs_f64(),
            adet_s: times.fault.as_secs_f64(),
            aust_s: times.setup.as_secs_f64(),
            pbt_s: pbt.as_secs_f64(),
            unknown_s: times.unknown.as_secs_f64(),
            energy_kwh,
            time_quality: doubt(is_much(times.unknown, pbt)),
            count_quality: doubt(tally.has_gap),
            energy_quality: doubt(tally.has_energy_gap),
        }
    }

    /// How far to trust performance and OEE, which hang on times and counts: the worse of both.
    #[must_use]
    pub fn oee_quality(&self) -> Quality {
        if self.time_quality == Quality::Good { self.count_quality } else { self.time_quality }
    }

    /// How far to trust the energy of a piece: the worse of energy and counts.
    #[must_use]
    pub fn kwh_per_piece_quality(&self) -> Quality {
        if self.energy_quality == Quality::Good { self.count_quality } else { self.energy_quality }
    }
}

/// Whether more of the whole is unknown than figures that are called good may have.
fn is_much(unknown: Duration, whole: Duration) -> bool {
    unknown.saturating_mul(UNKNOWN_SHARE) > whole
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole).filter(|ratio| ratio.is_finite())
}
