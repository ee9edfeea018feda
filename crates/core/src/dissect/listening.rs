//! Listening to a flow: whether its first payload is worth it, and then its octets, in order, for who reads them.

use super::recognise::{self, Candidates};
use super::speech::{Next, Speech, said};
use super::{ApplicationProtocol, Dissected, Look};
use crate::flow::{Both, Direction, Flow};
use crate::packet::{Packet, Transport};
use crate::session::{Piece, Segment, Stream};

/// Segments that came too early may cost so much memory.
const WAITING: usize = 16 << 10;

/// A flow that is listened to.
#[derive(Debug)]
pub(super) struct Listening {
    /// So many packets with payload were heard.
    pub(super) packets: u16,
    /// Of TCP.
    streams: Both<Stream>,
    speech: Speech,
}

/// What a flow's first octets say at first sight.
pub(super) enum Sight {
    /// Nothing that is known here.
    Nothing,
    /// All there is to say.
    All(ApplicationProtocol),
    /// More is to be heard.
    Listen(Start),
}

/// What is known when listening begins.
pub(super) enum Start {
    /// Nothing: what was seen is not the begin.
    Anew,
    /// Which recognisers may still be sure.
    Left(Candidates),
    /// What it is.
    Known(ApplicationProtocol),
}

impl Listening {
    pub(super) fn new(flow: &Flow, is_tcp: bool, start: &Start) -> Self {
        let mut streams = Both::<Stream>::default();
        if is_tcp {
            for direction in [Direction::Forward, Direction::Reverse] {
                let stream = streams.of_mut(direction);
                if let Some(initial) = flow.closing.initial(direction) {
                    stream.begin(initial.wrapping_add(1));
                }
                stream.open(&mut |_| {});
            }
        }
        let speech = match *start {
            Start::Anew => Speech::unrecognised(is_tcp),
            Start::Left(candidates) => Speech::among(candidates, is_tcp),
            Start::Known(protocol) => Speech::of(protocol, is_tcp),
        };
        Self { packets: 0, streams, speech }
    }

    /// What costs memory, in octets, about.
    pub(super) fn len(&self) -> usize {
        self.speech.len() + self.streams.forward.cost() + self.streams.reverse.cost()
    }

    /// Takes in a packet with payload.
    pub(super) fn hear(
        &mut self,
        flow: &Flow,
        direction: Direction,
        packet: &Packet,
        payload: &[u8],
        paths: bool,
        found: &mut Dissected,
    ) -> Next {
        self.packets += 1;
        let ports = (flow.source_port, flow.destination_port);
        let Self { streams, speech, .. } = self;
        let Transport::Tcp(tcp) = &packet.transport else {
            return speech.datagram(ports, direction, payload, found);
        };
        let stream = streams.of_mut(direction);
        let syn = u32::from(tcp.flags.has(crate::packet::TcpFlags::SYN));
        let sequence = tcp.sequence.wrapping_add(syn);
        if !stream.is_begun() {
            stream.begin(sequence);
        }
        let segment =
            Segment { sequence, length: packet.lengths.payload, captured: payload, fin: false };
        let mut next = Next::GoOn;
        let mut tell = |piece: Piece<'_>| {
            if next == Next::GoOn {
                next = match piece {
                    Piece::Data(octets) => speech.octets(ports, direction, octets, paths, found),
                    // What is behind a hole cannot be read.
                    Piece::Lost(..) => speech.end(direction, paths, found),
                };
            }
        };
        stream.take(segment, &mut tell);
        stream.shrink(WAITING, &mut tell);
        next
    }

    /// What is found if nothing more comes.
    pub(super) fn finish(&self, paths: bool, found: &mut Dissected) {
        self.speech.finish(paths, found);
    }
}

/// What the first payload of a flow says at first sight, without keeping anything.
pub(super) fn at_first_sight(
    flow: &Flow,
    direction: Direction,
    packet: &Packet,
    payload: &[u8],
) -> Sight {
    let is_tcp = match &packet.transport {
        Transport::Tcp(tcp) => {
            let syn = u32::from(tcp.flags.has(crate::packet::TcpFlags::SYN));
            let first = flow.closing.initial(direction).map(|initial| initial.wrapping_add(1));
            if first.is_some_and(|first| first != tcp.sequence.wrapping_add(syn)) {
                return Sight::Listen(Start::Anew);
            }
            true
        }
        _ => false,
    };
    let said = said((flow.source_port, flow.destination_port), direction, payload, &[]);
    let mut candidates = if is_tcp { recognise::streams() } else { recognise::datagrams() };
    let look = if is_tcp { candidates.ask_first(direction, &said) } else { candidates.ask(&said) };
    match look {
        Look::No => Sight::Nothing,
        Look::Is(protocol) if !reads_on(protocol) => Sight::All(protocol),
        Look::Is(protocol) => Sight::Listen(Start::Known(protocol)),
        Look::More => Sight::Listen(Start::Left(candidates)),
    }
}

/// Whether there is more to be read of a protocol than its name.
fn reads_on(protocol: ApplicationProtocol) -> bool {
    type P = ApplicationProtocol;
    let read = [P::TLS, P::DTLS, P::HTTP, P::SSH, P::DNS, P::MDNS, P::LLMNR, P::QUIC];
    read.contains(&protocol) || recognise::may_turn(protocol) || recognise::names_service(protocol)
}
