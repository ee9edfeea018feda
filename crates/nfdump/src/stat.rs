//! A stat record is the sum of a file's flows, as whoever wrote the file counted them.
//!
//! Layout 2 keeps it in the appendix (type 0x8002: 18 numbers of 64 bits), layout 1 behind the
//! header (136 bytes, times in seconds and milliseconds apart). `nfdump -I` prints it and nothing
//! checks it. Here it is read, written, and summed up from flows as nfdump does: what an
//! aggregated flow stands for is counted, packets and bytes of both directions, and ICMP is
//! protocols 1 and 58.

use nom::{
    IResult, Parser,
    multi::fill,
    number::complete::{le_u16, le_u32, le_u64},
};

use crate::{counters::Counters, file::Layout};

/// How many flows, and their packets and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Flows; one that was aggregated counts as those it was made of.
    pub flows: u64,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, counters: &Counters) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.flows, counters.flows);
        sum(&mut self.packets, counters.packets.saturating_add(counters.out_packets));
        sum(&mut self.bytes, counters.bytes.saturating_add(counters.out_bytes));
    }
}

/// The sums over a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// All flows.
    pub all: Sum,
    /// Protocol 6.
    pub tcp: Sum,
    /// Protocol 17.
    pub udp: Sum,
    /// Protocols 1 and 58.
    pub icmp: Sum,
    /// All other protocols.
    pub other: Sum,
    /// The earliest first packet, in unix milliseconds. nfcapd puts the begin of the slot here
    /// when there is no flow.
    pub first_ms: u64,
    /// The latest last packet, in unix milliseconds. nfcapd puts the end of the slot here when
    /// there is no flow.
    pub last_ms: u64,
    /// Packets of exporters that never arrived, by their sequence numbers. Only a collector knows.
    pub sequence_failures: u64,
}

impl Stat {
    /// The size of layout 2's, without type and size.
    pub(crate) const SIZE: usize = 18 * 8;
    /// The size of layout 1's.
    pub(crate) const SIZE_1: usize = 136;

    /// Reads it; `None` when `bytes` are not as many as the layout's stat record has.
    pub(crate) fn parse(layout: Layout, bytes: &[u8]) -> Option<Self> {
        let parsed = match layout {
            Layout::One => layout_1(bytes),
            Layout::Two => layout_2(bytes),
        };
        parsed.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, stat)| stat)
    }

    /// The bytes that [`parse`](Self::parse) reads. What does not fit into layout 1's narrower
    /// fields becomes the most they hold.
    pub(crate) fn to_bytes(self, layout: Layout) -> Vec<u8> {
        let Self { all, tcp, udp, icmp, other, .. } = self;
        let kinds = [tcp, udp, icmp, other];
        let mut bytes = Vec::with_capacity(Self::SIZE);
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        [all.flows, all.bytes, all.packets].into_iter().for_each(&mut put);
        kinds.iter().for_each(|sum| put(sum.flows));
        kinds.iter().for_each(|sum| put(sum.bytes));
        kinds.iter().for_each(|sum| put(sum.packets));
        match layout {
            Layout::Two => {
                [self.first_ms, self.last_ms, self.sequence_failures].into_iter().for_each(put);
            }
            Layout::One => {
                let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
                bytes.extend_from_slice(&narrow(self.first_ms / 1000));
                bytes.extend_from_slice(&narrow(self.last_ms / 1000));
                // Less than 1000 each.
                bytes.extend_from_slice(&((self.first_ms % 1000) as u16).to_le_bytes());
                bytes.extend_from_slice(&((self.last_ms % 1000) as u16).to_le_bytes());
                bytes.extend_from_slice(&narrow(self.sequence_failures));
            }
        }
        bytes
    }

    /// Adds one flow record.
    pub fn add(&mut self, counters: &Counters) {
        if self.first_ms == 0 || (1..self.first_ms).contains(&counters.first_ms) {
            self.first_ms = counters.first_ms;
        }
        self.last_ms = self.last_ms.max(counters.last_ms);
        self.all.add(counters);
        match counters.protocol {
            6 => &mut self.tcp,
            17 => &mut self.udp,
            1 | 58 => &mut self.icmp,
            _ => &mut self.other,
        }
        .add(counters);
    }
}

