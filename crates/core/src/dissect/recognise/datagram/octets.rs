//! Small readings of a datagram that several recognisers share: numbers at a place, a text within the first
//! octets, a chain of items that each tell their own length. Nothing here can read out of range.

#[cfg(test)]
use super::Said;
use super::{ApplicationProtocol, Look};

/// The two octets at this place as a number, the most significant first.
pub(super) fn be16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

/// The same of four octets.
pub(super) fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

/// The four octets at this place as a number, the least significant first.
pub(super) fn le32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

/// Whether these octets are at this place.
pub(super) fn at(octets: &[u8], place: usize, expected: &[u8]) -> bool {
    octets.get(place..).is_some_and(|rest| rest.starts_with(expected))
}

/// Whether the first `within` octets hold this text.
pub(super) fn holds(octets: &[u8], within: usize, text: &[u8]) -> bool {
    let octets = octets.get(..within).unwrap_or(octets);
    octets.windows(text.len().max(1)).any(|window| window == text)
}

/// How many items follow each other so that the last ends with the octets: `length` tells how long the item
/// at the start of what is left is, its header included. Nothing if one has no length or does not fit.
pub(super) fn chain(mut rest: &[u8], length: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let mut items = 0;
    while !rest.is_empty() {
        let long = length(rest)?;
        if long == 0 {
            return None;
        }
        rest = rest.get(long..)?;
        items += 1;
    }
    Some(items)
}

/// This protocol if that holds, else none.
pub(super) fn only(holds: bool, protocol: ApplicationProtocol) -> Look {
    if holds { Look::Is(protocol) } else { Look::No }
}

/// This protocol if it is sure, none if it does not even fit, else ask again.
pub(super) fn weigh(fits: bool, sure: bool, protocol: ApplicationProtocol) -> Look {
    match (fits, sure) {
        (false, _) => Look::No,
        (true, false) => Look::More,
        (true, true) => Look::Is(protocol),
    }
}

/// Whether a counter went on by a little: from 1 to `most` further.
pub(super) fn next(before: u32, now: u32, most: u32) -> bool {
    (1..=most).contains(&now.wrapping_sub(before))
}

/// A case of the tests: the datagram, the first octets of the one before, the ports, what is to come out.
#[cfg(test)]
pub(super) type Case<'a> = (&'a [u8], &'a [u8], (u16, u16), Look);

/// Puts each case to the recogniser; also each shorter beginning of its datagram, which must not panic.
#[cfg(test)]
pub(super) fn check(recogniser: fn(&Said<'_>) -> Look, cases: &[Case<'_>]) {
    for (number, &(datagram, before, (initiator_port, responder_port), expected)) in
        cases.iter().enumerate()
    {
        let said = |initiator| Said {
            initiator,
            responder: &[],
            initiator_port,
            responder_port,
            every_port: false,
            before,
        };
        assert_eq!(recogniser(&said(datagram)), expected, "case {number}");
        for long in 0..datagram.len() {
            recogniser(&said(datagram.get(..long).unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_within_range_only() {
        assert_eq!(be16(&[1, 2, 3], 1), Some(0x203));
        assert_eq!(be16(&[1, 2, 3], 2), None);
        assert_eq!(be32(&[1, 2, 3, 4], usize::MAX), None);
        assert_eq!(le32(&[1, 2, 3, 4], 0), Some(0x0403_0201));
        assert!(at(b"abc", 1, b"bc") && !at(b"abc", 4, b""));
        assert!(holds(b"abcdef", 4, b"cd") && !holds(b"abcdef", 3, b"cd"));
        assert!(next(u32::MAX, 0, 1) && !next(1, 1, 1));
    }

    #[test]
    fn chains_end_with_the_octets() {
        let length = |item: &[u8]| item.first().copied().map(usize::from);
        assert_eq!(chain(&[1, 2, 0, 1], length), Some(3));
        assert_eq!(chain(&[1, 3, 0], length), None);
        assert_eq!(chain(&[0], length), None);
    }
}
