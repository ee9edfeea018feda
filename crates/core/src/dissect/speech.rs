//! What is being said, and who reads it: first the recognisers, and once they know the protocol its reader, until
//! that has all it reads.

use super::recognise::{self, Candidates};
use super::{
    ApplicationProtocol, Dissected, Dns, Http, Look, Said, Ssh, Tls, dns, dtls, http, quic, ssh,
    tls,
};
use crate::flow::{Both, Direction};

/// So many octets of each end are kept while nothing is recognised: no recogniser wants more.
const UNRECOGNISED: usize = 2048;

/// So many octets of the latest datagram of each end are kept.
const BEFORE: usize = 32;

/// What is being read.
#[derive(Debug)]
pub(super) enum Speech {
    /// A stream that is not recognised.
    Stream {
        candidates: Candidates,
        said: Both<Vec<u8>>,
    },
    /// Datagrams that are not recognised.
    Datagrams {
        candidates: Candidates,
        before: Both<Vec<u8>>,
    },
    Tls {
        sides: Both<tls::Records>,
        done: Both<bool>,
    },
    Dtls {
        sides: Both<dtls::Messages>,
        done: Both<bool>,
    },
    Http {
        sides: Both<http::Section>,
        done: Both<bool>,
        /// Who spoke first.
        first: Option<Direction>,
    },
    Ssh {
        sides: Both<ssh::Side>,
        done: Both<bool>,
    },
    DnsStream(Both<dns::Messages>),
    DnsDatagrams,
    Quic(Box<quic::Conversation>),
    /// A protocol that may turn to TLS in its middle.
    MayTurn,
    /// All was read.
    Over,
}

/// The initiator's port, and the responder's.
pub(super) type Ports = (u16, u16);

/// Whether to go on listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Over,
}

pub(super) fn said<'a>(
    ports: Ports,
    direction: Direction,
    octets: &'a [u8],
    before: &'a [u8],
) -> Said<'a> {
    let (initiator, responder) = match direction {
        Direction::Forward => (octets, &[][..]),
        Direction::Reverse => (&[][..], octets),
    };
    Said {
        initiator,
        responder,
        initiator_port: ports.0,
        responder_port: ports.1,
        every_port: false,
        before,
    }
}

/// Whether this end may send a request: who speaks first asks, unless that was the answer to something earlier.
fn may_ask(sides: &Both<http::Section>, first: Direction, direction: Direction) -> bool {
    direction == first || sides.of(first).is_answer()
}

/// Marks a direction as done; whether both are.
fn done_with(done: &mut Both<bool>, direction: Direction) -> Next {
    *done.of_mut(direction) = true;
    if done.forward && done.reverse { Next::Over } else { Next::GoOn }
}

impl Speech {
    /// Nothing is recognised yet.
    pub(super) fn unrecognised(is_tcp: bool) -> Self {
        Self::among(if is_tcp { recognise::streams() } else { recognise::datagrams() }, is_tcp)
    }

    /// The same, but that some are out of the question.
    pub(super) fn among(candidates: Candidates, is_tcp: bool) -> Self {
        if is_tcp {
            Self::Stream { candidates, said: Both::default() }
        } else {
            Self::Datagrams { candidates, before: Both::default() }
        }
    }

    /// What is kept, in octets.
    pub(super) fn len(&self) -> usize {
        let of = |a: usize, b: usize| a + b;
        match self {
            Self::Stream { said: both, .. } | Self::Datagrams { before: both, .. } => {
                of(both.forward.len(), both.reverse.len())
            }
            Self::Tls { sides, .. } => of(sides.forward.len(), sides.reverse.len()),
            Self::Dtls { sides, .. } => of(sides.forward.len(), sides.reverse.len()),
            Self::Http { sides, .. } => of(sides.forward.len(), sides.reverse.len()),
            Self::Ssh { sides, .. } => of(sides.forward.len(), sides.reverse.len()),
            Self::DnsStream(sides) => of(sides.forward.len(), sides.reverse.len()),
            Self::Quic(conversation) => conversation.len(),
            Self::DnsDatagrams | Self::MayTurn | Self::Over => 0,
        }
    }

    /// What is found if nothing more comes.
    pub(super) fn finish(&self, paths: bool, found: &mut Dissected) {
        if let Self::Http { sides, done, first: Some(first) } = self {
            let http = found.http.get_or_insert_default();
            for direction in [Direction::Forward, Direction::Reverse] {
                let side = sides.of(direction);
                if !done.of(direction) && side.len() > 0 {
                    let may_ask = may_ask(sides, *first, direction);
                    side.clone().finish(may_ask, paths, http);
                }
            }
        }
    }

