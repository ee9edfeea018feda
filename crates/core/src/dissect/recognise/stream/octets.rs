//! The few ways to read a stream's first octets that all recognisers share. Whatever is read past
//! the end is "not yet known", never an error: the next octets may still come.

use super::{ApplicationProtocol, Look, Said};

/// How well the octets of one direction fit a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing else begins like this.
    Sure,
    /// No contradiction so far, and not enough yet.
    Open,
    /// It contradicts.
    Against,
}

impl Fit {
    /// Sure when this holds, else against.
    pub(super) fn sure_if(holds: bool) -> Fit {
        if holds { Fit::Sure } else { Fit::Against }
    }
}

/// One direction suffices. Of two that disagree the sure one counts: the other may begin
/// mid-message.
pub(super) fn either(fits: [Fit; 2], what: ApplicationProtocol) -> Look {
    if fits.contains(&Fit::Sure) {
        Look::Is(what)
    } else if fits.contains(&Fit::Against) {
        Look::No
    } else {
        Look::More
    }
}

/// Both directions have to fit.
pub(super) fn both(fits: [Fit; 2], what: ApplicationProtocol) -> Look {
    match fits {
        [Fit::Sure, Fit::Sure] => Look::Is(what),
        [Fit::Against, _] | [_, Fit::Against] => Look::No,
        _ => Look::More,
    }
}

/// The same test for each direction, one suffices.
pub(super) fn one_of(
    said: &Said<'_>,
    what: ApplicationProtocol,
    fit: impl Fn(&[u8]) -> Fit,
) -> Look {
    either([fit(said.initiator), fit(said.responder)], what)
}

/// Like [`one_of`], but on one of the protocol's own ports a direction that contradicts is borne
/// until the other has been heard: a capture may begin in the middle of a long message.
pub(super) fn one_of_at(
    said: &Said<'_>,
    ports: &[u16],
    what: ApplicationProtocol,
    fit: impl Fn(&[u8]) -> Fit,
) -> Look {
    let fits = [fit(said.initiator), fit(said.responder)];
    let awaited = fits.contains(&Fit::Against) && fits.contains(&Fit::Open);
    match awaited && ports.iter().any(|&port| said.has_port(port)) {
        true => Look::More,
        false => either(fits, what),
    }
}

/// Both directions with the one that spoke as `first` in front; who initiated is not always known,
/// as a capture may begin late.
pub(super) fn either_way<'a>(
    said: &Said<'a>,
    first_begins: impl Fn(&[u8]) -> bool,
) -> [&'a [u8]; 2] {
    if first_begins(said.responder) && !first_begins(said.initiator) {
        [said.responder, said.initiator]
    } else {
        [said.initiator, said.responder]
    }
}

/// The two octets at this place, most significant first.
pub(super) fn be16(octets: &[u8], at: usize) -> Option<usize> {
    let found = octets.get(at..)?.first_chunk()?;
    Some(usize::from(u16::from_be_bytes(*found)))
}

