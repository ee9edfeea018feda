//! The frequent are those of many names that occur most, found in one pass and bounded memory.
//!
//! This is the algorithm of Misra and Gries (Finding repeated elements, 1982): there is room for
//! [`ROOM`] names; one that finds none takes away one from the count of each that is there. So as
//! long as there are no more than [`ROOM`] different names all counts are exact, and otherwise each
//! is too low by at most the number of such rounds, and whoever has more than a [`ROOM`]th of all
//! occurrences is among them.

use std::collections::HashMap;

/// How many different names are counted exactly. At 128 bytes each they take some 200 KiB.
const ROOM: usize = 1024;

/// What is kept of a name, in bytes: nfdump's own are at most 65.
const LONGEST: usize = 128;

/// Names with their counts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Frequent {
    counts: HashMap<Box<[u8]>, u64>,
    /// How many times all counts were lowered.
    rounds: u64,
}

impl Frequent {
    /// Counts one occurrence.
    pub(crate) fn add(&mut self, name: &[u8]) {
        let name = &name[..name.len().min(LONGEST)];
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < ROOM {
            self.counts.insert(name.into(), 1);
        } else {
            self.rounds += 1;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The `most` most frequent names, each with at least how often it occurred.
    pub(crate) fn top(&self, most: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> =
            self.counts.iter().map(|(name, &count)| (&name[..], count)).collect();
        all.sort_unstable_by(|(a, many), (b, more)| more.cmp(many).then(a.cmp(b)));
        all.truncate(most);
        all
    }

    /// By how much counts may be too low; 0 when they are exact and no name is missing.
    pub(crate) fn error(&self) -> u64 {
        self.rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_are_counted_exactly() {
        let mut frequent = Frequent::default();
        for name in ["curl", "nginx", "curl", "ssh", "curl", "nginx"] {
            frequent.add(name.as_bytes());
        }
        assert_eq!(frequent.top(2), [(&b"curl"[..], 3), (b"nginx", 2)]);
        assert_eq!((frequent.top(9).len(), frequent.error()), (3, 0));
    }

    #[test]
    fn a_frequent_name_is_found_among_any_number_of_others() {
        let mut frequent = Frequent::default();
        for i in 0..100_000_u64 {
            frequent.add(&i.to_le_bytes());
            if i % 10 == 0 {
                frequent.add(b"curl");
            }
        }
        let (name, least) = frequent.top(1)[0];
        assert_eq!(name, b"curl");
        assert!(least <= 10_000 && least + frequent.error() >= 10_000, "{least}");
        assert!(frequent.counts.len() <= ROOM);
    }

    #[test]
    fn of_a_long_name_the_beginning_is_kept() {
        let mut frequent = Frequent::default();
        frequent.add(&[b'x'; 65_000]);
        assert_eq!(frequent.top(1), [(&[b'x'; LONGEST][..], 1)]);
    }
}