    /// The reader of a protocol, if it says more than its name.
    pub(super) fn of(protocol: ApplicationProtocol, is_tcp: bool) -> Self {
        type P = ApplicationProtocol;
        let done = Both::default();
        match protocol {
            P::TLS => Self::Tls { sides: Both::default(), done },
            P::DTLS => Self::Dtls { sides: Both::default(), done },
            P::HTTP => Self::Http { sides: Both::default(), done, first: None },
            P::SSH => Self::Ssh { sides: Both::default(), done },
            P::DNS if is_tcp => Self::DnsStream(Both::default()),
            P::DNS | P::MDNS | P::LLMNR => Self::DnsDatagrams,
            P::QUIC => Self::Quic(Box::default()),
            other if recognise::may_turn(other) => Self::MayTurn,
            _ => Self::Over,
        }
    }

    /// Takes in octets that follow those before, of one direction of a stream.
    pub(super) fn octets(
        &mut self,
        ports: Ports,
        direction: Direction,
        octets: &[u8],
        paths: bool,
        found: &mut Dissected,
    ) -> Next {
        // Whoever has SSH's port is the server, if the other end has not: a capture may begin in the middle.
        let is_reversed = ports.0 == 22 && ports.1 != 22;
        let is_client = (direction == Direction::Forward) != is_reversed;
        match self {
            Self::Stream { candidates, said } => {
                let is_first = said.forward.is_empty() && said.reverse.is_empty();
                let side = said.of_mut(direction);
                let room = UNRECOGNISED.saturating_sub(side.len()).min(octets.len());
                side.extend_from_slice(&octets[..room]);
                let asked = Said {
                    initiator: &said.forward,
                    responder: &said.reverse,
                    initiator_port: ports.0,
                    responder_port: ports.1,
                    every_port: false,
                    before: &[],
                };
                let look = if is_first {
                    candidates.ask_first(direction, &asked)
                } else {
                    candidates.ask(&asked)
                };
                match look {
                    Look::No => Next::Over,
                    Look::More if room < octets.len() => Next::Over,
                    Look::More => Next::GoOn,
                    // In a tunnel that HTTP opened: whose request is this?
                    Look::Is(ApplicationProtocol::HTTP) if found.http.is_some() => Next::Over,
                    Look::Is(protocol) => {
                        found.began_as = found.protocol.replace(protocol);
                        let said = std::mem::take(said);
                        *self = Self::of(protocol, true);
                        // What was said before is read again, now as what it is; of the piece at hand all.
                        let mut next = Next::GoOn;
                        for other in [direction.other(), direction] {
                            let kept = said.of(other);
                            let kept = if other == direction {
                                &kept[..kept.len() - room]
                            } else {
                                &kept[..]
                            };
                            if !kept.is_empty() && next == Next::GoOn {
                                next = self.octets(ports, other, kept, paths, found);
                            }
                        }
                        if next == Next::GoOn {
                            next = self.octets(ports, direction, octets, paths, found);
                        }
                        next
                    }
                }
            }
            Self::Tls { sides, done } => {
                if *done.of(direction) {
                    return Next::GoOn;
                }
                let tls: &mut Tls = found.tls.get_or_insert_default();
                match sides.of_mut(direction).take(octets, tls) {
                    tls::Heard::All => done_with(done, direction),
                    tls::Heard::More => Next::GoOn,
                }
            }
            Self::Http { sides, done, first } => {
                if *done.of(direction) {
                    return Next::GoOn;
                }
                let first = *first.get_or_insert(direction);
                let may_ask = may_ask(sides, first, direction);
                let http: &mut Http = found.http.get_or_insert_default();
                let taken = sides.of_mut(direction).take(octets, may_ask, paths, http);
                let Some(taken) = taken else {
                    return Next::GoOn;
                };
                let behind = octets.get(taken..).unwrap_or_default();
                // An interim answer (RFC 9110 section 15.2): the one that counts follows.
                if http.status.is_some_and(|status| status / 100 == 1 && status != 101) {
                    http.status = None;
                    return self.go_on(ports, direction, behind, paths, found);
                }
                if done_with(done, direction) == Next::GoOn {
                    return Next::GoOn;
                }
                match self.after_http(found) {
                    Next::GoOn => self.go_on(ports, direction, behind, paths, found),
                    Next::Over => Next::Over,
                }
            }
            Self::Ssh { sides, done } => {
                if *done.of(direction) {
                    return Next::GoOn;
                }
                let ssh: &mut Ssh = found.ssh.get_or_insert_default();
                if sides.of_mut(direction).take(octets, is_client, ssh) {
                    return done_with(done, direction);
                }
                Next::GoOn
            }
            Self::DnsStream(sides) => {
                let dns: &mut Dns = found.dns.get_or_insert_default();
                sides.of_mut(direction).take(octets, dns);
                Next::GoOn
            }
            Self::MayTurn => {
                if tls::begins(octets) {
                    found.began_as = found.protocol.replace(ApplicationProtocol::TLS);
                    *self = Self::of(ApplicationProtocol::TLS, true);
                    return self.octets(ports, direction, octets, paths, found);
                }
                Next::GoOn
            }
            Self::Datagrams { .. }
            | Self::Dtls { .. }
            | Self::DnsDatagrams
            | Self::Quic(_)
            | Self::Over => Next::Over,
        }
    }