/// The three octets at this place, most significant first.
pub(super) fn be24(octets: &[u8], at: usize) -> Option<usize> {
    let [a, b, c] = *octets.get(at..)?.first_chunk()?;
    Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

/// The four octets at this place, most significant first.
pub(super) fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

/// The four octets at this place, least significant first.
pub(super) fn le32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

/// Whether the octets begin with these: open while they are only the start of them.
#[inline]
pub(super) fn begins(octets: &[u8], with: &[u8]) -> Fit {
    // Most do not even begin with the first octet.
    if let (Some(first), Some(wanted)) = (octets.first(), with.first())
        && first != wanted
    {
        return Fit::Against;
    }
    if octets.starts_with(with) {
        Fit::Sure
    } else if with.starts_with(octets) {
        Fit::Open
    } else {
        Fit::Against
    }
}

/// Whether the octets begin with one of these.
pub(super) fn begins_with_one(octets: &[u8], of: &[&[u8]]) -> Fit {
    let mut fit = Fit::Against;
    for with in of {
        match begins(octets, with) {
            Fit::Sure => return Fit::Sure,
            Fit::Open => fit = Fit::Open,
            Fit::Against => {}
        }
    }
    fit
}

/// What is sure at this place and open before it is reached: for octets that must have this value.
pub(super) fn holds(octets: &[u8], at: usize, value: &[u8]) -> Fit {
    octets.get(at..).map_or(Fit::Open, |rest| begins(rest, value))
}

/// Goes from message to message, at most `wanted` of them, `length` telling how long the one in
/// front is. Sure when so many good ones are there whole.
pub(super) fn messages(
    octets: &[u8],
    wanted: usize,
    length: impl Fn(&[u8]) -> Result<usize, Fit>,
) -> Fit {
    let mut rest = octets;
    for _ in 0..wanted {
        match length(rest) {
            Err(fit) => return fit,
            Ok(long) => match rest.get(long..) {
                Some(next) => rest = next,
                None => return Fit::Open,
            },
        }
    }
    Fit::Sure
}

/// The first line without its end, and what comes after it: nothing while its end is not there.
pub(super) fn line(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = octets.iter().position(|&octet| octet == b'\n')?;
    let (line, rest) = octets.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

/// Whether all is printable ASCII.
pub(super) fn is_printable(octets: &[u8]) -> bool {
    octets.iter().all(|octet| matches!(octet, b' '..=b'~'))
}

/// Whether it occurs in there.
pub(super) fn contains(octets: &[u8], what: &[u8]) -> bool {
    octets.windows(what.len().max(1)).any(|window| window == what)
}

/// Text up to a zero octet that has to be printable and at most so long, and what comes after the
/// zero.
pub(super) fn text_and_rest(octets: &[u8], most: usize) -> Result<(&[u8], &[u8]), Fit> {
    let seen = octets.get(..octets.len().min(most + 1)).unwrap_or_default();
    match seen.iter().position(|&octet| octet == 0) {
        Some(end) if is_printable(seen.get(..end).unwrap_or_default()) => {
            let (text, rest) = octets.split_at(end);
            Ok((text, rest.get(1..).unwrap_or_default()))
        }
        None if seen.len() <= most && is_printable(seen) => Err(Fit::Open),
        _ => Err(Fit::Against),
    }
}

/// For the recognisers' tests: what they make of these initiators' and responders' octets, the
/// responder being on this port. What becomes a protocol may not be refused while it arrives.
#[cfg(test)]
pub(super) fn expect(
    recogniser: fn(&Said<'_>) -> Look,
    responder_port: u16,
    cases: &[(&[u8], &[u8], Look)],
) {
    for (number, &(initiator, responder, expected)) in cases.iter().enumerate() {
        let look = |initiator, responder| {
            recogniser(&Said {
                initiator,
                responder,
                initiator_port: 50_000,
                responder_port,
                every_port: false,
                before: &[],
            })
        };
        assert_eq!(look(initiator, responder), expected, "case {number}");
        // Either half alone, from either end: what is taken whole is not refused while it arrives.
        for half in [initiator, responder] {
            for from_initiator in [true, false] {
                let alone =
                    |octets| if from_initiator { look(octets, &[]) } else { look(&[], octets) };
                let refused = (0..half.len()).find(|&seen| alone(&half[..seen]) == Look::No);
                assert!(alone(half) == Look::No || refused.is_none(), "case {number}: {refused:?}");
            }
        }
        if expected != Look::No {
            for seen in 0..initiator.len() {
                assert_ne!(look(&initiator[..seen], &[]), Look::No, "case {number} after {seen}");
            }
            for seen in 0..responder.len() {
                assert_ne!(
                    look(initiator, &responder[..seen]),
                    Look::No,
                    "case {number}, {seen} back"
                );
            }
        }
    }
}
