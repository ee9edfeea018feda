//! What is recognised, and what comes of it: the octets that both ends have said so far, and whether they are
//! of a protocol.

use super::ApplicationProtocol;

/// What both ends have said, as far as it is known when somebody asks what they speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    /// TCP: the first octets of the stream from the initiator, in order. UDP: the datagram at hand if it is
    /// from the initiator, else nothing.
    pub(crate) initiator: &'a [u8],
    /// The same from the responder.
    pub(crate) responder: &'a [u8],
    /// The initiator's port.
    pub(crate) initiator_port: u16,
    /// The responder's port.
    pub(crate) responder_port: u16,
    /// Whether every port counts as one of these two: only for the table of first octets.
    pub(crate) every_port: bool,
    /// UDP: the first octets (at most 32) of the latest datagram before the one at hand that came from the
    /// same end; nothing if there was none.
    pub(crate) before: &'a [u8],
}

impl<'a> Said<'a> {
    /// UDP: the datagram at hand, whoever sent it.
    pub(crate) fn datagram(&self) -> &'a [u8] {
        if self.initiator.is_empty() { self.responder } else { self.initiator }
    }

    /// Whether one of the ports is this.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.every_port || self.initiator_port == port || self.responder_port == port
    }
}

/// What a recogniser makes of what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is this protocol.
    Is(ApplicationProtocol),
    /// It is none that this recogniser knows: it is never asked again.
    No,
    /// It may become one: it is asked again when more was said.
    More,
}
