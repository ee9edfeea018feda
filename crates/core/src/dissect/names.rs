//! Names learnt from answers of DNS: which name a host had asked for when it was told an address. They are
//! attached to the flows that this host then makes to that address.
//!
//! Only to those: what one host asked for says nothing of another one's flows, and what a resolver asks for on
//! behalf of others nothing of its own.

use std::collections::VecDeque;

use hashbrown::HashMap;
use smol_str::SmolStr;

use super::Resolved;
use crate::key::Timestamp;
use crate::packet::Address;

/// So many are kept at most (of each shard): about a megabyte. One more, and the oldest is forgotten.
const MOST: usize = 4096;

/// So old an answer may be, in nanoseconds: an hour. Most may be used for minutes, but connections to
/// the address last, and programs keep what they know.
const AGE: i64 = 3_600_000_000_000;

/// Where addresses mean the same hosts: VLANs, and the virtual network of a tunnel.
pub(super) type Network = ([u16; 2], u32);

/// Who asked, which address was the answer, and where that is.
type Pair = (Address, Address, Network);

#[derive(Debug)]
struct Answer {
    name: SmolStr,
    time: Timestamp,
    ambiguous: bool,
}

/// The names that are known.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Pair, Answer>,
    /// In the order of their answers; some were answered again since.
    order: VecDeque<(Pair, Timestamp)>,
}

impl Names {
    pub(super) fn learn(&mut self, pair: Pair, name: &SmolStr, now: Timestamp) {
        let before = self.known.get(&pair);
        let ambiguous = before.is_some_and(|before| {
            before.ambiguous || before.name != *name && !is_old(before.time, now)
        });
        if before.is_none_or(|before| before.time != now) {
            self.order.push_back((pair, now));
        }
        self.known.insert(pair, Answer { name: name.clone(), time: now, ambiguous });
        while self.order.len() > MOST {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((pair, time)) = self.order.pop_front() else { return };
        if self.known.get(&pair).is_some_and(|answer| answer.time == time) {
            self.known.remove(&pair);
        }
    }

    /// What the initiator of a flow that begins now had asked for.
    pub(super) fn resolved(&self, pair: Pair, now: Timestamp) -> Option<Resolved> {
        if self.known.is_empty() {
            return None;
        }
        // The clock may have been set back since.
        let is_now = |answer: &&Answer| answer.time <= now && !is_old(answer.time, now);
        let answer = self.known.get(&pair).filter(is_now)?;
        Some(Resolved {
            name: answer.name.clone(),
            age: u64::try_from(now.0.saturating_sub(answer.time.0)).unwrap_or(0),
            ambiguous: answer.ambiguous,
        })
    }
}

fn is_old(time: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(time.0) > AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Address = Address(1);
    const HERE: Network = ([0; 2], 0);

    fn resolved(names: &Names, to: u128, now: i64) -> Option<(SmolStr, u64, bool)> {
        let resolved = names.resolved((CLIENT, Address(to), HERE), Timestamp(now))?;
        Some((resolved.name, resolved.age, resolved.ambiguous))
    }

    #[test]
    fn a_name_is_known_to_who_asked_for_it_for_an_hour() {
        let mut names = Names::default();
        names.learn((CLIENT, Address(2), HERE), &"a.example".into(), Timestamp(5));
        assert_eq!(resolved(&names, 2, 7), Some(("a.example".into(), 2, false)));
        assert_eq!(names.resolved((Address(3), Address(2), HERE), Timestamp(7)), None);
        assert_eq!(resolved(&names, 2, 6 + AGE), None);
        // In another network the same addresses are other hosts, and the clock may be set back.
        assert_eq!(names.resolved((CLIENT, Address(2), ([0; 2], 7)), Timestamp(7)), None);
        assert_eq!(resolved(&names, 2, 4), None);
    }

    #[test]
    fn an_address_of_two_names_is_ambiguous() {
        let mut names = Names::default();
        names.learn((CLIENT, Address(2), HERE), &"a.example".into(), Timestamp(5));
        names.learn((CLIENT, Address(2), HERE), &"a.example".into(), Timestamp(6));
        assert_eq!(resolved(&names, 2, 6), Some(("a.example".into(), 0, false)));
        names.learn((CLIENT, Address(2), HERE), &"b.example".into(), Timestamp(7));
        assert_eq!(resolved(&names, 2, 7), Some(("b.example".into(), 0, true)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut names = Names::default();
        for number in 0..2 * MOST as u128 {
            let time = Timestamp(number as i64);
            names.learn((CLIENT, Address(number), HERE), &"a.example".into(), time);
            // One that is answered again and again stays.
            names.learn((CLIENT, Address(u128::MAX), HERE), &"b.example".into(), time);
        }
        assert!(names.known.len() <= MOST && names.order.len() <= MOST);
        let now = 2 * MOST as i64;
        assert!(resolved(&names, 0, now).is_none() && resolved(&names, u128::MAX, now).is_some());
    }
}