    /// Takes in what follows, if something does.
    fn go_on(
        &mut self,
        ports: Ports,
        direction: Direction,
        octets: &[u8],
        paths: bool,
        found: &mut Dissected,
    ) -> Next {
        if octets.is_empty() {
            return Next::GoOn;
        }
        self.octets(ports, direction, octets, paths, found)
    }

    /// After the first request and its answer: another protocol may follow.
    fn after_http(&mut self, found: &mut Dissected) -> Next {
        let Some(http) = &found.http else { return Next::Over };
        if http.upgrade.as_ref().is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
            found.protocol = Some(ApplicationProtocol::WEBSOCKET);
        }
        let is_accepted = http.status.is_some_and(|status| status / 100 == 2);
        if http.method.as_deref() == Some("CONNECT") && is_accepted {
            // Through a proxy goes anything (RFC 9110 section 9.3.6).
            *self = Self::unrecognised(true);
            return Next::GoOn;
        }
        Next::Over
    }

    /// Nothing more can be read of this direction.
    pub(super) fn end(&mut self, direction: Direction, paths: bool, found: &mut Dissected) -> Next {
        match self {
            Self::Http { sides, done, first } => {
                if !*done.of(direction)
                    && sides.of(direction).len() > 0
                    && let Some(first) = *first
                {
                    let may_ask = may_ask(sides, first, direction);
                    let http = found.http.get_or_insert_default();
                    sides.of_mut(direction).finish(may_ask, paths, http);
                }
                done_with(done, direction)
            }
            Self::Tls { done, .. } | Self::Ssh { done, .. } => done_with(done, direction),
            Self::MayTurn => Next::GoOn,
            _ => Next::Over,
        }
    }

    /// Takes in a datagram.
    pub(super) fn datagram(
        &mut self,
        ports: Ports,
        direction: Direction,
        datagram: &[u8],
        found: &mut Dissected,
    ) -> Next {
        match self {
            Self::Datagrams { candidates, before } => {
                let asked = said(ports, direction, datagram, before.of(direction));
                match candidates.ask(&asked) {
                    Look::No => Next::Over,
                    Look::More => {
                        let kept = before.of_mut(direction);
                        kept.clear();
                        kept.extend_from_slice(datagram.get(..BEFORE).unwrap_or(datagram));
                        Next::GoOn
                    }
                    Look::Is(protocol) => {
                        found.protocol = Some(protocol);
                        found.service = recognise::service(protocol, datagram);
                        *self = Self::of(protocol, false);
                        self.datagram(ports, direction, datagram, found)
                    }
                }
            }
            Self::DnsDatagrams => {
                found.dns.get_or_insert_default().read(datagram);
                Next::GoOn
            }
            Self::Quic(conversation) => {
                let Dissected { quic, tls, .. } = found;
                let over = conversation.take(direction, datagram, quic, tls);
                if over { Next::Over } else { Next::GoOn }
            }
            Self::Dtls { sides, done } => {
                if *done.of(direction) {
                    return Next::GoOn;
                }
                let tls = found.tls.get_or_insert_default();
                match sides.of_mut(direction).take(datagram, tls) {
                    tls::Heard::All => done_with(done, direction),
                    tls::Heard::More => Next::GoOn,
                }
            }
            _ => {
                if let Some(protocol) = found.protocol
                    && recognise::names_service(protocol)
                    && found.service.is_none()
                {
                    found.service = recognise::service(protocol, datagram);
                    return if found.service.is_none() { Next::GoOn } else { Next::Over };
                }
                Next::Over
            }
        }
    }
}
