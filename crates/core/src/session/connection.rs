//! One connection that goes on: what its next segment means, by what is known of it.

use super::round_trips::Flight;
use super::stream::{Piece, Segment, Stream, Taken};
use super::{Event, EventKind, Opening, SessionId, Side, Summary};
use crate::flow::{Both, CloseStyle, Closing, Direction, EndReason, Flow, Handshake};
use crate::key::{FlowKey, Timestamp};
use crate::packet::{Packet, Tcp, TcpFlags};

/// Whom events are told.
pub(super) type Tell<'a> = &'a mut dyn FnMut(&Event<'_>);

/// What is known of one direction.
#[derive(Clone, Debug, Default)]
struct Sender {
    /// The sequence number of its SYN.
    initial: Option<u32>,
    stream: Stream,
    flight: Flight,
    side: Side,
}

/// A connection that goes on.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    id: SessionId,
    key: FlowKey,
    flow: Flow,
    handshake: Handshake,
    senders: Both<Sender>,
    opening: Option<Opening>,
    closed: Option<Timestamp>,
    /// A SYN of another connection of the same ports, while this one goes on. Whether it was sent by the
    /// initiator or made up, the answer to it shows: so long it counts nowhere.
    again: Option<Box<Packet>>,
}

impl Connection {
    /// One that begins with this packet, which is not taken in yet.
    pub(super) fn begun_by(id: SessionId, packet: &Packet) -> Self {
        let flow = Flow::begun_by(packet);
        Self {
            id,
            key: flow.flow_key(),
            flow,
            handshake: Handshake::default(),
            senders: Both::default(),
            opening: None,
            closed: None,
            again: None,
        }
    }

    pub(super) fn is_of(&self, packet: &Packet) -> bool {
        self.flow.is_of(packet)
    }

    /// When its first packet came, and between whom: an order that no other connection has at a time.
    pub(super) fn order(&self) -> (Timestamp, SessionId) {
        (self.flow.first(), self.id)
    }

    pub(super) fn is_started(&self) -> bool {
        self.opening.is_some()
    }

    pub(super) fn closed(&self) -> Option<Timestamp> {
        self.closed
    }

    /// What waits in both directions costs so many octets of memory.
    pub(super) fn cost(&self) -> usize {
        self.senders.forward.stream.cost() + self.senders.reverse.stream.cost()
    }

    /// Whether a segment is of another connection of the same ports: this one is closed, or the other's SYN is
    /// answered, or gone on from.
    pub(super) fn is_followed_by(&self, packet: &Packet, tcp: &Tcp) -> bool {
        let direction = self.flow.direction(packet);
        if self.flow.closing.is_reopened_by(direction, tcp) {
            return true;
        }
        let Some(again) = &self.again else { return false };
        let Some(syn) = segment(again) else { return false };
        let after = syn.sequence.wrapping_add(1);
        if self.flow.direction(again) == direction {
            let goes_on = !tcp.flags.has(TcpFlags::SYN) && !tcp.flags.has(TcpFlags::RST);
            goes_on && tcp.sequence == after
        } else {
            tcp.flags.accepts() && tcp.acknowledgment == after
        }
    }

    /// The SYN that the other connection began with.
    pub(super) fn take_again(&mut self) -> Option<Box<Packet>> {
        self.again.take()
    }

