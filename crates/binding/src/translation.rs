//! A translation joins two views of one conversation: the addresses that one end's host sees and
//! those that a network beyond the translator sees (RFC 3022).
//!
//! The initiator's packets are seen beyond as the reply reversed, and really are the original; the
//! responder's are seen before as the original reversed, and really are the reply. So each
//! translation is kept twice, once for each end, under the key by which that end is seen.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use procflow_core::FlowKey;

use crate::clock::BootTime;
use crate::event::{Translation, TranslationGone};
use crate::socket::NamespaceId;
use crate::timeline::{Dated, Presence, Timeline};

/// What an end that is seen under some key really is.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    /// Who translates.
    pub(crate) namespace: NamespaceId,
    /// Its own endpoint is the source.
    pub(crate) real: FlowKey,
    pub(crate) presence: Presence,
}

impl Dated for Turn {
    fn presence(&self) -> &Presence {
        &self.presence
    }

    fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }

    fn number(&self) -> u64 {
        self.number
    }
}

/// All translations of one boot of one host.
#[derive(Debug, Default)]
pub(crate) struct Translations {
    /// By the key under which an end is seen, its own endpoint the source.
    turns: HashMap<FlowKey, Timeline<Turn>>,
    /// By who translates, and the original as it was told.
    open: HashMap<(NamespaceId, FlowKey), Opened>,
    /// How many there ever were.
    count: u64,
}

#[derive(Debug)]
struct Opened {
    reply: FlowKey,
    number: u64,
    first_seen: BootTime,
    /// Told since the last gap, as for sockets.
    confirmed: bool,
}

impl Translations {
    /// Takes one in; `former_end` is when one that it replaces was last known of.
    pub(crate) fn apply(&mut self, new: Translation, time: BootTime, former_end: BootTime) {
        let Translation { namespace, original, reply, not_before } = new;
        if let Some(known) = self.open.get_mut(&(namespace, original)) {
            if known.reply == reply {
                known.confirmed = true;
                return;
            }
            self.close((namespace, original), former_end, time);
        }
        if ends(original, reply).next().is_none() {
            return;
        }
        self.count += 1;
        let (number, first_seen) = (self.count, time);
        for (seen, real) in ends(original, reply) {
            let presence = Presence::since(time, not_before);
            let turn = Turn { number, namespace, real, presence };
            self.turns.entry(seen).or_insert_with(Timeline::new).insert(turn);
        }
        let opened = Opened { reply, number, first_seen, confirmed: true };
        self.open.insert((namespace, original), opened);
    }

    pub(crate) fn gone(&mut self, gone: TranslationGone, time: BootTime) {
        self.close((gone.namespace, gone.original), gone.last_seen, time);
    }

    pub(crate) fn namespace_gone(&mut self, id: NamespaceId, last_seen: BootTime, time: BootTime) {
        self.close_all(|(namespace, _), _| *namespace == id, last_seen, time);
    }

    /// A gap: they must be told again before the next listing is whole.
    pub(crate) fn doubt(&mut self) {
        self.open.values_mut().for_each(|open| open.confirmed = false);
    }

    /// The listing is whole: what was not told again is over.
    pub(crate) fn listed(&mut self, last_seen: BootTime, time: BootTime) {
        self.close_all(|_, open| !open.confirmed, last_seen, time);
    }

    /// Forgets what ended before `before`.
    pub(crate) fn prune(&mut self, before: BootTime) {
        self.turns.retain(|_, turns| {
            turns.retain(|turn| turn.presence.latest(BootTime(u64::MAX)) >= before);
            !turns.is_empty()
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether they turn an end that is seen under a key into another, at any time.
    pub(crate) fn turn(&self, seen: &FlowKey) -> bool {
        self.turns.contains_key(seen)
    }

    /// What an end that is seen under a key may really have been around a stretch, in order.
    pub(crate) fn turns(
        &self,
        seen: &FlowKey,
        stretch: &RangeInclusive<BootTime>,
        now: BootTime,
    ) -> Vec<&Turn> {
        self.turns.get(seen).map(|turns| turns.touching(stretch, now)).unwrap_or_default()
    }

    fn close_all(
        &mut self,
        over: impl Fn(&(NamespaceId, FlowKey), &Opened) -> bool,
        last_seen: BootTime,
        time: BootTime,
    ) {
        let over = self.open.iter().filter(|(key, open)| over(key, open)).map(|(&key, _)| key);
        for key in over.collect::<Vec<_>>() {
            self.close(key, last_seen, time);
        }
    }

    fn close(&mut self, key: (NamespaceId, FlowKey), last_seen: BootTime, time: BootTime) {
        let Some(Opened { reply, number, first_seen, .. }) = self.open.remove(&key) else { return };
        for (seen, _) in ends(key.1, reply) {
            if let Some(turns) = self.turns.get_mut(&seen) {
                turns.finish(first_seen, number, last_seen, time);
            }
        }
    }
}

/// Both ends: as each is seen, and as it really is. None of a conversation that is merely tracked:
/// there both are the same.
fn ends(original: FlowKey, reply: FlowKey) -> impl Iterator<Item = (FlowKey, FlowKey)> {
    let (original, reply) = (original.of_sockets(), reply.of_sockets());
    let both = [(reply.reversed(), original), (original.reversed(), reply)];
    both.into_iter().filter(|(seen, real)| seen != real)
}
