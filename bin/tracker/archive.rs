//! The archive: what updaters are told out of the database, where the log in memory does not reach.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use procflow_binding::{Incarnation, Position};
use procflow_store::{HistoryError, Page, Reader};
use procflow_wire::{Supply, Wanted};

/// Memory that the events of one answer take, in bytes. Each answer may read a block of every user
/// anew, so a few thousand events are asked for at once.
const PAGE: usize = 1 << 20;

/// The database, open for reading.
pub(crate) struct Archive {
    reader: Mutex<Reader>,
    present: Incarnation,
}

impl Archive {
    pub(crate) fn open(path: &Path, present: Incarnation) -> Result<Self, HistoryError> {
        Ok(Self { reader: Mutex::new(Reader::open(path)?), present })
    }

    /// What a conversation wants to know. Reads from the disk.
    pub(crate) fn supply(&self, wanted: Wanted) -> Supply {
        self.look(wanted).unwrap_or_else(|error| {
            eprintln!("tracker: {error}; an updater is told what the memory has");
            Supply::Lost
        })
    }

    fn look(&self, wanted: Wanted) -> Result<Supply, HistoryError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Wanted { position, dropped_through } = wanted;
        let page = match position {
            Some(position) => reader.after(position, dropped_through, PAGE)?,
            None => None,
        };
        let known = position.map(|position| position.incarnation);
        Ok(match page {
            Some(Page::Events(events)) if !events.is_empty() => Supply::Events(events),
            Some(Page::Events(_)) if known == Some(self.present) => Supply::Nothing,
            Some(Page::Dropped { until, through, still_true }) => {
                Supply::Dropped { until, through, still_true }
            }
            Some(Page::Kept { through, events }) => Supply::Kept { through, events },
            page => {
                let mut all = reader.incarnations()?.into_iter();
                let kept = all.find(|kept| Some(kept.incarnation) == known);
                let ended = page.and(kept).map(|kept| kept.watched_until);
                let next = reader.next(self.present.host, known)?;
                let incarnation = next.map_or(self.present, |kept| kept.incarnation);
                Supply::Next { ended, position: Position { incarnation, sequence: 0 } }
            }
        })
    }
}