    /// Takes in a segment and its captured payload.
    pub(super) fn take(
        &mut self,
        packet: &Packet,
        tcp: &Tcp,
        payload: &[u8],
        now: Timestamp,
        tell: Tell<'_>,
    ) {
        let direction = self.flow.direction(packet);
        let (syn, rst) = (tcp.flags.has(TcpFlags::SYN), tcp.flags.has(TcpFlags::RST));
        let initial = self.senders.of(direction).initial;
        let started = self.is_started();
        if tcp.flags.opens() && started && initial != Some(tcp.sequence) {
            if let Some(before) = self.again.replace(Box::new(*packet)) {
                self.count(&before);
            }
            return;
        }
        self.count(packet);
        if syn {
            self.synchronise(direction, tcp, now, tell);
        }
        self.handshake.see(direction, tcp.flags, packet.time);
        let style = self.flow.closing.style();
        self.flow.closing.see(direction, tcp, packet.lengths.payload);
        if !syn && !rst && !started {
            self.start(now, tell);
        }
        if tcp.flags.has(TcpFlags::ACK) {
            self.acknowledge(direction, tcp.acknowledgment, packet.time, now, tell);
        }
        if !(rst || syn && started) {
            self.octets(direction, packet, tcp, payload, now, tell);
        }
        let by = match self.flow.closing.style() {
            reset if reset == style => None,
            CloseStyle::ResetByInitiator => Some(Direction::Forward),
            CloseStyle::ResetByResponder => Some(Direction::Reverse),
            _ => None,
        };
        if let Some(by) = by {
            tell(&self.event(now, EventKind::Reset { by }));
        }
        if self.flow.closing.is_closed() {
            self.closed.get_or_insert(now);
        }
    }

    fn count(&mut self, packet: &Packet) {
        let direction = self.flow.direction(packet);
        self.flow.counters.of_mut(direction).count(packet);
    }

