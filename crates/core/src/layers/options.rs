//! An option is what a header may say besides: a kind, a length and so many octets, or a kind alone. IPv4
//! and TCP have them in one form (RFC 791 section 3.1, RFC 9293 section 3.2).

use serde::{Serialize, Serializer};

use super::in_hex;

/// In both: nothing follows; nothing is said.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Options one after another. At most 40 octets: a header has no more.
struct Raw<'a>(&'a [u8]);

enum RawOption<'a> {
    Alone,
    Of(u8, &'a [u8]),
    Malformed(&'a [u8]),
}

impl<'a> Iterator for Raw<'a> {
    type Item = RawOption<'a>;

    fn next(&mut self) -> Option<RawOption<'a>> {
        let all = self.0;
        let (&kind, rest) = all.split_first()?;
        self.0 = &[];
        match kind {
            END => None,
            NO_OPERATION => {
                self.0 = rest;
                Some(RawOption::Alone)
            }
            // The length counts the kind and itself.
            _ => match rest.split_first().map(|(&length, _)| all.split_at_checked(length.into())) {
                Some(Some((option, rest))) if option.len() >= 2 => {
                    self.0 = rest;
                    Some(RawOption::Of(kind, option.get(2..).unwrap_or_default()))
                }
                _ => Some(RawOption::Malformed(all)),
            },
        }
    }
}

/// The options of an IPv4 header, as they are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Options<'a>(pub &'a [u8]);

impl<'a> Ipv4Options<'a> {
    /// The options in their order, up to the end of the list.
    pub fn iter(self) -> impl Iterator<Item = Ipv4Option<'a>> {
        Raw(self.0).map(|option| match option {
            RawOption::Alone => Ipv4Option::NoOperation,
            RawOption::Of(148, &[high, low]) => {
                Ipv4Option::RouterAlert { value: u16::from_be_bytes([high, low]) }
            }
            RawOption::Of(kind, data) => Ipv4Option::Other { kind, data },
            RawOption::Malformed(bytes) => Ipv4Option::Malformed { bytes },
        })
    }
}

impl Serialize for Ipv4Options<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// An option of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "option", rename_all = "snake_case")]
pub enum Ipv4Option<'a> {
    /// Nothing: it fills up.
    NoOperation,
    /// Routers are to look into the packet (RFC 2113).
    RouterAlert {
        /// 0.
        value: u16,
    },
    /// Another one.
    Other {
        /// Its number in IANA's "IP Option Numbers".
        kind: u8,
        /// What it says.
        #[serde(serialize_with = "in_hex")]
        data: &'a [u8],
    },
    /// A length that cannot be: this, and all that is left.
    Malformed {
        /// From the option's kind to the end of the header.
        #[serde(serialize_with = "in_hex")]
        bytes: &'a [u8],
    },
}

/// The options of a TCP header, as they are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions<'a>(pub &'a [u8]);

impl<'a> TcpOptions<'a> {
    /// The options in their order, up to the end of the list.
    pub fn iter(self) -> impl Iterator<Item = TcpOption<'a>> {
        Raw(self.0).map(|option| match option {
            RawOption::Alone => TcpOption::NoOperation,
            RawOption::Of(kind, data) => TcpOption::of(kind, data),
            RawOption::Malformed(bytes) => TcpOption::Malformed { bytes },
        })
    }
}

