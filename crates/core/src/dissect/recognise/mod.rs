//! Recognisers: each tells whether what both ends have said so far is one protocol, or one of some that go
//! together. They are asked in the order in which `stream` and `datagram` list them, and the first that is sure is
//! believed: those with the longest marks stand in front. A port alone makes none of them sure.

mod datagram;
mod stream;

use std::sync::LazyLock;

use super::{ApplicationProtocol, Look, Said};
use crate::flow::Direction;

type Recogniser = fn(&Said<'_>) -> Look;

/// Those that may still be sure one day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    all: &'static [Recogniser],
    left: u64,
}

const fn all(recognisers: &'static [Recogniser]) -> Candidates {
    assert!(recognisers.len() < 64, "more than there are bits");
    Candidates { all: recognisers, left: (1 << recognisers.len()) - 1 }
}

/// All of streams.
pub(super) const fn streams() -> Candidates {
    const { all(stream::ALL) }
}

/// By the end that speaks and its first octet: whom it does not rule out, whatever the ports are. No recogniser of
/// streams may refuse the begin of what it takes, and most refuse most: asking all of them every time was a
/// third of the dissection.
static BEGINNING: LazyLock<[[u64; 256]; 2]> = LazyLock::new(|| {
    [true, false].map(|is_initiator| {
        std::array::from_fn(|octet| {
            let one = [octet as u8];
            let (initiator, responder) =
                if is_initiator { (&one[..], &[][..]) } else { (&[][..], &one[..]) };
            let may = |every_port| {
                let said = Said {
                    initiator,
                    responder,
                    initiator_port: 0,
                    responder_port: 0,
                    every_port,
                    before: &[],
                };
                let mut candidates = streams();
                candidates.ask_all(&said);
                candidates.left
            };
            may(false) | may(true)
        })
    })
});

/// All of datagrams.
pub(super) const fn datagrams() -> Candidates {
    const { all(datagram::ALL) }
}

impl Candidates {
    /// Asks those that are left.
    pub(super) fn ask(&mut self, said: &Said<'_>) -> Look {
        let mut left = self.left;
        while left != 0 {
            let bit = left & left.wrapping_neg();
            left ^= bit;
            match self.all[bit.trailing_zeros() as usize](said) {
                Look::No => self.left ^= bit,
                Look::More => {}
                is @ Look::Is(_) => return is,
            }
        }
        if self.left == 0 { Look::No } else { Look::More }
    }

    /// Asks about the first octets of a stream that anybody says, all of them from this end.
    pub(super) fn ask_first(&mut self, direction: Direction, said: &Said<'_>) -> Look {
        let (octets, of_end) = match (direction, &*BEGINNING) {
            (Direction::Forward, [forward, _]) => (said.initiator, forward),
            (Direction::Reverse, [_, reverse]) => (said.responder, reverse),
        };
        let mut all = *self;
        self.left &= octets.first().map_or(u64::MAX, |&first| of_end[usize::from(first)]);
        let look = self.ask(said);
        debug_assert!(
            all.ask(said) == look && (look != Look::More || all.left == self.left),
            "{said:?}: {look:?}, {:#x} left of {:#x}",
            self.left,
            all.left
        );
        look
    }

    /// Strikes out who refuses, without stopping at one that is sure.
    fn ask_all(&mut self, said: &Said<'_>) {
        for (index, recogniser) in self.all.iter().enumerate() {
            if recogniser(said) == Look::No {
                self.left &= !(1 << index);
            }
        }
    }
}

/// Whether a protocol may turn to TLS in its middle (RFC 3207, RFC 2595, RFC 4217, RFC 6120; databases and
/// remote desktops have words of their own for it), or carry it from some place on.
pub(super) fn may_turn(protocol: ApplicationProtocol) -> bool {
    type P = ApplicationProtocol;
    let mail = [P::SMTP, P::IMAP, P::POP3, P::USENET];
    let others = [P::FTP_CONTROL, P::JABBER, P::LDAP, P::MYSQL, P::POSTGRESQL, P::RDP, P::SOCKS];
    mail.contains(&protocol) || others.contains(&protocol)
}

/// Whether messages of a protocol may name the service.
pub(super) fn names_service(protocol: ApplicationProtocol) -> bool {
    [ApplicationProtocol::STUN, ApplicationProtocol::NETBIOS].contains(&protocol)
}

/// The service that a datagram names.
pub(super) fn service(protocol: ApplicationProtocol, datagram: &[u8]) -> Option<&'static str> {
    match protocol {
        ApplicationProtocol::STUN => datagram::stun_service(datagram),
        ApplicationProtocol::NETBIOS => datagram::netbios_service(datagram),
        _ => None,
    }
}
