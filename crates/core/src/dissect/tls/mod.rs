//! TLS as far as it is in clear: the two hellos, and the server's certificate before TLS 1.3 (RFC 8446, RFC
//! 5246). What is encrypted is not looked at.
//!
//! A handshake message may be spread over records, a record over segments: octets are put together until the
//! message is whole, or so long that no honest one is.

mod certificate;
mod hello;
mod ja;
mod offer;

use serde::Serialize;

use super::pending::Pending;
use super::{ApplicationProtocol, Look, Said};

pub use certificate::Certificate;
pub use hello::{ClientHello, ServerHello, Version};
pub(super) use ja::md5;
pub use offer::Carrier;

/// What is known of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// What the client offered first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientHello>,
    /// What the server took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerHello>,
    /// What the server's certificate says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// A record's content has at most so many octets (RFC 5246 section 6.2.3).
const RECORD: usize = (1 << 14) + 2048;

/// A message of which more would be needed is given up: certificates of 20 KiB are seen, hellos of 2.
const MESSAGE: usize = 64 << 10;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const SERVER_HELLO_DONE: u8 = 14;

/// The type of a record and how many octets follow its header, if this can be one.
fn record(octets: &[u8]) -> Option<(u8, usize)> {
    let (&[kind, 3, minor, high, low], _) = octets.split_first_chunk()? else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let fits = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind)
        && minor <= 4
        && (1..=RECORD).contains(&length);
    fits.then_some((kind, length))
}

/// Whether this is a ClientHello in the form of SSL 2.0 (RFC 5246 section E.2) that offers more than that. It is
/// not read; what the server answers is.
fn is_old_hello(octets: &[u8]) -> bool {
    match *octets {
        [high, low, CLIENT_HELLO, 3, 0..=4, ..] => {
            let length = usize::from(high & 0x7f) << 8 | usize::from(low);
            high & 0x80 != 0 && length + 2 == octets.len()
        }
        _ => false,
    }
}

/// Whether one end speaks TLS: `None` if that cannot be said yet.
fn is_tls(octets: &[u8]) -> Option<bool> {
    if octets.len() < 6 {
        let begin = |of: [std::ops::RangeInclusive<u8>; 3]| {
            octets.iter().zip(of).all(|(octet, of)| of.contains(octet))
        };
        let fits = begin([20..=23, 3..=3, 0..=4]) || begin([0x80..=0xff, 0..=255, 1..=1]);
        return if fits { None } else { Some(false) };
    }
    let Some((kind, length)) = record(octets) else { return Some(is_old_hello(octets)) };
    if kind == HANDSHAKE && [CLIENT_HELLO, SERVER_HELLO].contains(&octets[5]) {
        return Some(true);
    }
    // In the middle of a connection: record after record.
    match octets.get(5 + length..) {
        Some([]) => Some(true),
        Some(next) if next.len() < 5 => None,
        Some(next) => Some(record(next).is_some()),
        None => None,
    }
}

/// Recognises TLS by the header of a record and the hello in it; in the middle of a connection by two records
/// that follow one another, or one that ends with its segment.
pub(super) fn recognise(said: &Said<'_>) -> Look {
    let ends = [said.initiator, said.responder].map(|octets| (!octets.is_empty(), is_tls(octets)));
    match ends {
        [(true, Some(false)), _] | [_, (true, Some(false))] => Look::No,
        [(true, Some(true)), _] | [_, (true, Some(true))] => Look::Is(ApplicationProtocol::TLS),
        _ => Look::More,
    }
}

/// Whether a segment begins a ClientHello: of a connection that turns to TLS.
pub(super) fn begins(octets: &[u8]) -> bool {
    record(octets).is_some_and(|(kind, _)| kind == HANDSHAKE)
        && octets.get(5) == Some(&CLIENT_HELLO)
}

/// Messages of a handshake put together, of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    pending: Pending,
    /// So many octets of a message that says nothing are to come.
    skip: usize,
}

/// Whether more is to be heard of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    More,
    All,
}

