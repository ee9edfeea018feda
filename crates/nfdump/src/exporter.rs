//! An exporter is who sent flows to the collector; a sampler is how one of them chose packets.
//!
//! The collector gives each exporter a number of its own, the sysid, by which flows name theirs,
//! and writes what it knows of them into records of types 7 (who), 8 (counts, at the end), 9 and
//! 15 (samplers; 9 until nfdump 1.7.1). Layouts 1 and 2 have the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nom::{
    IResult, Parser,
    bytes::complete::take,
    number::complete::{le_i32, le_i64, le_u16, le_u32, le_u64},
};

/// The address families in exporter records: Linux' AF_INET and AF_INET6.
const INET: u16 = 2;
const INET6: u16 = 10;

/// Who sent flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exporter {
    /// The collector's number for it, which flows refer to.
    pub sysid: u16,
    /// What it speaks: 5, 9 or 10 (IPFIX) of NetFlow, 9999 for sFlow.
    pub version: u32,
    /// Its address; `None` when the record's address family is neither IPv4 nor IPv6.
    pub address: Option<IpAddr>,
    /// Its own number for what observes: source id (v9), observation domain (IPFIX).
    pub id: u32,
    /// What the collector counted, if the file says: that record comes last.
    pub stat: Option<ExporterStat>,
}

/// What a collector counted of an exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExporterStat {
    /// Gaps in its sequence numbers.
    pub sequence_failures: u32,
    /// Packets received.
    pub packets: u64,
    /// Flows in them.
    pub flows: u64,
}

/// How an exporter samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sampler {
    /// The sysid of its exporter.
    pub exporter: u16,
    /// Its id; -1 is any sampler of the exporter, -2 the collector's default, -3 what overrides all.
    pub id: i64,
    /// The exporter's number for the algorithm.
    pub algorithm: u16,
    /// Packets taken of each interval. Records of type 9 do not say: 1 of the whole.
    pub packets: u32,
    /// Packets left out between those taken; for type 9 the interval less 1.
    pub space: u32,
}

impl Exporter {
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        whole(exporter(record))
    }
}

impl Sampler {
    /// Reads a record of type 9 or 15, which differ in size.
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        whole(sampler(record)).or_else(|| whole(sampler_9(record)))
    }
}

/// The sysids in a record of type 8, each with what was counted.
pub(crate) fn stats(record: &[u8]) -> impl Iterator<Item = (u32, ExporterStat)> {
    let rest = record.get(8..).unwrap_or_default();
    rest.chunks_exact(24).filter_map(|chunk| whole(stat(chunk)))
}

fn whole<T>(parsed: IResult<&[u8], T, ()>) -> Option<T> {
    parsed.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, value)| value)
}

fn exporter(input: &[u8]) -> IResult<&[u8], Exporter, ()> {
    let (rest, (_type, _size, version, high, low)) =
        (le_u16, le_u16, le_u32, le_u64, le_u64).parse(input)?;
    let (rest, (family, sysid, id)) = (le_u16, le_u16, le_u32).parse(rest)?;
    let address = match family {
        // The first four bytes of the second half, a number in the writer's byte order.
        INET => Some(Ipv4Addr::from(low as u32).into()),
        INET6 => Some(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)).into()),
        _ => None,
    };
    Ok((rest, Exporter { sysid, version, address, id, stat: None }))
}

fn stat(input: &[u8]) -> IResult<&[u8], (u32, ExporterStat), ()> {
    let (rest, (sysid, sequence_failures, packets, flows)) =
        (le_u32, le_u32, le_u64, le_u64).parse(input)?;
    Ok((rest, (sysid, ExporterStat { sequence_failures, packets, flows })))
}

fn sampler(input: &[u8]) -> IResult<&[u8], Sampler, ()> {
    let (rest, (_head, exporter, algorithm, id, packets, space)) =
        (take(4_usize), le_u16, le_u16, le_i64, le_u32, le_u32).parse(input)?;
    Ok((rest, Sampler { exporter, id, algorithm, packets, space }))
}

fn sampler_9(input: &[u8]) -> IResult<&[u8], Sampler, ()> {
    let (rest, (_head, id, interval, algorithm, exporter)) =
        (take(4_usize), le_i32, le_u32, le_u16, le_u16).parse(input)?;
    let space = interval.saturating_sub(1);
    Ok((rest, Sampler { exporter, id: i64::from(id), algorithm, packets: 1, space }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 9 from 127.0.0.1, sysid 1, source id 7.
    const IPV4: [u8; 32] = [
        7, 0, 32, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 127, 0, 0, 0, 0, 2, 0, 1, 0, 7,
        0, 0, 0,
    ];

    #[test]
    fn an_exporter_is_read() {
        let expected = Exporter {
            sysid: 1,
            version: 9,
            address: Some(Ipv4Addr::LOCALHOST.into()),
            id: 7,
            stat: None,
        };
        assert_eq!(Exporter::parse(&IPV4), Some(expected));
        let mut ipv6 = IPV4;
        // Two numbers, the high half first.
        (ipv6[15], ipv6[16], ipv6[19], ipv6[24]) = (0x20, 1, 0, 10);
        let address = Exporter::parse(&ipv6).unwrap().address.unwrap();
        assert_eq!(address.to_string(), "2000::1");
        ipv6[24] = 1;
        assert_eq!(Exporter::parse(&ipv6).unwrap().address, None);
        assert_eq!(Exporter::parse(&IPV4[..31]), None);
    }

    #[test]
    fn counts_of_exporters_are_read() {
        let mut record = vec![8, 0, 32, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        record.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        let expected = ExporterStat { sequence_failures: 2, packets: 3, flows: 4 };
        assert_eq!(stats(&record).collect::<Vec<_>>(), [(1, expected)]);
        assert_eq!(stats(&record[..31]).count(), 0);
    }

    #[test]
    fn samplers_of_both_kinds_are_read() {
        let record = [
            15, 0, 24, 0, 1, 0, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0,
            99, 0, 0, 0,
        ];
        let expected = Sampler { exporter: 1, id: -1, algorithm: 2, packets: 1, space: 99 };
        assert_eq!(Sampler::parse(&record), Some(expected));
        let old = [9, 0, 16, 0, 0xff, 0xff, 0xff, 0xff, 100, 0, 0, 0, 2, 0, 1, 0];
        assert_eq!(Sampler::parse(&old), Some(expected));
        assert_eq!(Sampler::parse(&record[..20]), None);
    }
}
