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
//! A kernel that has not loaded conntrack is left alone, because asking would load it. What it costs
//! to listen is written in `events.rs`, and what to look in `table.rs`.

mod events;
mod known;
mod message;
mod table;

use std::fs;
use std::path::Path;
use std::time::Instant;

use procflow_binding::{BootTime, Change, ClockSample, NamespaceId};
use procflow_core::Timestamp;

use crate::clock;
use crate::namespace::Whereabouts;
use crate::nsid::{Freed, Nsids};
use crate::source::Shortfall;
use events::{Event, Events};
use known::Known;
pub(crate) use known::MissedCause;
use table::Table;

/// The most translations that are kept, of all namespaces together: more than three times the
/// largest table that the kernel chooses by itself (262,144 entries). At 113 bytes each, and just
/// under what makes a hash table double, that is up to 120 MB.
const MOST: usize = 900_000;

/// There exactly if conntrack is.
const SIGN: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Whether the namespace makes events at all; 0 if not.
const EVENTS: &str = "/proc/sys/net/netfilter/nf_conntrack_events";

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
    hears_others: bool,
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
        let told = Events::open(buffer).and_then(|events| {
            Ok(Told { events, nsids: Nsids::open()?, hears_others: events::hears_others() })
        });
        self.state = match told {
            Ok(told) => State::Told(Box::new(told)),
            Err(error) => State::Polled { because: error.to_string() },
        };
        self.known.listening(matches!(self.state, State::Told(_)));
        self.note_shortfalls();
    }

    /// Looks at the namespace that the calling thread is in, if that is due. To be called for
    /// each namespace again and again, several times a second if possible; mostly it does
    /// nothing (10 ns).
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
            // Of the namespace that the thread is in.
            let mute = || fs::read(EVENTS).is_ok_and(|value| value.first() == Some(&b'0'));
            if !heard || mute() {
                self.known.silence(namespace, now);
            }
            let begun_at = Instant::now();
            let listed = self.table.list().map(|entries| {
                let sample = sample(entries.iter().any(|entry| entry.begun.is_some()));
                entries.iter().map(|entry| begun(entry, sample)).collect::<Vec<_>>()
            });
            let took = u64::try_from(begun_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match &listed {
                Ok(entries) => self.known.dumped(namespace, now, entries, took),
                Err(_) => self.known.not_dumped(namespace, now),
            }
            if at == Whereabouts::Home {
                self.unreadable = listed.err().map(|error| error.to_string());
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
        if !told.hears_others {
            return false;
        }
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
                for former in numbers {
                    if let Some(namespace) = told.nsids.forget(former.number) {
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

#[cfg(test)]
mod tests {
    use super::message::Side;
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        socket,
    };
    use nix::time::{ClockId, clock_gettime};
    use procflow_binding::Change;
    use std::io::Write;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    const HERE: NamespaceId = NamespaceId(1);

    /// Everything sent to port 9 goes to port 99 instead.
    const RULES: &str = "
table ip nat {
    chain out {
        type nat hook output priority -100; policy accept;
        udp dport 9 redirect to :99
    }
}
";

    /// Runs a test in a thread in a network namespace of its own, with NAT, or loudly not.
    fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
        let ready = || {
            unshare(CloneFlags::CLONE_NEWNET).is_ok()
                && run("ip", &["link", "set", "lo", "up"], "")
                && run("nft", &["-f", "-"], RULES)
        };
        let thread = std::thread::spawn(move || {
            if ready() {
                test();
            } else {
                let line = "SKIPPED: cannot make a network namespace with NAT (root, ip, nft)";
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        });
        thread.join().unwrap();
    }

    fn run(program: &str, arguments: &[&str], input: &str) -> bool {
        let child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn();
        child.is_ok_and(|mut child| {
            let mut stdin = child.stdin.take().unwrap();
            let written = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait().is_ok_and(|status| status.success()) && written.is_ok()
        })
    }

    /// So many conversations, each with its own port, to one that translates or one that does not.
    fn converse(count: usize, port: u16) {
        for at in 0..count {
            // More than there are ports, so from several addresses; and no two that would be the
            // same when translated.
            let from = format!("127.{port}.{}.1:{}", at / 20_000, 30_000 + at % 20_000);
            let socket = UdpSocket::bind(from).unwrap();
            socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
        }
    }

    fn count(changes: &[(BootTime, Change)]) -> usize {
        changes.iter().filter(|(_, change)| matches!(change, Change::Translation(_))).count()
    }

    #[test]
    fn lost_events_are_noticed_and_made_good() {
        in_a_namespace(|| {
            let mut translations = Translations::with(MOST, 4096);
            let begin = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, begin);
            assert_eq!(translations.collect(begin), (Vec::new(), None));
            converse(500, 9);
            let now = clock::now().unwrap();
            let (changes, missed) = translations.collect(now);
            let told = count(&changes);
            assert!(told < 500, "{told} events in a buffer of a page");
            assert_eq!(missed, None, "no end is known yet");
            // A second after the last dump, the next.
            let later = begin.plus(1_000_000_000);
            translations.visit(HERE, Whereabouts::Home, later);
            let (changes, missed) = translations.collect(later);
            assert_eq!(told + count(&changes), 500);
            let cause = MissedCause::EventsLost;
            assert_eq!(missed, Some(Missed { begin, end: later, cause }));
            for (time, change) in changes {
                let Change::Translation(found) = change else {
                    panic!("{change:?}");
                };
                // Between the last that was sure, and the dump.
                assert_eq!((time, found.not_before), (later, begin));
            }
            // And on it goes.
            converse(3, 99);
            let (changes, missed) = translations.collect(later.plus(1));
            assert_eq!((changes, missed), (Vec::new(), None), "these do not translate");
        });
    }

    #[test]
    fn a_table_beyond_the_bound_is_read_up_to_it() {
        in_a_namespace(|| {
            let mut translations = Translations::with(50, events::BUFFER);
            converse(100, 9);
            let now = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, now);
            let (changes, _) = translations.collect(now);
            assert_eq!(count(&changes), 50);
            let later = now.plus(10_000_000_000);
            let (_, missed) = translations.collect(later);
            assert_eq!(missed.unwrap().cause, MissedCause::TooMany);
        });
    }

    #[test]
    fn an_event_that_the_kernel_did_not_send_is_not_believed() {
        in_a_namespace(|| {
            let mut translations = Translations::open();
            let now = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, now);
            let open = |groups| {
                let (raw, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
                let netfilter = SockProtocol::NetlinkNetFilter;
                let socket = socket(AddressFamily::Netlink, raw, flags, netfilter).unwrap();
                bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).unwrap();
                socket
            };
            let (forger, witness) = (open(0), open(1));
            let forged = message::tests::MASQUERADED;
            let to = NetlinkAddr::new(0, 1);
            sendto(forger.as_raw_fd(), &forged, &to, MsgFlags::empty()).unwrap();
            let mut seen = [0; 256];
            let length = recv(witness.as_raw_fd(), &mut seen, MsgFlags::MSG_DONTWAIT).unwrap();
            assert_eq!(seen[..length], forged, "it was sent to everybody");
            assert_eq!(translations.collect(now), (Vec::new(), None));
        });
    }

    #[test]
    fn without_events_tables_tell_nearly_as_much() {
        in_a_namespace(|| {
            let mut translations = Translations::open();
            translations.state = State::Polled { because: "it is tried".to_owned() };
            translations.known.listening(false);
            let now = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, now);
            assert!(matches!(
                translations.shortfalls(),
                [Shortfall::PolledTranslations { because }] if because == "it is tried"
            ));
            translations.collect(now);
            converse(10, 9);
            let later = now.plus(2_000_000_000);
            translations.visit(HERE, Whereabouts::Home, later);
            let (changes, missed) = translations.collect(later);
            assert_eq!((count(&changes), missed), (10, None));
            assert!(changes.iter().all(|(time, change)| match change {
                Change::Translation(found) => (*time, found.not_before) == (later, now),
                _ => false,
            }));
        });
    }

    #[test]
    fn a_namespace_that_makes_no_events_is_polled() {
        in_a_namespace(|| {
            fs::write(EVENTS, "0").unwrap();
            let mut translations = Translations::open();
            let now = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, now);
            translations.collect(now);
            converse(10, 9);
            let later = now.plus(2_000_000_000);
            assert_eq!(count(&translations.collect(later).0), 0);
            translations.visit(HERE, Whereabouts::Home, later);
            assert_eq!(count(&translations.collect(later.plus(1)).0), 10);
            assert!(matches!(translations.shortfalls(), [Shortfall::PolledTranslations { .. }]));
        });
    }

    /// `cargo test --release -p procflow-probe what_it_costs -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn what_it_costs() {
        const MANY: usize = 10_000;
        in_a_namespace(|| {
            // Of this thread, in the kernel and out of it.
            let spent = || {
                let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
                spent.tv_sec() as f64 * 1e6 + spent.tv_nsec() as f64 / 1e3
            };
            let time = |what: &str, times: usize, doing: &mut dyn FnMut()| {
                let begun = spent();
                for _ in 0..times {
                    doing();
                }
                println!("{what}: {:.2} us", (spent() - begun) / times as f64);
            };
            for round in 0..3 {
                time("a conversation that nobody listens to", 1, &mut || {
                    converse(MANY, 50 + round);
                });
            }
            let mut translations = Translations::open();
            let now = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, now);
            for round in 0..3 {
                time("a conversation that we listen to, not translated", 1, &mut || {
                    converse(MANY, 60 + round);
                });
            }
            assert!(run("conntrack", &["-F"], ""));
            time("visit, not due", MANY, &mut || {
                translations.visit(HERE, Whereabouts::Home, now);
            });
            time("collect, nothing new", MANY, &mut || {
                translations.collect(now);
            });
            time("table, empty", 1000, &mut || {
                translations.table.list().unwrap();
            });
            let sides = [None, Some(Side::Source), Some(Side::Destination)];
            let dumps = |table: &mut Table, what: &str| {
                for side in sides {
                    time(&format!("dump with {what}, {side:?}"), 10, &mut || {
                        table.dump(&table::open().unwrap(), side, &mut Vec::new()).unwrap();
                    });
                }
            };
            converse(1, 99);
            dumps(&mut translations.table, "1 entry");
            converse(MANY, 98);
            dumps(&mut translations.table, "10,000 that do not translate");
            time("collect after 10,000 that do not translate", 1, &mut || {
                translations.collect(now);
            });
            converse(MANY, 9);
            let mut told = Vec::new();
            time("collect 10,000 events", 1, &mut || told = translations.collect(now).0);
            assert_eq!(count(&told), MANY);
            dumps(&mut translations.table, "10,000 more that do");
            let entries: Vec<_> = translations.table.list().unwrap();
            let entries: Vec<_> = entries.iter().map(|entry| begun(entry, None)).collect();
            time("difference of two tables of 10,000", 10, &mut || {
                translations.known.dumped(HERE, now, &entries, 0);
            });
            // How many events the buffer holds.
            assert!(run("conntrack", &["-F"], ""));
            translations.collect(now);
            converse(100_000, 9);
            let (told, _) = translations.collect(now);
            println!("the buffer holds {} events", count(&told));
        });
    }

    #[test]
    fn where_the_kernel_notes_times_they_are_taken() {
        in_a_namespace(|| {
            let noted = fs::write("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1").is_ok();
            let mut translations = Translations::open();
            let begin = clock::now().unwrap();
            translations.visit(HERE, Whereabouts::Home, begin);
            translations.collect(begin);
            let before = clock::now().unwrap();
            converse(1, 9);
            let after = clock::now().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(run("conntrack", &["-F"], ""));
            let now = clock::now().unwrap();
            let (changes, _) = translations.collect(now);
            let [(begun, Change::Translation(found)), (ended, Change::TranslationGone(gone))] =
                changes[..]
            else {
                panic!("{changes:?}");
            };
            // Before Linux 6.14 the kernel notes no times of events, or was built not to.
            if !noted || begun == now {
                assert!(found.not_before <= before && begun == now);
                return;
            }
            // The two clocks are read one after the other, and may be slewed.
            let slack = 1_000_000;
            assert!(before.minus(slack) <= begun && begun <= after.plus(slack));
            assert!(after < ended.plus(slack) && ended <= now && begun < ended);
            assert_eq!((found.not_before, gone.last_seen), (begun, ended));
        });
    }
}