impl Serialize for TcpOptions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// An option of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "option", rename_all = "snake_case")]
pub enum TcpOption<'a> {
    /// Nothing: it fills up.
    NoOperation,
    /// How much a segment to the sender may carry (RFC 9293 section 3.7.1).
    MaximumSegmentSize {
        /// In octets.
        octets: u16,
    },
    /// What windows are shifted by (RFC 7323 section 2).
    WindowScale {
        /// In bits; more than 14 counts as 14.
        shift: u8,
    },
    /// The sender understands selective acknowledgments (RFC 2018 section 2).
    SackPermitted,
    /// What came out of order (RFC 2018 section 3).
    Sack {
        /// The first sequence number of each block, and the one behind its last; so many of them count.
        blocks: Blocks,
    },
    /// When it was sent (RFC 7323 section 3).
    Timestamps {
        /// By the sender's clock.
        value: u32,
        /// By the receiver's: the newest that the sender saw.
        echo: u32,
    },
    /// Another one, or one of these of another length.
    Other {
        /// Its number in IANA's "TCP Option Kind Numbers".
        kind: u8,
        /// What it says.
        #[serde(serialize_with = "in_hex")]
        data: &'a [u8],
    },
    /// A length that cannot be: this, and all that is left.
    Malformed {
        /// From the option's kind to the end of the header.
        #[serde(serialize_with = "in_hex")]
        bytes: &'a [u8],
    },
}

impl<'a> TcpOption<'a> {
    fn of(kind: u8, data: &'a [u8]) -> Self {
        match (kind, data) {
            (2, &[high, low]) => {
                Self::MaximumSegmentSize { octets: u16::from_be_bytes([high, low]) }
            }
            (3, &[shift]) => Self::WindowScale { shift },
            (4, []) => Self::SackPermitted,
            (5, _) if !data.is_empty() && data.len().is_multiple_of(8) => {
                Self::Sack { blocks: Blocks::of(data) }
            }
            (8, &[a, b, c, d, e, f, g, h]) => Self::Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo: u32::from_be_bytes([e, f, g, h]),
            },
            _ => Self::Other { kind, data },
        }
    }
}

/// Up to four blocks of sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    blocks: [(u32, u32); 4],
    number: usize,
}

impl Blocks {
    fn of(data: &[u8]) -> Self {
        let mut blocks = Self::default();
        for (block, data) in blocks.blocks.iter_mut().zip(data.chunks_exact(8)) {
            if let &[a, b, c, d, e, f, g, h] = data {
                *block = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                blocks.number += 1;
            }
        }
        blocks
    }

    /// Where each begins, and where what follows it does.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.blocks.iter().take(self.number).copied()
    }
}

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_tcp_are_those_of_their_standards() {
        // A SYN of Linux, with Fast Open (RFC 7413) behind.
        let syn = TcpOptions(&[
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7, 34, 2, 0, 99,
        ]);
        let read: Vec<_> = syn.iter().collect();
        assert_eq!(
            read,
            [
                TcpOption::MaximumSegmentSize { octets: 1460 },
                TcpOption::SackPermitted,
                TcpOption::Timestamps { value: 7, echo: 9 },
                TcpOption::NoOperation,
                TcpOption::WindowScale { shift: 7 },
                TcpOption::Other { kind: 34, data: &[] },
            ]
        );
        let sack = TcpOptions(&[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9]);
        let Some(TcpOption::Sack { blocks }) = sack.iter().last() else { panic!("{sack:?}") };
        assert_eq!(blocks.iter().collect::<Vec<_>>(), [(1, 2), (5, 9)]);
    }

    #[test]
    fn a_length_that_cannot_be_takes_all_that_is_left() {
        for bytes in [&[8, 0, 1, 1][..], &[8, 1, 1], &[8, 10, 1], &[8]] {
            let options = [&[1][..], bytes].concat();
            let read: Vec<_> = TcpOptions(&options).iter().collect();
            assert_eq!(read, [TcpOption::NoOperation, TcpOption::Malformed { bytes }]);
        }
        // Of another length than it has.
        let read: Vec<_> = TcpOptions(&[3, 4, 1, 1]).iter().collect();
        assert_eq!(read, [TcpOption::Other { kind: 3, data: &[1, 1] }]);
    }

    #[test]
    fn options_of_ipv4_are_those_of_their_standards() {
        let read: Vec<_> = Ipv4Options(&[1, 148, 4, 0, 0, 7, 3, 9, 0, 1]).iter().collect();
        let record = Ipv4Option::Other { kind: 7, data: &[9] };
        assert_eq!(read, [Ipv4Option::NoOperation, Ipv4Option::RouterAlert { value: 0 }, record]);
    }
}