    fn event<'a>(&self, time: Timestamp, kind: EventKind<'a>) -> Event<'a> {
        Event { session: self.id, key: self.key, time, kind }
    }

    /// A SYN came. Until the handshake is over, one with another number is a new attempt.
    fn synchronise(&mut self, direction: Direction, tcp: &Tcp, now: Timestamp, tell: Tell<'_>) {
        let started = self.is_started();
        let sender = self.senders.of_mut(direction);
        let again = sender.initial.is_some();
        if again && !started && sender.initial != Some(tcp.sequence) {
            self.flow.closing = Closing::default();
        }
        if !started {
            sender.initial = Some(tcp.sequence);
            sender.stream.begin(tcp.sequence.wrapping_add(1));
        }
        if again {
            sender.side.syn_retries += 1;
            tell(&self.event(now, EventKind::SynRetry { by: direction }));
        }
    }

    fn start(&mut self, now: Timestamp, tell: Tell<'_>) {
        let [forward, reverse] =
            [&self.senders.forward, &self.senders.reverse].map(|sender| sender.initial.is_some());
        let opening = match (forward, reverse) {
            (true, true) => Opening::Full,
            (false, false) => Opening::None,
            _ => Opening::Half,
        };
        self.opening = Some(opening);
        tell(&self.event(now, EventKind::Start { opening }));
        for direction in [Direction::Forward, Direction::Reverse] {
            self.with_stream(direction, now, tell, Stream::open);
        }
    }

    /// The sender of this direction has everything of the other one in front of that number.
    fn acknowledge(
        &mut self,
        direction: Direction,
        number: u32,
        time: Timestamp,
        now: Timestamp,
        tell: Tell<'_>,
    ) {
        let direction = direction.other();
        let sender = self.senders.of_mut(direction);
        let Some(until) = sender.stream.place(number) else { return };
        while let Some(nanoseconds) =
            self.senders.of_mut(direction).flight.acknowledged(until, time)
        {
            self.senders.of_mut(direction).side.round_trips.add(nanoseconds);
            tell(&self.event(now, EventKind::RoundTrip { direction, nanoseconds }));
        }
        self.with_stream(direction, now, tell, |stream, pieces| stream.give_up(until, pieces));
    }

    /// Takes in what a segment has of its stream.
    fn octets(
        &mut self,
        direction: Direction,
        packet: &Packet,
        tcp: &Tcp,
        payload: &[u8],
        now: Timestamp,
        tell: Tell<'_>,
    ) {
        let length = packet.lengths.payload;
        // The end of a packet in fragments is in another one.
        let fin = tcp.flags.has(TcpFlags::FIN) && packet.fragment.is_none();
        if length == 0 && !fin {
            return;
        }
        let sequence = tcp.sequence.wrapping_add(u32::from(tcp.flags.has(TcpFlags::SYN)));
        let captured = payload.get(..length as usize).unwrap_or(payload);
        let stream = &mut self.senders.of_mut(direction).stream;
        if !stream.is_begun() {
            stream.begin(sequence);
            if self.opening.is_some() {
                stream.open(&mut |_| {});
            }
        }
        let segment = Segment { sequence, length, captured, fin };
        let taken =
            self.with_stream(direction, now, tell, |stream, pieces| stream.take(segment, pieces));
        self.note(direction, taken, packet.time, now, tell);
    }

    /// Counts and tells what a segment had besides new octets.
    fn note(
        &mut self,
        direction: Direction,
        taken: Taken,
        time: Timestamp,
        now: Timestamp,
        tell: Tell<'_>,
    ) {
        let Sender { flight, side, .. } = self.senders.of_mut(direction);
        let Some((start, end)) = taken.place else {
            side.out_of_window += 1;
            return;
        };
        side.ahead += u64::from(taken.ahead);
        if taken.late {
            flight.disturbed(start);
        } else if start < end {
            flight.sent(end, time);
        }
        let Taken { repeated, conflicting, .. } = taken;
        let again = repeated > 0 || (taken.fin_repeated && start == end);
        side.retransmissions += u64::from(again);
        side.retransmitted_octets += u64::from(repeated);
        side.conflicting_octets += u64::from(conflicting);
        if again {
            tell(&self.event(now, EventKind::Retransmission { direction, octets: repeated }));
        }
        if conflicting > 0 {
            tell(&self.event(now, EventKind::Conflict { direction, octets: conflicting }));
        }
    }

    /// Does something with a stream, and tells what it hands out.
    fn with_stream<T>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        tell: Tell<'_>,
        act: impl FnOnce(&mut Stream, &mut dyn FnMut(Piece<'_>)) -> T,
    ) -> T {
        let Self { id, key, senders, .. } = self;
        let Sender { stream, side, .. } = senders.of_mut(direction);
        act(stream, &mut |piece| {
            let kind = match piece {
                Piece::Data(payload) => {
                    side.data_octets += payload.len() as u64;
                    EventKind::Data { direction, payload }
                }
                Piece::Lost(octets, why) => {
                    *match why {
                        super::Loss::NotSeen => &mut side.not_seen_octets,
                        super::Loss::NotCaptured => &mut side.not_captured_octets,
                    } += octets;
                    EventKind::Lost { direction, octets, why }
                }
            };
            tell(&Event { session: *id, key: *key, time: now, kind });
        })
    }

    /// Gives up holes until what waits in each direction costs no more than that.
    pub(super) fn shrink(&mut self, most: usize, now: Timestamp, tell: Tell<'_>) {
        for direction in [Direction::Forward, Direction::Reverse] {
            self.with_stream(direction, now, tell, |stream, pieces| stream.shrink(most, pieces));
        }
    }

    /// Nothing more of it is taken in: tells what still waits, and the sums.
    pub(super) fn end(&mut self, reason: EndReason, at: Timestamp, tell: Tell<'_>) {
        if let Some(again) = self.again.take() {
            self.count(&again);
        }
        if self.is_started() {
            for direction in [Direction::Forward, Direction::Reverse] {
                self.with_stream(direction, at, tell, Stream::finish);
            }
        }
        let side = |direction: Direction| {
            let counters = self.flow.counters.of(direction);
            Side {
                packets: counters.packets,
                header_octets: counters.ip_octets.saturating_sub(counters.payload_octets),
                payload_octets: counters.payload_octets,
                ..self.senders.of(direction).side
            }
        };
        let summary = Summary {
            reason,
            style: self.flow.closing.style(),
            opening: self.opening,
            handshake: self.handshake,
            first: self.flow.first(),
            last: self.flow.last(),
            closed: self.closed,
            sides: Both { forward: side(Direction::Forward), reverse: side(Direction::Reverse) },
        };
        tell(&self.event(at, EventKind::End(&summary)));
    }
}

/// What the TCP header of a packet says.
pub(super) fn segment(packet: &Packet) -> Option<Tcp> {
    let crate::packet::Transport::Tcp(mut tcp) = packet.transport else { return None };
    if packet.fragment.is_some() {
        // Its payload goes on in other fragments: where the FIN is, this one does not say.
        tcp.flags = TcpFlags(tcp.flags.0 & !TcpFlags::FIN.0);
    }
    Some(tcp)
}
