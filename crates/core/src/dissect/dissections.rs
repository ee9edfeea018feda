//! The dissections of all flows of a cache: where each flow's is, and how much all may keep.

use super::listening::{self, Listening, Sight, Start};
use super::names::Names;
use super::speech::Next;
use super::{Dissected, Learnt, Rules};
use crate::flow::{Direction, Flow, Slab};
use crate::key::{Protocol, Timestamp};
use crate::packet::{Address, Packet};

/// How flows are dissected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DissectionSettings {
    /// So many packets with payload of each flow are looked at (NFStream's `n_dissections`, which counts those
    /// without payload as well).
    pub packets: u16,
    /// So many octets of a flow are kept at most while it is listened to; one that wants more is not read on.
    pub octets: u32,
    /// Whether paths of HTTP requests are kept, with the values of their queries blanked.
    pub paths: bool,
    /// By which applications are named; by those that are shipped unless said.
    pub rules: Option<&'static Rules>,
}

impl Default for DissectionSettings {
    /// 20 packets, 96 KiB, no paths, the rules that are shipped.
    fn default() -> Self {
        Self { packets: 20, octets: 96 << 10, paths: false, rules: None }
    }
}

/// What is kept of all flows of a cache to go on with, and what was found in them, may take so many octets
/// together (there are up to 16 caches). Of a flow that would take more only the protocol is kept.
const ALL: usize = 32 << 20;

/// Where a flow's dissection is, 0 if it has none; and whether nothing more is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place(u32);

impl Place {
    const NONE: Self = Self(0);
    const CLOSED: u32 = 1 << 31;

    const fn index(self) -> usize {
        (self.0 & !Self::CLOSED) as usize
    }

    /// Most packets are of flows of which nothing more is read: that must be seen here, where the flow's other
    /// state is not touched.
    const fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }
}

#[derive(Debug, Default)]
struct Dissection {
    /// By itself, to be handed out as it is.
    found: Box<Dissected>,
    /// Gone when nothing more is read.
    listening: Option<Box<Listening>>,
    /// How much memory it took when it was weighed last.
    weight: usize,
}

impl Dissection {
    /// How much memory it takes, in octets, about.
    fn weigh(&self) -> usize {
        let listening = self.listening.as_ref();
        self.found.weight() + listening.map_or(0, |heard| size_of::<Listening>() + heard.len())
    }
}

/// The dissections of a cache's flows.
#[derive(Debug)]
pub(crate) struct Dissections {
    settings: DissectionSettings,
    rules: &'static Rules,
    places: Slab<Place>,
    /// Found by a place; a flow of which nothing is found takes none.
    found: Vec<Option<Dissection>>,
    free: Vec<u32>,
    kept: usize,
    names: Names,
}

impl Dissections {
    pub(crate) fn new(settings: DissectionSettings) -> Self {
        // The first place is taken: it means that there is none.
        Self {
            settings,
            rules: settings.rules.unwrap_or_else(Rules::shipped),
            places: Slab::new(1),
            found: vec![None],
            free: Vec::new(),
            kept: 0,
            names: Names::default(),
        }
    }

