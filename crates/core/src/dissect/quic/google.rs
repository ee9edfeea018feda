//! Google's QUIC before the IETF's: its public header, and what its client's first message (CHLO) says. The
//! message is in clear up to version Q046; from Q050 on it is in packets like those of the IETF.
//!
//! Source: "QUIC Crypto" (Langley, Chang) and "QUIC Wire Layout Specification", Google 2016.

use super::{Quic, QuicVersion};
use crate::dissect::text::shown;

/// The version in the header of a client's packet, if this is one.
fn version(datagram: &[u8]) -> Option<QuicVersion> {
    let &first = datagram.first()?;
    let at = match first {
        // Q046: a long header with a version that is none of the IETF's.
        0xc0..=0xff => 1,
        // The public header with a version: an identifier of eight octets in front of it.
        flags if flags & 0x01 != 0 && flags & 0x08 != 0 && flags & 0xc0 == 0 => 9,
        _ => return None,
    };
    let version = QuicVersion(u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?));
    let encrypted = super::initial::salt(version).is_some();
    (version.is_google() && !encrypted).then_some(version)
}

pub(super) fn is_header(datagram: &[u8]) -> bool {
    version(datagram).is_some()
}

/// Reads a client's packet; whether all was said.
pub(super) fn take(datagram: &[u8], quic: &mut Option<Quic>) -> bool {
    let Some(version) = version(datagram) else { return false };
    let known = quic.get_or_insert(Quic { version, server_name: None, user_agent: None });
    hello(datagram, known)
}

/// A message has at most so many entries.
const ENTRIES: usize = 128;

/// Finds the client's hello in these octets, and reads it; whether it was there.
pub(super) fn hello(octets: &[u8], quic: &mut Quic) -> bool {
    let Some(at) = octets.windows(4).position(|window| window == b"CHLO") else { return false };
    let Some((&[low, high, ..], rest)) = octets[at + 4..].split_first_chunk::<4>() else {
        return false;
    };
    let entries = usize::from(u16::from_le_bytes([low, high]));
    if entries > ENTRIES {
        return true;
    }
    let Some((index, values)) = rest.split_at_checked(entries * 8) else { return true };
    let mut begin = 0;
    for entry in index.chunks_exact(8) {
        let end = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize;
        let value = values.get(begin..end);
        begin = end;
        match (&entry[..4], value) {
            (b"SNI\0", Some(value)) => quic.server_name = Some(shown(value)),
            (b"UAID", Some(value)) => quic.user_agent = Some(shown(value)),
            _ => {}
        }
    }
    true
}
