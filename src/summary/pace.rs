//! How the times between tokens of a run's replies are known, and of how many replies they are not.

use crate::record::{ItlSource, TpotSource};

/// The replies so far.
#[derive(Debug, Default)]
pub struct PaceTally {
    tpot: Option<TpotSource>,
    itl: Option<ItlSource>,
    /// Replies whose TPOT is not known.
    pub tpot_unknown: u64,
    /// Replies whose ITL is not known.
    pub itl_unknown: u64,
}

impl PaceTally {
    /// Takes in a successful reply; `None` where it had no such time.
    pub fn add(&mut self, tpot: Option<TpotSource>, itl: Option<ItlSource>) {
        match tpot {
            Some(TpotSource::Unknown) => self.tpot_unknown += 1,
            known => self.tpot = self.tpot.max(known),
        }
        match itl {
            Some(ItlSource::Unknown) => self.itl_unknown += 1,
            known => self.itl = self.itl.max(known),
        }
    }

    /// The least certain way in which a TPOT is known, or unknown if none is; `None` if no reply has one.
    pub fn tpot_source(&self) -> Option<TpotSource> {
        self.tpot.or((self.tpot_unknown > 0).then_some(TpotSource::Unknown))
    }

    /// The same of ITL.
    pub fn itl_source(&self) -> Option<ItlSource> {
        self.itl.or((self.itl_unknown > 0).then_some(ItlSource::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_shows_the_least_certain_of_what_it_knows() {
        let mut tally = PaceTally::default();
        assert_eq!((tally.tpot_source(), tally.itl_source()), (None, None));
        tally.add(Some(TpotSource::Unknown), Some(ItlSource::Unknown));
        assert_eq!(tally.tpot_source(), Some(TpotSource::Unknown));
        assert_eq!(tally.itl_source(), Some(ItlSource::Unknown));
        tally.add(Some(TpotSource::Whole), Some(ItlSource::Counted));
        tally.add(Some(TpotSource::Counted), Some(ItlSource::Estimated));
        tally.add(None, None);
        assert_eq!(tally.tpot_source(), Some(TpotSource::Whole));
        assert_eq!(tally.itl_source(), Some(ItlSource::Estimated));
        assert_eq!((tally.tpot_unknown, tally.itl_unknown), (1, 1));
    }
}