impl Messages {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Takes in what follows, and reads the messages that are whole.
    pub(super) fn take(&mut self, carrier: Carrier, octets: &[u8], tls: &mut Tls) -> Heard {
        let Self { pending, skip } = self;
        let skipped = (*skip).min(octets.len());
        *skip -= skipped;
        let heard = pending.read(&octets[skipped..], |octets| {
            let mut at = 0;
            let heard = loop {
                let rest = &octets[at..];
                let Some((&[kind, a, b, c], body)) = rest.split_first_chunk() else {
                    break Heard::More;
                };
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                let whole = body.get(..length);
                if kind == CERTIFICATE && tls.is_answered() && tls.certificate.is_none() {
                    // The server's own comes first; the others need not be waited for.
                    if let Some(der) = first_certificate(body.get(..length).unwrap_or(body)) {
                        tls.certificate = Certificate::read(der);
                        break Heard::All;
                    }
                }
                match (kind, whole) {
                    (CLIENT_HELLO | SERVER_HELLO | CERTIFICATE, None) if length > MESSAGE => {
                        break Heard::All;
                    }
                    (CLIENT_HELLO | SERVER_HELLO | CERTIFICATE, None) => break Heard::More,
                    (_, None) => {
                        *skip = length - body.len();
                        at = octets.len();
                        break Heard::More;
                    }
                    (_, Some(body)) => {
                        if tls.message(carrier, kind, body) == Heard::All {
                            break Heard::All;
                        }
                        at += 4 + length;
                    }
                }
            };
            (if heard == Heard::All { octets.len() } else { at }, heard)
        });
        if heard == Heard::All {
            *self = Self::default();
        }
        heard
    }
}

impl Tls {
    /// Whether the server has said hello: only behind that, and in that direction, is a certificate its own. (A
    /// client's is not read: of its direction nothing is behind the hello.)
    fn is_answered(&self) -> bool {
        self.server.is_some()
    }

    /// Reads a message; what is told of it is of this direction.
    pub(super) fn message(&mut self, carrier: Carrier, kind: u8, body: &[u8]) -> Heard {
        match kind {
            CLIENT_HELLO => {
                // The first one: after a HelloRetryRequest it comes again.
                if self.client.is_none() {
                    self.client = ClientHello::read(carrier, body);
                }
                Heard::All
            }
            SERVER_HELLO => {
                if self.server.is_none() {
                    self.server = ServerHello::read(carrier, body);
                }
                let hidden = |server: &ServerHello| {
                    server.version == Version(0x0304) || server.version == Version(0xfefc)
                };
                let is_last = self.server.as_ref().is_none_or(hidden);
                if is_last { Heard::All } else { Heard::More }
            }
            CERTIFICATE => {
                if self.is_answered() && self.certificate.is_none() {
                    self.certificate = first_certificate(body).and_then(Certificate::read);
                }
                Heard::All
            }
            ENCRYPTED_EXTENSIONS | SERVER_HELLO_DONE => Heard::All,
            _ => Heard::More,
        }
    }
}

/// The first certificate of a list (RFC 5246 section 7.4.2), once it is whole.
fn first_certificate(body: &[u8]) -> Option<&[u8]> {
    let &[a, b, c] = body.get(3..)?.first_chunk()?;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    body.get(6..6 + length)
}

/// Records of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pending: Pending,
    messages: Messages,
}

impl Records {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.messages.len()
    }

    /// Takes in what follows of the stream.
    pub(super) fn take(&mut self, octets: &[u8], tls: &mut Tls) -> Heard {
        let Self { pending, messages } = self;
        let heard = pending.read(octets, |octets| {
            let mut at = 0;
            let heard = loop {
                let rest = &octets[at..];
                if rest.len() < 5 {
                    break Heard::More;
                }
                let Some((kind, length)) = record(rest) else { break Heard::All };
                let Some(content) = rest.get(5..5 + length) else { break Heard::More };
                at += 5 + length;
                match kind {
                    HANDSHAKE => {
                        if messages.take(Carrier::Tcp, content, tls) == Heard::All {
                            break Heard::All;
                        }
                    }
                    // A warning may come in front of a hello.
                    ALERT => {}
                    _ => break Heard::All,
                }
            };
            (if heard == Heard::All { octets.len() } else { at }, heard)
        });
        if heard == Heard::All {
            *self = Self::default();
        }
        heard
    }
}
