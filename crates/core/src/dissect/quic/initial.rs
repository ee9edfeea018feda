//! Initial packets: where their parts are (RFC 9000 section 17.2.2), and the keys by which anybody can open
//! them (RFC 9001 section 5). That is no secret: the salt is published with each version.

use ring::aead::quic::{AES_128 as HEADER_AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::{Long, QuicVersion, number};
use crate::flow::Both;

/// The salt of each version whose initial packets can be opened: RFC 9001 section 5.2, RFC 9369 section
/// 3.3.1, and what came before them, as Wireshark's `packet-quic.c` lists it.
pub(super) fn salt(version: QuicVersion) -> Option<&'static [u8; 20]> {
    Some(match version.0 {
        1 => b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
        0x6b33_43cf => {
            b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9"
        }
        0xff00_001d..=0xff00_0020 => {
            b"\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99"
        }
        // Of mvfst, Facebook's: 2 and e.
        0xff00_0017..=0xff00_001c | 0xface_b002 | 0xface_b00e => {
            b"\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02"
        }
        0xff00_0015..=0xff00_0016 | 0xface_b001 => {
            b"\x7f\xbc\xdb\x0e\x7c\x66\xbb\xe9\x19\x3a\x96\xcd\x21\x51\x9e\xbd\x7a\x02\x64\x4a"
        }
        // Q050, T050, T051, Google's.
        0x5130_3530 => {
            b"\x50\x45\x74\xef\xd0\x66\xfe\x2f\x9d\x94\x5c\xfc\xdb\xd3\xa7\xf0\xd3\xb5\x6b\x45"
        }
        0x5430_3530 => {
            b"\x7f\xf5\x79\xe5\xac\xd0\x72\x91\x55\x80\x30\x4c\x43\xa2\x36\x7c\x60\x48\x83\x10"
        }
        0x5430_3531 => {
            b"\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d"
        }
        _ => return None,
    })
}

/// A packet with a long header, as far as it is not protected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) is_initial: bool,
    /// All of it.
    octets: &'a [u8],
    /// Where the packet number is.
    at: usize,
    /// What follows it in the datagram.
    pub(super) behind: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet at the begin of these octets, which has this long header.
    pub(super) fn read(octets: &'a [u8], long: &Long<'a>) -> Option<Self> {
        // RFC 9369 section 3.2: version 2 counts the types from another one on.
        let kind = octets.first()? >> 4 & 3;
        let is_initial = kind == u8::from(long.version == QuicVersion::V2);
        let is_retry = kind == if long.version == QuicVersion::V2 { 0 } else { 3 };
        if is_retry {
            return None;
        }
        let mut rest = long.rest;
        if is_initial {
            let (token, behind) = number(rest)?;
            rest = behind.get(usize::try_from(token).ok()?..)?;
        }
        let (length, rest) = number(rest)?;
        let at = long.at + (long.rest.len() - rest.len());
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        Some(Self { is_initial, octets: octets.get(..end)?, at, behind: octets.get(end..)? })
    }
}

/// The frames of a packet.
pub(super) struct Opened {
    pub(super) frames: Vec<u8>,
}

/// The keys of one side.
pub(super) struct Keys {
    header: HeaderProtectionKey,
    packet: LessSafeKey,
    iv: [u8; 12],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// So many octets are derived.
#[derive(Clone, Copy)]
struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Prk, label: &str) -> Option<[u8; N]> {
    let full = ["tls13 ", label].concat();
    let lengths = [0, u8::try_from(N).ok()?, u8::try_from(full.len()).ok()?];
    let mut derived = [0; N];
    let info = [&lengths[..], full.as_bytes(), &[0]];
    secret.expand(&info, Octets(N)).ok()?.fill(&mut derived).ok()?;
    Some(derived)
}

impl Keys {
    /// Those of both sides: the client's are those of the packets forward.
    pub(super) fn of(version: QuicVersion, identifier: &[u8]) -> Option<Both<Self>> {
        let secret = Salt::new(HKDF_SHA256, salt(version)?).extract(identifier);
        let labels = if version == QuicVersion::V2 {
            ["quicv2 hp", "quicv2 key", "quicv2 iv"]
        } else {
            ["quic hp", "quic key", "quic iv"]
        };
        let side = |label| {
            let secret = Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&secret, label)?);
            let header = expand::<16>(&secret, labels[0])?;
            let packet = expand::<16>(&secret, labels[1])?;
            Some(Self {
                header: HeaderProtectionKey::new(&HEADER_AES_128, &header).ok()?,
                packet: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &packet).ok()?),
                iv: expand(&secret, labels[2])?,
            })
        };
        Some(Both { forward: side("client in")?, reverse: side("server in")? })
    }

    /// Opens a packet (RFC 9001 sections 5.3 and 5.4); `None` if it is not of these keys.
    pub(super) fn open(&self, packet: &Packet<'_>) -> Option<Opened> {
        let Packet { octets, at, .. } = *packet;
        let mask = self.header.new_mask(octets.get(at + 4..at + 20)?).ok()?;
        let first = octets.first()? ^ mask[0] & 0x0f;
        let length = usize::from(first & 3) + 1;
        let mut header = octets.get(..at + length)?.to_vec();
        header[0] = first;
        let mut nonce = self.iv;
        for index in 0..length {
            header[at + index] ^= mask[1 + index];
            // The first packets of a connection: their numbers are not abbreviated.
            nonce[12 - length + index] ^= header[at + index];
        }
        let mut frames = octets.get(at + length..)?.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.packet.open_in_place(nonce, Aad::from(&header), &mut frames).ok()?.len();
        frames.truncate(opened);
        Some(Opened { frames })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::digest::hex;

    /// RFC 9001 section A.1.
    #[test]
    fn keys_follow_from_the_connection_identifier() {
        let identifier = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let secret = Salt::new(HKDF_SHA256, salt(QuicVersion::V1).unwrap()).extract(&identifier);
        let client = expand::<32>(&secret, "client in").unwrap();
        assert_eq!(hex(&client[..8]), "c00cf151ca5be075");
        let client = Prk::new_less_safe(HKDF_SHA256, &client);
        let derived = |label| hex(&expand::<16>(&client, label).unwrap());
        assert_eq!(derived("quic key"), "1f369613dd76d5467730efcbe3b1a22d");
        assert_eq!(derived("quic hp"), "9f50449e04a0e810283a1e9933adedd2");
        let iv = expand::<12>(&client, "quic iv").unwrap();
        assert_eq!(hex(&iv), "fa044b2f42a3fd3b46fb255c");
    }
}
