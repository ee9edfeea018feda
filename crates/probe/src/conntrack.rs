//! Conntrack: the kernel's table of conversations, one per network namespace, by which it
//! translates addresses (NAT). An entry has the tuple of both directions; where one is not the
//! other reversed, a flow that was exported outside of the namespace carries other addresses than
//! the socket inside has. [`Translations`] tells of those, with their times.
//!
//! It is *told* by events of all namespaces, through one socket in our own, and *looks* at the
//! table of a namespace when it comes into view, when events were lost, and now and then to make
//! up for what events do not tell. Where events do not work, it looks every 2 s, and that still
//! shows nearly everything: the kernel keeps an entry when its conversation is over, 10 s after a
//! reset, 30 s for UDP and ICMP, 120 s after a regular end of TCP
//! (Documentation/networking/nf_conntrack-sysctl.rst).
//!
//! A kernel that has not loaded conntrack is left alone, because asking would load it. Being
//! listened to costs the kernel something, too: see `LISTENING` in `events.rs`.

mod events;
mod known;
mod message;
mod nsid;
mod table;

use std::path::Path;

use procflow_binding::{BootTime, Change, ClockSample, NamespaceId};
use procflow_core::Timestamp;

use crate::clock;
use crate::source::Shortfall;
use events::{Event, Events};
use known::Known;
pub(crate) use known::MissedCause;
use nsid::{Freed, Nsids};
use table::Table;

/// The most translations that are kept, of all namespaces together: four times the
/// largest table that the kernel chooses by itself (262,144 entries), for about 150 MB.
const MOST: usize = 1_000_000;

/// There exactly if conntrack is.
const SIGN: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Translations may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// All that was there before is known.
    pub(crate) begin: BootTime,
    /// All that is there now is known.
    pub(crate) end: BootTime,
    /// Why.
    pub(crate) cause: MissedCause,
}

/// Where the thread is that visits a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In the namespace in which [`Translations::open`] was called.
    Home,
    /// In another one.
    Abroad,
}

/// The translations of all namespaces that are visited.
///
/// It holds sockets of the namespace in which it was opened, and of no other: what it keeps open
/// keeps no container's network alive.
pub(crate) struct Translations {
    state: State,
    table: Table,
    known: Known,
    home: Option<NamespaceId>,
    /// Why the table at home could not be read.
    unreadable: Option<String>,
    shortfalls: Vec<Shortfall>,
    overfull: bool,
}

/// How translations are learned.
enum State {
    /// Conntrack is not loaded (yet).
    Absent,
    /// By events, and tables.
    Told(Box<Told>),
    /// By tables alone.
    Polled {
        /// Why not by events.
        because: String,
    },
}

/// What it takes to be told.
struct Told {
    events: Events,
    nsids: Nsids,
}

impl Translations {
    /// Begins to listen, if that is possible, for the namespace that the calling thread is in.
    /// What is not possible is among the [`Translations::shortfalls`].
    pub(crate) fn open() -> Self {
        Self::with(MOST, events::BUFFER)
    }

    /// With other bounds.
    fn with(most: usize, buffer: usize) -> Self {
        let mut translations = Self {
            state: State::Absent,
            table: Table::new(most),
            known: Known::new(most),
            home: None,
            unreadable: None,
            shortfalls: Vec::new(),
            overfull: false,
        };
        translations.listen(buffer);
        translations
    }

    /// Begins to listen as soon as there is something to listen to. To be called at home.
    fn listen(&mut self, buffer: usize) {
        if !Path::new(SIGN).exists() {
            return;
        }
        let told =
            Events::open(buffer).and_then(|events| Ok(Told { events, nsids: Nsids::open()? }));
        self.state = match told {
            Ok(told) => State::Told(Box::new(told)),
            Err(error) => State::Polled { because: error.to_string() },
        };
        self.known.listening(matches!(self.state, State::Told(_)));
        self.note_shortfalls();
    }

    /// Looks at the namespace that the calling thread is in, if that is due. To be called for
    /// each namespace again and again, several times a second if possible; mostly it does
    /// nothing (0.1 us).
    ///
    /// What is learned is dated `now`, and told by the next [`Translations::collect`]. What goes
    /// wrong here is tried again, and found among the [`Translations::shortfalls`].
    pub(crate) fn visit(&mut self, namespace: NamespaceId, at: Whereabouts, now: BootTime) {
        if at == Whereabouts::Home {
            self.home = Some(namespace);
            if matches!(self.state, State::Absent) {
                self.listen(events::BUFFER);
            }
        }
        if matches!(self.state, State::Absent) {
            return;
        }
        let heard = at == Whereabouts::Home || self.hear(namespace, now);
        if self.known.due(namespace, now) {
            let listed = self.table.list().map(|entries| {
                let sample = sample(entries.iter().any(|entry| entry.begun.is_some()));
                entries.iter().map(|entry| begun(entry, sample)).collect::<Vec<_>>()
            });
            match &listed {
                Ok(entries) => self.known.dumped(namespace, now, entries),
                Err(_) => self.known.not_dumped(namespace, now),
            }
            if at == Whereabouts::Home {
                self.unreadable = listed.err().map(|error| error.to_string());
            }
            if !heard {
                self.known.silence(namespace);
            }
            self.note_shortfalls();
        }
    }

