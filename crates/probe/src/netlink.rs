//! netlink(7): the datagrams in which the kernel answers and tells. One holds messages, each with a header
//! (`struct nlmsghdr`) and a body; a body holds a structure of its kind and, behind it, attributes
//! (`struct nlattr`), which may hold attributes in turn.
//!
//! Nothing is received here, only taken apart: a length that leads out of what it lies in ends
//! the reading with what is wrong.

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// The length of `struct nlattr`.
const ATTRIBUTE: usize = 4;

/// `NLA_TYPE_MASK` (linux/netlink.h): without the two bits that say how the payload is laid out.
const TYPE_MASK: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'datagram> {
    /// What it is.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// The question that it answers; 0 where none was asked.
    pub(crate) sequence: u32,
    /// What is behind the header.
    pub(crate) body: &'datagram [u8],
}

/// The messages of a datagram; ends after an error.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, &'static str>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let first = first_message(rest);
        rest = first.map_or(&[], |(_, behind)| behind);
        Some(first.map(|(message, _)| message))
    })
}

/// The first message, and what is behind it.
fn first_message(datagram: &[u8]) -> Result<(Message<'_>, &[u8]), &'static str> {
    let length = u32_at(datagram, 0).ok_or("a message header is cut off")?;
    let length = usize::try_from(length).map_err(|_| "a message is too long")?;
    let bytes = datagram.get(..length).ok_or("a message is longer than its datagram")?;
    let body = bytes.get(HEADER..).ok_or("a message is shorter than its header")?;
    let message = Message {
        kind: u16_at(bytes, 4).ok_or("a message has no type")?,
        flags: u16_at(bytes, 6).ok_or("a message has no flags")?,
        sequence: u32_at(bytes, 8).ok_or("a message has no sequence number")?,
        body,
    };
    Ok((message, datagram.get(aligned(length)..).unwrap_or(&[])))
}

/// The attributes of a body, type and payload; ends after an error.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), &'static str>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.len() < ATTRIBUTE {
            return None;
        }
        let length = usize::from(u16_at(rest, 0).unwrap_or(0));
        let kind = u16_at(rest, 2).unwrap_or(0) & TYPE_MASK;
        let payload = rest.get(ATTRIBUTE..length);
        rest = payload.and_then(|_| rest.get(aligned(length)..)).unwrap_or(&[]);
        Some(payload.map(|payload| (kind, payload)).ok_or(TOO_LONG))
    })
}

const TOO_LONG: &str = "an attribute's length leads out of its message";

/// The payload of the first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Result<Option<&[u8]>, &'static str> {
    for attribute in attributes(bytes) {
        let (kind, payload) = attribute?;
        if kind == wanted {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

/// Netlink puts everything on 4-byte borders, and numbers in the host's byte order.
pub(crate) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(i32::from_ne_bytes(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message as the kernel lays it out.
    pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_its_messages() {
        let mut datagram = message(3, 1, 7, &[1, 2, 3]);
        datagram.extend(message(4, 2, 8, &[]));
        let read: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        let first = Message { kind: 3, flags: 1, sequence: 7, body: &[1, 2, 3] };
        assert_eq!(read, [first, Message { kind: 4, flags: 2, sequence: 8, body: &[] }]);
    }

    #[test]
    fn a_bad_length_ends_a_datagram() {
        for length in [0_u32, 15, 21, u32::MAX] {
            let mut datagram = message(3, 1, 7, &[1, 2, 3, 4]);
            datagram.extend(message(4, 2, 8, &[]));
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            let read: Vec<_> = messages(&datagram).collect();
            if length == 21 {
                continue; // only too long: the next begins elsewhere
            }
            assert!(matches!(read[..], [Err(_)]), "{length}: {read:?}");
        }
    }

    #[test]
    fn an_attribute_is_found_behind_others() {
        let bytes = [5, 0, 8, 0, 1, 0, 0, 0, 6, 0, 9, 0, 2, 3, 0, 0];
        #[cfg(target_endian = "little")]
        assert_eq!(attribute(&bytes, 9), Ok(Some(&[2, 3][..])));
        assert_eq!(attribute(&bytes, 7), Ok(None));
        assert!(attribute(&[200, 0, 8, 0, 1], 9).is_err());
    }
}