    pub(crate) fn rules(&self) -> &'static Rules {
        self.rules
    }

    /// Makes sure that there is room for this flow.
    pub(crate) fn reach(&mut self, number: u32) {
        self.places.reach(number, &Place::NONE);
    }

    /// A host was told an address for a name, by a packet between these VLANs and in this virtual network.
    pub(crate) fn learn(
        &mut self,
        client: Address,
        network: ([u16; 2], u32),
        learnt: &Learnt,
        now: Timestamp,
    ) {
        self.names.learn((client, learnt.address.into(), network), &learnt.name, now);
    }

    /// A flow begins.
    pub(crate) fn begin(&mut self, number: u32, flow: &Flow, now: Timestamp) {
        *self.places.one_mut(number) = Place::NONE;
        let pair = (flow.source, flow.destination, (flow.link.vlans, flow.virtual_network));
        if let Some(resolved) = self.names.resolved(pair, now) {
            let found = Box::new(Dissected { resolved: Some(resolved), ..Dissected::default() });
            self.put(number, Dissection { found, ..Dissection::default() });
        }
    }

    /// A flow is over: what was found of it.
    pub(crate) fn end(&mut self, number: u32) -> Option<Box<Dissected>> {
        let place = std::mem::replace(self.places.one_mut(number), Place::NONE);
        let Dissection { mut found, listening, weight } = self.take(place)?;
        self.kept -= weight;
        if let Some(listening) = listening {
            listening.finish(self.settings.paths, &mut found);
        }
        (*found != Dissected::default()).then_some(found)
    }

    fn take(&mut self, place: Place) -> Option<Dissection> {
        let gone = self.found.get_mut(place.index())?.take()?;
        self.free.push(place.0 & !Place::CLOSED);
        Some(gone)
    }

    fn put(&mut self, number: u32, mut dissection: Dissection) {
        let place = self.free.pop().or_else(|| {
            let place =
                u32::try_from(self.found.len()).ok().filter(|&place| place < Place::CLOSED)?;
            self.found.push(None);
            Some(place)
        });
        let Some(place) = place else { return };
        if let Some(found) = self.found.get_mut(place as usize) {
            dissection.weight = dissection.weigh();
            self.kept += dissection.weight;
            *found = Some(dissection);
            *self.places.one_mut(number) = Place(place);
        }
    }

    /// Shows a packet of a flow, with its payload as far as that was captured.
    #[inline]
    pub(crate) fn see(
        &mut self,
        number: u32,
        flow: &Flow,
        direction: Direction,
        packet: &Packet,
        payload: &[u8],
    ) {
        if !payload.is_empty() && !self.places.one(number).is_closed() {
            self.look(number, flow, direction, packet, payload);
        }
    }

    #[inline(never)]
    fn look(
        &mut self,
        number: u32,
        flow: &Flow,
        direction: Direction,
        packet: &Packet,
        payload: &[u8],
    ) {
        let is_tcp = packet.protocol == Protocol::TCP;
        // Of a datagram in fragments the first one has the message's begin.
        let is_read = is_tcp || packet.protocol == Protocol::UDP;
        if !is_read || packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return;
        }
        let place = *self.places.one(number);
        let begun = self.found.get(place.index()).and_then(Option::as_ref);
        if begun.is_none_or(|dissection| dissection.listening.is_none()) {
            match listening::at_first_sight(flow, direction, packet, payload) {
                Sight::Nothing => return self.close(number),
                Sight::All(protocol) => {
                    self.keep(number, |dissection| dissection.found.protocol = Some(protocol));
                    return self.close(number);
                }
                Sight::Listen(start) => {
                    let listening = Some(Box::new(Listening::new(flow, is_tcp, &start)));
                    self.keep(number, |dissection| {
                        dissection.listening = listening;
                        if let Start::Known(protocol) = start {
                            dissection.found.protocol = Some(protocol);
                        }
                    });
                }
            }
        }
        let Self { settings, places, found, kept, .. } = self;
        let at = places.one(number).index();
        let Some(Some(dissection)) = found.get_mut(at) else { return };
        let Dissection { found, listening, weight } = dissection;
        let Some(heard) = listening else { return };
        let next = heard.hear(flow, direction, packet, payload, settings.paths, found);
        let full = heard.len() > settings.octets as usize;
        if next == Next::Over || full || heard.packets >= settings.packets {
            heard.finish(settings.paths, found);
            *listening = None;
        }
        let before = *weight;
        let mut after = dissection.weigh();
        if *kept - before + after > ALL && after > before {
            dissection.found.forget_all_but_the_protocol();
            dissection.listening = None;
            after = dissection.weigh();
        }
        dissection.weight = after;
        *kept = *kept - before + after;
        if dissection.listening.is_none() {
            self.close(number);
        }
    }

    /// Changes a flow's dissection, or begins it.
    fn keep(&mut self, number: u32, change: impl FnOnce(&mut Dissection)) {
        let at = self.places.one(number).index();
        if let Some(Some(dissection)) = self.found.get_mut(at) {
            change(dissection);
            let after = dissection.weigh();
            let before = std::mem::replace(&mut dissection.weight, after);
            self.kept = self.kept - before + after;
        } else {
            let mut dissection = Dissection::default();
            change(&mut dissection);
            self.put(number, dissection);
        }
    }

    /// Nothing more is to be read of a flow. What was found stays.
    fn close(&mut self, number: u32) {
        let place = *self.places.one(number);
        let found = self.found.get(place.index()).and_then(Option::as_ref);
        let is_empty = found.is_none_or(|dissection| *dissection.found == Dissected::default());
        if is_empty {
            self.end(number);
        }
        let place = self.places.one_mut(number);
        place.0 |= Place::CLOSED;
    }

    /// What is found of a flow so far.
    pub(crate) fn found(&self, number: u32) -> Option<&Dissected> {
        let at = self.places.one(number).index();
        Some(&self.found.get(at)?.as_ref()?.found)
    }

    /// What is found of a flow, if nothing more comes.
    pub(crate) fn dissected(&self, number: u32) -> Option<Box<Dissected>> {
        let at = self.places.one(number).index();
        let Dissection { found, listening, .. } = self.found.get(at)?.as_ref()?;
        let mut found = found.clone();
        if let Some(listening) = listening {
            listening.finish(self.settings.paths, &mut found);
        }
        (*found != Dissected::default()).then_some(found)
    }
}