    /// Makes sure that events of the namespace that the calling thread is in, not home, arrive and
    /// can be told by their number; false where they cannot.
    fn hear(&mut self, namespace: NamespaceId, now: BootTime) -> bool {
        let State::Told(told) = &mut self.state else {
            return true; // nobody listens anyway
        };
        if told.nsids.knows(namespace) {
            return true;
        }
        let Ok(number) = told.nsids.ask() else {
            return false;
        };
        // What was told under this number until now was not told by this namespace.
        self.absorb(now);
        if let State::Told(told) = &mut self.state {
            told.nsids.remember(number, namespace);
        }
        true
    }

    /// Reads all events that there are; false if there are still more.
    fn absorb(&mut self, now: BootTime) -> bool {
        let State::Told(told) = &mut self.state else {
            return true;
        };
        let mut events = Vec::new();
        let mut result = told.events.receive(&mut events);
        // Only now: see `nsid.rs`.
        let freed = told.nsids.freed().unwrap_or_else(|error| {
            result = Err(error);
            Freed::Unknown
        });
        match freed {
            Freed::These(numbers) => {
                for number in numbers {
                    if let Some(namespace) = told.nsids.forget(number) {
                        self.known.namespace_gone(namespace, now);
                    }
                }
            }
            Freed::Unknown => {
                // All namespaces are asked for their numbers again. What was told meanwhile may
                // have been anybody's.
                told.nsids.forget_all();
                self.known.lost();
            }
        }
        let sample = sample(events.iter().any(|event| {
            let entry = &event.entry;
            entry.begun.or(entry.ended).is_some()
        }));
        for event in &events {
            let Event { number, over, entry } = event;
            let namespace = match number {
                None => self.home,
                Some(number) => told.nsids.namespace(*number),
            };
            match namespace {
                None => {} // its first dump is still to come
                Some(namespace) if *over => {
                    self.known.ended(namespace, now, ended(entry, sample));
                }
                Some(namespace) => self.known.began(namespace, now, begun(entry, sample)),
            }
        }
        match result {
            Ok(received) => {
                if received.lost {
                    self.known.lost();
                }
                !received.more
            }
            Err(error) => {
                self.known.lost();
                self.known.listening(false);
                self.state = State::Polled { because: error.to_string() };
                self.note_shortfalls();
                true
            }
        }
    }

    /// Forgets the namespaces that are not there any more, and with them their translations. A
    /// source calls it before it tells that a namespace is gone.
    pub(crate) fn retain(&mut self, now: BootTime, there: impl FnMut(NamespaceId) -> bool) {
        self.known.retain(now, there);
    }

    /// What changed since this was last called, with times after that and up to `now`; and the
    /// time for which translations may have been missed.
    ///
    /// `now` should have been read just before, because events that came since are dated with it
    /// unless the kernel dates them itself (nf_conntrack_timestamp=1, for Linux 6.14 and later).
    pub(crate) fn collect(&mut self, now: BootTime) -> (Vec<(BootTime, Change)>, Option<Missed>) {
        let read = self.absorb(now);
        let (changes, missed) = self.known.collect(now, read);
        self.overfull = missed.is_some_and(|missed| missed.cause == MissedCause::TooMany);
        (changes, missed)
    }

    /// What cannot be seen here.
    pub(crate) fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }

    fn note_shortfalls(&mut self) {
        self.shortfalls.clear();
        if let Some(because) = self.unreadable.clone() {
            self.shortfalls.push(Shortfall::NoTranslations { because });
        } else if let State::Polled { because } = &self.state {
            self.shortfalls.push(Shortfall::PolledTranslations { because: because.clone() });
        } else if self.known.silent() > 0 {
            let because = format!("those of {} namespaces do not arrive", self.known.silent());
            self.shortfalls.push(Shortfall::PolledTranslations { because });
        }
        if self.overfull {
            self.shortfalls.push(Shortfall::TooManyTranslations { most: MOST });
        }
    }
}

/// The two clocks, where they are needed. Times that the kernel tells are real time; all of an
/// answer are converted by one sample, so a clock that was stepped since makes them wrong, and
/// whoever uses them limits by how much.
fn sample(needed: bool) -> Option<ClockSample> {
    needed.then(clock::sample).and_then(Result::ok)
}

fn boot(real: Option<Timestamp>, sample: Option<ClockSample>) -> Option<BootTime> {
    let time = i128::from(real?.0) - sample?.offset();
    Some(BootTime(u64::try_from(time.max(0)).unwrap_or(u64::MAX)))
}

fn begun(entry: &message::Entry, sample: Option<ClockSample>) -> known::Entry {
    let message::Entry { original, reply, id, begun, .. } = *entry;
    known::Entry { original, reply, id, at: boot(begun, sample) }
}

fn ended(entry: &message::Entry, sample: Option<ClockSample>) -> known::Entry {
    let message::Entry { original, reply, id, ended, .. } = *entry;
    known::Entry { original, reply, id, at: boot(ended, sample) }
}
