//! DNS messages (RFC 1035): what is asked, and what is answered. Over UDP, over TCP with a length in front, in
//! multicast (RFC 6762) and link-local (RFC 4795).

use std::fmt;
use std::net::IpAddr;

use domain::base::iana::Rtype;
use domain::base::{Message, ParsedName, Record};
use domain::dep::octseq::Octets;
use domain::rdata::{A, Aaaa, Cname};
use serde::Serialize;
use smol_str::{SmolStr, ToSmolStr};

use super::pending::Pending;
use super::text::shown;
use super::{ApplicationProtocol, Look, Said};

/// So many questions of a flow are kept, and so many answers.
const MOST: usize = 16;

/// So many addresses of a message are learnt.
const LEARNT: usize = 8;

/// So many records of a message are looked at: with compression a message of 64 KiB may have thousands.
const RECORDS: usize = 64;

/// What was asked, and what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// The first questions, each once: at most 16.
    pub questions: Vec<Question>,
    /// The first answers of a kind that is read: at most 16.
    pub answers: Vec<Answer>,
    /// How the first answer ended (RCODE, RFC 1035 section 4.1.1): 0 is no error, 3 no such name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u8>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The name, without the dot of the root.
    pub name: SmolStr,
    /// The type of record, by its mnemonic: A, AAAA, PTR.
    pub kind: SmolStr,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whose it is.
    pub name: SmolStr,
    /// What is said of it.
    pub value: AnswerValue,
}

/// What an answer says of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AnswerValue {
    /// It has this address.
    Address(IpAddr),
    /// It is an alias of this name.
    Alias(SmolStr),
}

impl fmt::Display for AnswerValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Alias(name) => name.fmt(formatter),
        }
    }
}

/// An address that a name was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learnt {
    pub(crate) name: SmolStr,
    pub(crate) address: IpAddr,
}

/// Which protocol has this port.
fn protocol(said: &Said<'_>) -> Option<ApplicationProtocol> {
    let by_port = [
        (53, ApplicationProtocol::DNS),
        (5353, ApplicationProtocol::MDNS),
        (5355, ApplicationProtocol::LLMNR),
    ];
    by_port.into_iter().find(|&(port, _)| said.has_port(port)).map(|(_, protocol)| protocol)
}

/// Whether a header is one of a message (RFC 1035 section 4.1.1) that asks or answers something.
fn is_header(octets: &[u8]) -> bool {
    let Some(&[_, _, flags, more, a, b, c, d, ..]) = octets.first_chunk::<12>() else {
        return false;
    };
    let questions = u16::from_be_bytes([a, b]);
    let answers = u16::from_be_bytes([c, d]);
    let operation = flags >> 3 & 15;
    let answer = flags & 0x80 != 0;
    operation <= 5
        && more & 0x40 == 0
        && questions <= 64
        && (questions > 0 || answer && answers < 512)
}

/// Recognises datagrams by port and header.
pub(super) fn recognise(said: &Said<'_>) -> Look {
    match protocol(said) {
        Some(protocol) if is_header(said.datagram()) => Look::Is(protocol),
        _ => Look::No,
    }
}

/// Recognises a stream by port and the header of the first message.
pub(super) fn recognise_stream(said: &Said<'_>) -> Look {
    if !said.has_port(53) {
        return Look::No;
    }
    let of = |octets: &[u8]| (octets.len() >= 14).then(|| is_header(&octets[2..]));
    match (of(said.initiator), of(said.responder)) {
        (Some(true), _) | (_, Some(true)) => Look::Is(ApplicationProtocol::DNS),
        (Some(false), _) | (_, Some(false)) => Look::No,
        _ => Look::More,
    }
}

