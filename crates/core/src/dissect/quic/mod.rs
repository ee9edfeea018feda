//! QUIC (RFC 9000) as far as everybody can read it: initial packets are encrypted with keys that follow from
//! what stands in them (RFC 9001 section 5.2), so the hellos of TLS inside are read. What comes after them is
//! not.
//!
//! Google's own QUIC, which came before, says the same in messages of its own (`google.rs`).

mod crypto;
mod google;
mod initial;

use serde::Serialize;
use smol_str::SmolStr;

use super::tls::{Carrier, Heard, Tls};
use super::{ApplicationProtocol, Look, Said};
use crate::flow::{Both, Direction};
use crypto::Crypto;
use initial::{Keys, Opened};

/// What is known of a QUIC connection besides the TLS in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quic {
    /// The version that the first packet has.
    pub version: QuicVersion,
    /// The host that the client wants, where Google's own handshake says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<SmolStr>,
    /// What the client says that it is, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<SmolStr>,
}

/// A version of QUIC, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuicVersion(pub u32);

impl QuicVersion {
    /// Version 1 (RFC 9000 section 15).
    pub const V1: Self = Self(1);
    /// Version 2 (RFC 9369 section 3.1).
    pub const V2: Self = Self(0x6b33_43cf);

    /// What it is called; of others the number.
    #[must_use]
    pub fn name(self) -> SmolStr {
        match self {
            Self::V1 => SmolStr::new_static("v1"),
            Self::V2 => SmolStr::new_static("v2"),
            Self(draft) if draft >> 8 == 0xff_0000 => {
                smol_str::format_smolstr!("draft-{}", draft & 0xff)
            }
            Self(number) if self.is_google() => super::text::shown(&number.to_be_bytes()),
            Self(number) => smol_str::format_smolstr!("{number:#010x}"),
        }
    }

    /// Whether it is one of Google's: `Q046`, `T051`.
    const fn is_google(self) -> bool {
        let [letter, zero, tens, ones] = self.0.to_be_bytes();
        matches!(letter, b'Q' | b'T')
            && zero == b'0'
            && tens.is_ascii_digit()
            && ones.is_ascii_digit()
    }

    /// Whether its initial packets can be read, or it is known otherwise.
    fn is_known(self) -> bool {
        self.is_google() || initial::salt(self).is_some()
    }
}

impl Serialize for QuicVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// A long header (RFC 8999 section 5.1).
#[derive(Clone, Copy, Debug)]
struct Long<'a> {
    version: QuicVersion,
    destination: &'a [u8],
    /// What follows the connection identifiers, and where that is.
    rest: &'a [u8],
    at: usize,
}

impl<'a> Long<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let (&[first, a, b, c, d], rest) = octets.split_first_chunk()?;
        if first & 0x80 == 0 {
            return None;
        }
        let (destination, rest) = identifier(rest)?;
        let (_, rest) = identifier(rest)?;
        let version = QuicVersion(u32::from_be_bytes([a, b, c, d]));
        Some(Self { version, destination, rest, at: octets.len() - rest.len() })
    }
}

/// A connection identifier, of at most 20 octets (RFC 9000 section 17.2).
fn identifier(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = octets.split_first()?;
    (length <= 20).then(|| rest.split_at_checked(length.into()))?
}

/// A number of variable length (RFC 9000 section 16), and what follows it.
fn number(octets: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, _) = octets.split_first()?;
    let length = 1 << (first >> 6);
    let (number, rest) = octets.split_at_checked(length)?;
    let value = number.iter().fold(0, |value, &octet| value << 8 | u64::from(octet));
    Some((value & (u64::MAX >> (66 - 8 * length as u32)), rest))
}

