//! A conversation by itself: octets that whoever has put them in order, or datagrams, without flows around them.

use super::speech::{Next, Ports, Speech};
use super::{ApplicationProtocol, Dissected};
use crate::flow::Direction;

/// What two ends say, and what was found in it.
///
/// ```
/// use procflow_core::dissect::{ApplicationProtocol, Conversation};
/// use procflow_core::flow::Direction;
///
/// let mut conversation = Conversation::stream(40000, 80);
/// conversation.hear(Direction::Forward, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n");
/// let found = conversation.found();
/// assert_eq!(found.protocol, Some(ApplicationProtocol::HTTP));
/// assert_eq!(found.server_name(), Some("www.example.org"));
/// ```
#[derive(Debug)]
pub struct Conversation {
    speech: Speech,
    is_stream: bool,
    ports: Ports,
    found: Dissected,
    over: bool,
}

impl Conversation {
    /// Two streams, as TCP has them, between the initiator's port and the responder's.
    #[must_use]
    pub fn stream(initiator: u16, responder: u16) -> Self {
        Self::of(Speech::unrecognised(true), true, (initiator, responder))
    }

    /// Datagrams, likewise.
    #[must_use]
    pub fn datagrams(initiator: u16, responder: u16) -> Self {
        Self::of(Speech::unrecognised(false), false, (initiator, responder))
    }

    /// The same, of which it is known what they speak; nothing is recognised then.
    #[must_use]
    pub fn speaking(self, protocol: ApplicationProtocol) -> Self {
        let speech = Speech::of(protocol, self.is_stream);
        let found = Dissected { protocol: Some(protocol), ..Dissected::default() };
        Self { speech, found, ..self }
    }

    fn of(speech: Speech, is_stream: bool, ports: Ports) -> Self {
        Self { speech, is_stream, ports, found: Dissected::default(), over: false }
    }

    /// Takes in what follows in one direction: octets of a stream, or a datagram. Whether more is to be heard.
    pub fn hear(&mut self, direction: Direction, octets: &[u8]) -> bool {
        if !self.over && !octets.is_empty() {
            let Self { speech, ports, found, .. } = self;
            let next = if self.is_stream {
                speech.octets(*ports, direction, octets, false, found)
            } else {
                speech.datagram(*ports, direction, octets, found)
            };
            self.over = next == Next::Over;
        }
        !self.over
    }

    /// So many octets are kept to go on with.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.speech.len()
    }

    /// What was found, if nothing more comes.
    #[must_use]
    pub fn found(&self) -> Dissected {
        let mut found = self.found.clone();
        self.speech.finish(false, &mut found);
        found
    }
}
