//! Which ports the later fragments of a packet belong to: only the first has them.
//!
//! Nothing is put together again. What is remembered is who a packet's first fragment was from and to;
//! the others then count in the same flow. Fragments that come before the first wait for it, without
//! their payload; those whose first never comes count in a flow without ports.

use std::collections::VecDeque;

use hashbrown::{HashMap, hash_map::Entry};

use super::{Address, Packet, Transport};
use crate::key::{Protocol, Timestamp};

/// What all fragments of a packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Whole {
    source: Address,
    destination: Address,
    protocol: Protocol,
    identification: u32,
    vlans: [u16; 2],
    virtual_network: u32,
}

/// The fragments on their way.
#[derive(Debug, Default)]
pub struct Fragments {
    known: HashMap<Whole, Known>,
    /// In the order in which they came; some are no longer known.
    order: VecDeque<(Timestamp, Whole)>,
    waiting: usize,
}

#[derive(Debug)]
enum Known {
    Ports(u16, u16),
    /// Those that came before the first.
    Waiting(Vec<Packet>),
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.protocol, self.identification)
    }
}

/// So long the fragments of one packet may take to arrive (RFC 8200 section 4.5), in nanoseconds.
const LIFETIME: i64 = 60_000_000_000;

/// So many packets in fragments are known at a time, and so many fragments wait for the first one. More
/// are on their way only when somebody sends them for that purpose.
const MOST: usize = 4096;

impl Fragments {
    /// Takes a packet, and hands on those whose ports are known now: itself, and what waited for it. One
    /// that is no fragment is handed on as it is.
    pub fn take(&mut self, packet: Packet, now: Timestamp, mut hand_on: impl FnMut(Packet)) {
        let Some(fragment) = packet.fragment else { return hand_on(packet) };
        if !packet.protocol.has_ports() {
            return hand_on(packet);
        }
        self.forget(now, &mut hand_on);
        let whole = Whole {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            identification: fragment.identification,
            vlans: packet.link.vlans,
            virtual_network: packet.virtual_network,
        };
        let full = self.waiting >= MOST;
        let entry = self.known.entry(whole);
        if matches!(entry, Entry::Vacant(_)) {
            self.order.push_back((now, whole));
        }
        if fragment.offset == 0 {
            let ports = (packet.source_port, packet.destination_port);
            let waited = match entry {
                Entry::Occupied(mut known) => known.insert(Known::Ports(ports.0, ports.1)),
                Entry::Vacant(free) => {
                    free.insert(Known::Ports(ports.0, ports.1));
                    Known::Ports(0, 0)
                }
            };
            hand_on(packet);
            if let Known::Waiting(waited) = waited {
                self.waiting -= waited.len();
                waited.into_iter().for_each(|packet| hand_on(with_ports(packet, ports)));
            }
            return;
        }
        match entry {
            Entry::Occupied(mut known) => match known.get_mut() {
                Known::Ports(source, destination) => {
                    hand_on(with_ports(packet, (*source, *destination)));
                }
                Known::Waiting(_) if full => hand_on(packet),
                Known::Waiting(waiting) => {
                    waiting.push(without_payload(packet));
                    self.waiting += 1;
                }
            },
            Entry::Vacant(_) if full => {
                self.order.pop_back();
                hand_on(packet);
            }
            Entry::Vacant(free) => {
                free.insert(Known::Waiting(vec![without_payload(packet)]));
                self.waiting += 1;
            }
        }
    }

    /// Gives up on those that are too old or too many.
    fn forget(&mut self, now: Timestamp, hand_on: &mut impl FnMut(Packet)) {
        while let Some(&(since, whole)) = self.order.front() {
            let old = now.0.saturating_sub(since.0) > LIFETIME;
            if !old && self.order.len() < MOST {
                break;
            }
            self.order.pop_front();
            self.give_up(whole, hand_on);
        }
    }

    fn give_up(&mut self, whole: Whole, hand_on: &mut impl FnMut(Packet)) {
        if let Some(Known::Waiting(waiting)) = self.known.remove(&whole) {
            self.waiting -= waiting.len();
            waiting.into_iter().for_each(hand_on);
        }
    }

    /// Hands on all that still wait, without ports: nothing more comes.
    pub fn finish(&mut self, mut hand_on: impl FnMut(Packet)) {
        while let Some((_, whole)) = self.order.pop_front() {
            self.give_up(whole, &mut hand_on);
        }
    }
}

/// Its frame will be gone.
fn without_payload(packet: Packet) -> Packet {
    Packet { payload: (0, 0), ..packet }
}

fn with_ports(packet: Packet, (source_port, destination_port): (u16, u16)) -> Packet {
    let transport = match packet.transport {
        Transport::Other => Transport::Ports,
        known => known,
    };
    Packet { source_port, destination_port, transport, ..packet }
}