/// Recognises a long header of a version that is known; of a version that is not, a port of QUIC beside it.
pub(super) fn recognise(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if google::is_header(datagram) {
        return Look::Is(ApplicationProtocol::QUIC);
    }
    let Some(long) = Long::read(datagram) else { return Look::No };
    let is = long.version.is_known()
        && datagram.first().is_some_and(|first| first & 0x40 != 0)
        && !long.rest.is_empty();
    if is { Look::Is(ApplicationProtocol::QUIC) } else { Look::No }
}

/// So many packets of a datagram are looked at: initial, handshake and data share one.
const PACKETS: usize = 4;

/// What is read of a connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The connection identifier that keys follow from.
    identifier: Vec<u8>,
    keys: Option<Box<Both<Keys>>>,
    crypto: Both<Crypto>,
    done: Both<bool>,
}

impl Conversation {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        let keys = self.keys.as_ref().map_or(0, |_| size_of::<Both<Keys>>());
        keys + self.crypto.forward.len() + self.crypto.reverse.len()
    }

    /// Takes in a datagram; whether all was said that can be read.
    pub(super) fn take(
        &mut self,
        direction: Direction,
        datagram: &[u8],
        quic: &mut Option<Quic>,
        tls: &mut Option<Box<Tls>>,
    ) -> bool {
        if google::is_header(datagram) {
            return google::take(datagram, quic);
        }
        let mut rest = datagram;
        for _ in 0..PACKETS {
            let Some(long) = Long::read(rest) else { break };
            if long.version.0 == 0 {
                // A server that lists its versions.
                break;
            }
            let known = quic.get_or_insert(Quic {
                version: long.version,
                server_name: None,
                user_agent: None,
            });
            let Some(packet) = initial::Packet::read(rest, &long) else { break };
            if packet.is_initial
                && let Some(Opened { frames }) = self.open(direction, &packet, &long)
            {
                if long.version.0 >> 24 == u32::from(b'Q') {
                    if google::hello(&frames, known) {
                        return true;
                    }
                } else {
                    self.hear(direction, &frames, tls.get_or_insert_default());
                }
            }
            rest = packet.behind;
        }
        self.done.forward && self.done.reverse
    }

    fn hear(&mut self, direction: Direction, frames: &[u8], tls: &mut Tls) {
        if *self.done.of(direction) {
            return;
        }
        let crypto = self.crypto.of_mut(direction);
        if crypto.take(frames, tls, Carrier::Quic) == Heard::All {
            *self.done.of_mut(direction) = true;
            *crypto = Crypto::default();
        }
    }

    /// Opens an initial packet. The keys of both sides follow from what the client's first packet was
    /// addressed to (RFC 9001 section 5.2); after a Retry from what its next one is.
    fn open(
        &mut self,
        direction: Direction,
        packet: &initial::Packet<'_>,
        long: &Long<'_>,
    ) -> Option<Opened> {
        let keys = self.keys.as_ref().and_then(|keys| keys.of(direction).open(packet));
        if keys.is_some() || self.identifier == long.destination && self.keys.is_some() {
            return keys;
        }
        // Whoever sends it may be the client: a capture may begin with the server's.
        let keys = Box::new(Keys::of(long.version, long.destination)?);
        let keys = if direction == Direction::Forward {
            keys
        } else {
            let Both { forward, reverse } = *keys;
            Box::new(Both { forward: reverse, reverse: forward })
        };
        let opened = keys.of(direction).open(packet)?;
        self.identifier = long.destination.to_vec();
        self.keys = Some(keys);
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 section A.1.
    #[test]
    fn numbers_of_variable_length() {
        for (octets, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(number(octets), Some((value, &[][..])));
        }
        assert_eq!(number(&[0xc2, 0x19]), None);
    }

    #[test]
    fn versions_have_names() {
        let names = [1, 0x6b33_43cf, 0xff00_001d, 0x5130_3436, 0xface_b002]
            .map(|number| QuicVersion(number).name());
        assert_eq!(names, ["v1", "v2", "draft-29", "Q046", "0xfaceb002"]);
    }
}
