//! Initial packets of QUIC version 1, sealed as anybody can (RFC 9001 section 5): so that what is inside them can
//! be made up.

use procflow_core::flow::Direction;
use ring::aead::quic::{AES_128 as HEADER_AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// Whom the client's first packet is addressed to, by which the keys of both sides are made.
const IDENTIFIER: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// RFC 9001 section 5.2.
const SALT: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> [u8; N] {
    let head = [0, N as u8, 6 + label.len() as u8];
    let mut derived = [0; N];
    let info = [&head[..], b"tls13 ", label, &[0]];
    secret.expand(&info, Octets(N)).unwrap().fill(&mut derived).unwrap();
    derived
}

/// A datagram with one initial packet of these frames.
pub(crate) fn sealed(direction: Direction, number: u8, frames: &[u8]) -> Vec<u8> {
    let label: &[u8] = match direction {
        Direction::Forward => b"client in",
        Direction::Reverse => b"server in",
    };
    let secret = Salt::new(HKDF_SHA256, &SALT).extract(&IDENTIFIER);
    let secret = Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&secret, label));
    let length = (4 + frames.len() + 16).min(0x3fff) as u16;
    let frames = &frames[..usize::from(length) - 20];
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend(IDENTIFIER);
    packet.extend([0, 0]);
    packet.extend((0x4000 | length).to_be_bytes());
    let at = packet.len();
    packet.extend([0, 0, 0, number]);
    let mut nonce: [u8; 12] = expand(&secret, b"quic iv");
    nonce[11] ^= number;
    let key = UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, b"quic key")).unwrap();
    let mut inside = frames.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let aad = Aad::from(&packet[..]);
    LessSafeKey::new(key).seal_in_place_append_tag(nonce, aad, &mut inside).unwrap();
    packet.extend(inside);
    let header = expand::<16>(&secret, b"quic hp");
    let header = HeaderProtectionKey::new(&HEADER_AES_128, &header).unwrap();
    let mask = header.new_mask(&packet[at + 4..at + 20]).unwrap();
    packet[0] ^= mask[0] & 0x0f;
    for index in 0..4 {
        packet[at + index] ^= mask[1 + index];
    }
    packet
}
