//! DTLS in clear: TLS over datagrams (RFC 6347 section 4, RFC 9147), whose handshake messages may come in
//! fragments.

use super::tls::{Carrier, Heard, Tls};

/// So many records of a datagram are looked at.
const RECORDS: usize = 16;

/// A message of more is not put together.
const MESSAGE: usize = 32 << 10;

const HANDSHAKE: u8 = 22;

/// The messages of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    /// The message whose fragments come, by its number.
    number: u16,
    octets: Vec<u8>,
}

impl Messages {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Takes in a datagram.
    pub(super) fn take(&mut self, datagram: &[u8], tls: &mut Tls) -> Heard {
        let mut rest = datagram;
        for _ in 0..RECORDS {
            // Type, version, epoch, sequence number, length.
            let Some((header, content)) = rest.split_first_chunk::<13>() else { break };
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let Some((content, behind)) = content.split_at_checked(length) else { break };
            rest = behind;
            let in_clear = header[3..5] == [0, 0];
            if !in_clear || header[0] != HANDSHAKE {
                // All that follows a change of ciphers is encrypted.
                if !in_clear || header[0] == 20 {
                    return Heard::All;
                }
                continue;
            }
            if self.fragments(content, tls) == Heard::All {
                return Heard::All;
            }
        }
        Heard::More
    }

    fn fragments(&mut self, content: &[u8], tls: &mut Tls) -> Heard {
        let mut rest = content;
        while let Some((header, behind)) = rest.split_first_chunk::<12>() {
            let three = |at: usize| {
                u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]) as usize
            };
            let (length, offset, here) = (three(1), three(6), three(9));
            let number = u16::from_be_bytes([header[4], header[5]]);
            let Some((fragment, behind)) = behind.split_at_checked(here) else { break };
            rest = behind;
            if length > MESSAGE {
                return Heard::All;
            }
            if number != self.number || offset == 0 {
                self.number = number;
                self.octets.clear();
            }
            if offset != self.octets.len() {
                // One before it is missing, or it came twice.
                continue;
            }
            self.octets.extend_from_slice(fragment);
            if self.octets.len() >= length {
                let message = std::mem::take(&mut self.octets);
                if tls.message(Carrier::Dtls, header[0], &message) == Heard::All {
                    return Heard::All;
                }
            }
        }
        Heard::More
    }
}
