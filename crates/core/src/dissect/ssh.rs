//! SSH in clear: the lines that both ends begin with (RFC 4253 section 4.2), and what each offers then
//! (section 7.1), as HASSH tells programs by it (Reardon, Carr 2018).

use serde::Serialize;
use smol_str::SmolStr;

use super::text::shown;
use super::tls::md5;
use super::{ApplicationProtocol, Digest, Look, Said};

/// What both ends say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ssh {
    /// The client's line: protocol and software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SmolStr>,
    /// The server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SmolStr>,
    /// HASSH of the client's offer, an MD5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hassh: Option<Digest<16>>,
    /// HASSH of the server's offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hassh_server: Option<Digest<16>>,
}

/// Recognises the beginning of either end's line.
pub(super) fn recognise(said: &Said<'_>) -> Look {
    let begins = |octets: &[u8]| {
        let length = octets.len().min(4);
        (octets[..length] == b"SSH-"[..length]).then_some(length == 4)
    };
    match (begins(said.initiator), begins(said.responder)) {
        (Some(true), _) | (_, Some(true)) => Look::Is(ApplicationProtocol::SSH),
        (None, _) | (_, None) => Look::No,
        _ => Look::More,
    }
}

/// A packet of an offer has at most so many octets (RFC 4253 section 6.1).
const PACKET: usize = 35_000;

/// A line has at most so many octets.
const LINE: usize = 4096;

/// A server may send lines in front of the one that counts; nobody needs more than so many.
const LINES: u8 = 64;

const KEY_EXCHANGE_INIT: u8 = 20;

/// What one end sends first.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    octets: Vec<u8>,
    /// So many lines came.
    lines: u8,
    banner: bool,
}

impl Side {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Takes in what follows; whether that is all that is in clear.
    pub(super) fn take(&mut self, octets: &[u8], is_client: bool, ssh: &mut Ssh) -> bool {
        self.octets.extend_from_slice(octets);
        let mut at = 0;
        while !self.banner {
            let line = &self.octets[at..];
            let line = line.get(..LINE).unwrap_or(line);
            let Some(end) = line.iter().position(|&octet| octet == b'\n') else {
                let too_long = line.len() == LINE;
                self.octets.drain(..at);
                return too_long;
            };
            let line = line[..end].trim_ascii_end();
            self.lines += 1;
            if line.starts_with(b"SSH-") {
                let place = if is_client { &mut ssh.client } else { &mut ssh.server };
                *place = Some(shown(line));
                self.banner = true;
            } else if self.lines >= LINES {
                return true;
            }
            at += end + 1;
        }
        self.octets.drain(..at);
        let Some((&length, rest)) = self.octets.split_first_chunk::<4>() else { return false };
        let length = u32::from_be_bytes(length) as usize;
        if length > PACKET {
            return true;
        }
        let Some(packet) = rest.get(..length) else { return false };
        if let Some(hassh) = offer(packet, is_client) {
            let place = if is_client { &mut ssh.hassh } else { &mut ssh.hassh_server };
            *place = Some(hassh);
        }
        true
    }
}

/// HASSH: key exchange, and what this end sends in: encryption, MAC, compression.
fn offer(packet: &[u8], is_client: bool) -> Option<Digest<16>> {
    let (&[_, KEY_EXCHANGE_INIT], rest) = packet.split_first_chunk()? else { return None };
    let mut rest = rest.get(16..)?;
    let mut lists = [&[][..]; 8];
    for list in &mut lists {
        let (&length, behind) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(length) as usize;
        *list = behind.get(..length)?;
        rest = &behind[length..];
    }
    let [exchange, _, encrypted_c, encrypted_s, mac_c, mac_s, compressed_c, compressed_s] = lists;
    let parts = if is_client {
        [exchange, encrypted_c, mac_c, compressed_c]
    } else {
        [exchange, encrypted_s, mac_s, compressed_s]
    };
    Some(md5(&parts.join(&b';')))
}