fn sums(input: &[u8]) -> IResult<&[u8], Stat, ()> {
    let mut numbers = [0; 15];
    let (rest, ()) = fill(le_u64, &mut numbers).parse(input)?;
    let [flows, bytes, packets, of_kinds @ ..] = numbers;
    let kind =
        |at: usize| Sum { flows: of_kinds[at], bytes: of_kinds[4 + at], packets: of_kinds[8 + at] };
    let stat = Stat {
        all: Sum { flows, packets, bytes },
        tcp: kind(0),
        udp: kind(1),
        icmp: kind(2),
        other: kind(3),
        ..Stat::default()
    };
    Ok((rest, stat))
}

fn layout_2(input: &[u8]) -> IResult<&[u8], Stat, ()> {
    let (rest, stat) = sums(input)?;
    let (rest, (first_ms, last_ms, sequence_failures)) = (le_u64, le_u64, le_u64).parse(rest)?;
    Ok((rest, Stat { first_ms, last_ms, sequence_failures, ..stat }))
}

fn layout_1(input: &[u8]) -> IResult<&[u8], Stat, ()> {
    let (rest, stat) = sums(input)?;
    let (rest, (first, last, msec_first, msec_last, failures)) =
        (le_u32, le_u32, le_u16, le_u16, le_u32).parse(rest)?;
    let stat = Stat {
        first_ms: u64::from(first) * 1000 + u64::from(msec_first),
        last_ms: u64::from(last) * 1000 + u64::from(msec_last),
        sequence_failures: u64::from(failures),
        ..stat
    };
    Ok((rest, stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTERS: Counters = Counters {
        first_ms: 5001,
        last_ms: 6002,
        protocol: 6,
        flows: 1,
        packets: 5,
        bytes: 320,
        out_packets: 0,
        out_bytes: 0,
    };

    #[test]
    fn flows_are_summed_by_protocol_and_in_both_directions() {
        let mut stat = Stat::default();
        stat.add(&COUNTERS);
        stat.add(&Counters { protocol: 17, flows: 3, first_ms: 4000, ..COUNTERS });
        stat.add(&Counters { protocol: 58, out_packets: 2, out_bytes: 80, ..COUNTERS });
        stat.add(&Counters { protocol: 47, last_ms: 7000, bytes: u64::MAX, ..COUNTERS });
        let sum = |flows, packets, bytes| Sum { flows, packets, bytes };
        let expected = Stat {
            all: sum(6, 22, u64::MAX),
            tcp: sum(1, 5, 320),
            udp: sum(3, 5, 320),
            icmp: sum(1, 7, 400),
            other: sum(1, 5, u64::MAX),
            first_ms: 4000,
            last_ms: 7000,
            sequence_failures: 0,
        };
        assert_eq!(stat, expected);
    }

    #[test]
    fn a_stat_record_reads_and_writes() {
        // Each number of 64 bits is its place, from 1 on.
        let bytes: Vec<u8> = (1..=18_u64).flat_map(u64::to_le_bytes).collect();
        let stat = Stat::parse(Layout::Two, &bytes).unwrap();
        assert_eq!(stat.all, Sum { flows: 1, bytes: 2, packets: 3 });
        assert_eq!(stat.tcp, Sum { flows: 4, bytes: 8, packets: 12 });
        assert_eq!(stat.other, Sum { flows: 7, bytes: 11, packets: 15 });
        assert_eq!((stat.first_ms, stat.last_ms, stat.sequence_failures), (16, 17, 18));
        assert_eq!(stat.to_bytes(Layout::Two), bytes);
        assert_eq!(Stat::parse(Layout::Two, &bytes[1..]), None);
        assert_eq!(Stat::parse(Layout::One, &bytes), None);

        let mut bytes = bytes[..15 * 8].to_vec();
        bytes.extend_from_slice(&[5, 0, 0, 0, 6, 0, 0, 0, 1, 0, 2, 0, 7, 0, 0, 0]);
        assert_eq!(bytes.len(), Stat::SIZE_1);
        let stat = Stat::parse(Layout::One, &bytes).unwrap();
        assert_eq!((stat.first_ms, stat.last_ms, stat.sequence_failures), (5001, 6002, 7));
        assert_eq!(stat.to_bytes(Layout::One), bytes);
    }
}