/// A name, without the dot of the root: label by label, as they are.
fn text<O: Octets>(name: &ParsedName<O>) -> SmolStr {
    let mut text = [0; 256];
    let mut length = 0;
    for label in name.iter().filter(|label| !label.is_root()) {
        let label = label.as_slice();
        let begin = if length > 0 { length + 1 } else { 0 };
        let Some(place) = text.get_mut(begin..begin + label.len()) else { break };
        place.copy_from_slice(label);
        if begin > 0 {
            text[length] = b'.';
        }
        length = begin + label.len();
    }
    shown(&text[..length])
}

impl Dns {
    /// Reads a message as far as it is right.
    pub(super) fn read(&mut self, octets: &[u8]) {
        let Ok(message) = Message::from_octets(octets) else { return };
        let header = message.header();
        for question in message.question().take(RECORDS) {
            let Ok(question) = question else { break };
            let name = text(question.qname());
            let question = Question { name, kind: mnemonic(question.qtype()) };
            if self.questions.len() < MOST && !self.questions.contains(&question) {
                self.questions.push(question);
            }
        }
        if header.qr() {
            self.response_code.get_or_insert(header.rcode().to_int());
            answers(&message, |owner, value| {
                if self.answers.len() < MOST {
                    self.answers.push(Answer { name: text(owner), value });
                }
            });
        }
    }
}

/// What a type of record is called: those that are asked for all the time need no text of their own.
fn mnemonic(kind: Rtype) -> SmolStr {
    let known = match kind {
        Rtype::A => "A",
        Rtype::AAAA => "AAAA",
        Rtype::PTR => "PTR",
        Rtype::HTTPS => "HTTPS",
        Rtype::SRV => "SRV",
        Rtype::TXT => "TXT",
        Rtype::MX => "MX",
        Rtype::NS => "NS",
        other => return other.to_smolstr(),
    };
    SmolStr::new_static(known)
}

fn answers(message: &Message<&[u8]>, mut tell: impl FnMut(&ParsedName<&&[u8]>, AnswerValue)) {
    let Ok(section) = message.answer() else { return };
    for record in section.take(RECORDS) {
        let Ok(record) = record else { return };
        let data =
            match record.rtype() {
                Rtype::A => record.to_record::<A>().ok().flatten().map(|record: Record<_, A>| {
                    AnswerValue::Address(IpAddr::V4(record.data().addr()))
                }),
                Rtype::AAAA => {
                    record.to_record::<Aaaa>().ok().flatten().map(|record: Record<_, Aaaa>| {
                        AnswerValue::Address(IpAddr::V6(record.data().addr()))
                    })
                }
                Rtype::CNAME => record
                    .to_record::<Cname<ParsedName<_>>>()
                    .ok()
                    .flatten()
                    .map(|record| AnswerValue::Alias(text(record.data().cname()))),
                _ => None,
            };
        if let Some(data) = data {
            tell(&record.owner(), data);
        }
    }
}

/// The addresses in an answer, under the name that was asked for: whatever it is an alias of is nobody's wish.
pub(crate) fn learn(octets: &[u8], tell: &mut dyn FnMut(Learnt)) {
    if !is_header(octets) || octets[2] & 0x80 == 0 {
        return;
    }
    let Ok(message) = Message::from_octets(octets) else { return };
    let Some(Ok(question)) = message.question().next() else { return };
    let asked = text(question.qname());
    let mut told: Vec<IpAddr> = Vec::new();
    answers(&message, |_, data| {
        if let AnswerValue::Address(address) = data
            && told.len() < LEARNT
            && !told.contains(&address)
        {
            told.push(address);
            tell(Learnt { name: asked.clone(), address });
        }
    });
}

/// Messages of one direction of a stream, each with its length in front (RFC 1035 section 4.2.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Messages(Pending);

impl Messages {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes in what follows.
    pub(super) fn take(&mut self, octets: &[u8], dns: &mut Dns) {
        self.0.read(octets, |octets| {
            let mut at = 0;
            while let Some((&length, rest)) = octets[at..].split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(length));
                let Some(message) = rest.get(..length) else { break };
                dns.read(message);
                at += 2 + length;
            }
            (at, ())
        });
    }
}
