//! What is said about conntrack over netlink (linux/netfilter/nfnetlink_conntrack.h): questions
//! for the table of a network namespace, the entries that come back, and the same entries
//! as events when one begins or ends. Bytes in, values out; nothing is sent or received here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use procflow_core::{Endpoint, FlowKey, Protocol, Timestamp};

use crate::netlink::{HEADER, attribute, attributes, i32_at, messages};

/// `NFNL_SUBSYS_CTNETLINK` (linux/netfilter/nfnetlink.h) in the upper byte of a message's type;
/// the lower one is `IPCTNL_MSG_CT_*`.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATS: u16 = SUBSYSTEM | 5;

/// The length of `struct nfgenmsg`: address family, version, and a number that conntrack does not
/// use. It comes before the attributes of each message.
const GENERIC: usize = 4;

// Attributes of an entry (`CTA_*`).
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const TIMESTAMP: u16 = 20;
const STATUS_MASK: u16 = 26;
/// When what an event tells happened (Linux 6.14).
const TIMESTAMP_EVENT: u16 = 27;

// Of a tuple.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

// Of `TIMESTAMP`; there when the namespace has nf_conntrack_timestamp=1.
const TIMESTAMP_START: u16 = 1;
const TIMESTAMP_STOP: u16 = 2;

/// Of `GET_STATS`: how many entries the namespace has.
const STATS_GLOBAL_ENTRIES: u16 = 1;

/// Of the status (linux/netfilter/nf_conntrack_common.h): the source or the destination of what
/// the initiator sends is translated. Set before an entry is told of, and never changed after.
const SRC_NAT: u32 = 1 << 4;
const DST_NAT: u32 = 1 << 5;
const NAT: u32 = SRC_NAT | DST_NAT;

/// SCTP (RFC 9260), DCCP (RFC 4340) and UDP-Lite (RFC 3828) have ports at the place where TCP and
/// UDP have them. (Of GRE conntrack calls the key a port.)
const WITH_PORTS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol(132), Protocol(33), Protocol(136)];

/// An entry of a conntrack table that translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the initiator sees the conversation, with its own endpoint as the source. Ports are 0
    /// for protocols without; two pings are told apart by `id` alone.
    pub(crate) original: FlowKey,
    /// As the responder sees it.
    pub(crate) reply: FlowKey,
    /// Tells entries apart, also those that have the same tuple one after the other, or in
    /// different zones. It is a hash, so not for certain; 0 if the kernel told none.
    pub(crate) id: u32,
    /// When it began, if the namespace notes that.
    pub(crate) begun: Option<Timestamp>,
    /// When it ended, or else when the kernel made the event.
    pub(crate) ended: Option<Timestamp>,
}

/// One message about conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An entry that is there: listed, or new.
    There(Entry),
    /// An entry that is not there any more.
    Gone(Entry),
    /// An entry that does not translate. Where the kernel sorts them out, none comes.
    Untranslated,
    /// So many entries are in the namespace.
    Count(u32),
    /// The dump is over; errno, or 0.
    Done(i32),
    /// The question was refused with this errno, or (0) acknowledged.
    Refused(i32),
}

/// Reads the messages in a datagram: all of them if it came by itself, else those that answer
/// question `sequence`.
pub(crate) fn read(
    datagram: &[u8],
    sequence: Option<u32>,
    mut reply: impl FnMut(Reply),
) -> Result<(), &'static str> {
    for message in messages(datagram) {
        let message = message?;
        if sequence.is_some_and(|sequence| message.sequence != sequence) {
            continue;
        }
        let attributes = || message.body.get(GENERIC..).ok_or("a conntrack message is too short");
        match message.kind {
            NEW => reply(entry(attributes()?)?.map_or(Reply::Untranslated, Reply::There)),
            DELETE => reply(entry(attributes()?)?.map_or(Reply::Untranslated, Reply::Gone)),
            GET_STATS => {
                let count = attribute(attributes()?, STATS_GLOBAL_ENTRIES)?;
                reply(Reply::Count(count.and_then(u32_of).ok_or("statistics have no count")?));
            }
            kind if i32::from(kind) == libc::NLMSG_DONE => {
                reply(Reply::Done(i32_at(message.body, 0).unwrap_or(0).saturating_neg()));
            }
            kind if i32::from(kind) == libc::NLMSG_ERROR => {
                let errno = i32_at(message.body, 0).ok_or("an error message has no number")?;
                reply(Reply::Refused(errno.saturating_neg()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the attributes of an entry; `None` for one that does not translate, or not anything
/// that a flow record could show.
fn entry(bytes: &[u8]) -> Result<Option<Entry>, &'static str> {
    let (mut original, mut reply, mut status) = (None, None, None);
    let (mut id, mut begun, mut ended, mut told) = (0, None, None, None);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        match kind {
            TUPLE_ORIG => original = tuple(value)?,
            TUPLE_REPLY => reply = tuple(value)?,
            STATUS => {
                let bits = u32_of(value).ok_or("a status is too short")?;
                if bits & NAT == 0 {
                    return Ok(None);
                }
                status = Some(bits);
            }
            ID => id = u32_of(value).ok_or("an entry's number is too short")?,
            TIMESTAMP => {
                for attribute in attributes(value) {
                    match attribute? {
                        (TIMESTAMP_START, value) => begun = time_of(value),
                        (TIMESTAMP_STOP, value) => ended = time_of(value),
                        _ => {}
                    }
                }
            }
            TIMESTAMP_EVENT => told = time_of(value),
            _ => {}
        }
    }
    let (Some(original), Some(reply)) = (original, reply) else {
        return Ok(None);
    };
    // An entry for which source and destination were chosen as they already were.
    if status.is_none() || reply == original.reversed() {
        return Ok(None);
    }
    let (begun, ended) = (begun.or(told), ended.or(told));
    Ok(Some(Entry { original, reply, id, begun, ended }))
}

/// Reads one direction of an entry; `None` for an address family that we do not know.
fn tuple(bytes: &[u8]) -> Result<Option<FlowKey>, &'static str> {
    let (mut source, mut destination) = (None::<IpAddr>, None::<IpAddr>);
    let (mut protocol, mut ports) = (None, [0; 2]);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        for part in attributes(value) {
            let (part, value) = part?;
            match (kind, part) {
                (TUPLE_IP, IP_V4_SRC) => source = v4(value),
                (TUPLE_IP, IP_V4_DST) => destination = v4(value),
                (TUPLE_IP, IP_V6_SRC) => source = v6(value),
                (TUPLE_IP, IP_V6_DST) => destination = v6(value),
                (TUPLE_PROTO, PROTO_NUM) => protocol = value.first().copied().map(Protocol),
                (TUPLE_PROTO, PROTO_SRC_PORT) => ports[0] = port(value)?,
                (TUPLE_PROTO, PROTO_DST_PORT) => ports[1] = port(value)?,
                _ => {}
            }
        }
    }
    let (Some(source), Some(destination), Some(protocol)) = (source, destination, protocol) else {
        return Ok(None);
    };
    let ports = if WITH_PORTS.contains(&protocol) { ports } else { [0; 2] };
    Ok(Some(FlowKey {
        protocol,
        source: Endpoint::new(source, ports[0]),
        destination: Endpoint::new(destination, ports[1]),
    }))
}

fn v4(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).ok().map(|bytes| Ipv4Addr::from(bytes).into())
}

fn v6(value: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

fn port(value: &[u8]) -> Result<u16, &'static str> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or("a port is too short")
}

/// Unlike the rest of netlink, netfilter has its numbers in network byte order.
fn u32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Nanoseconds of the real-time clock; 0 is none.
fn time_of(value: &[u8]) -> Option<Timestamp> {
    let nanoseconds = value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
    (nanoseconds != 0).then(|| Timestamp(i64::try_from(nanoseconds).unwrap_or(i64::MAX)))
}

/// Which of the entries that translate are asked for. The kernel compares the status under a mask,
/// and so can only answer to the one or the other; an entry that translates both comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those with a translated source.
    Source,
    /// Those with a translated destination.
    Destination,
}

/// The question for a table, or for one side of it. A kernel that does not know how to select
/// (before 5.16) answers with the whole of it.
pub(crate) fn dump(side: Option<Side>, sequence: u32) -> Vec<u8> {
    let bit = match side {
        None => 0,
        Some(Side::Source) => SRC_NAT,
        Some(Side::Destination) => DST_NAT,
    };
    let mut bytes = question(GET, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, sequence);
    for kind in [STATUS, STATUS_MASK].into_iter().filter(|_| side.is_some()) {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(bit.to_be_bytes());
    }
    finished(bytes)
}

/// The question how many entries there are. It costs the kernel nothing, a dump a walk through
/// the table of all namespaces.
pub(crate) fn count(sequence: u32) -> Vec<u8> {
    finished(question(GET_STATS, libc::NLM_F_REQUEST, sequence))
}

/// A header without its length, and a `struct nfgenmsg` for all address families.
fn question(kind: u16, flags: i32, sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(HEADER + GENERIC, 0);
    bytes
}

fn finished(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Where the attributes of a message begin, and what an event is let through for: for a filter in
/// the kernel.
pub(crate) const ATTRIBUTES_AT: u32 = (HEADER + GENERIC) as u32;
pub(crate) const STATUS_ATTRIBUTE: u32 = STATUS as u32;
pub(crate) const STATUS_WANTED: u32 = NAT;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::netlink::aligned;

    /// A message: header, `struct nfgenmsg` and attributes.
    pub(crate) fn message(kind: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = question(kind, 0, sequence);
        bytes.extend(attributes);
        finished(bytes)
    }

    /// An attribute, its payload padded.
    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    const NESTED: u16 = 1 << 15;

    /// One direction, as the kernel writes it.
    fn direction(kind: u16, addresses: [IpAddr; 2], protocol: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut ip = Vec::new();
        for (address, [v4, v6]) in
            addresses.iter().zip([[IP_V4_SRC, IP_V6_SRC], [IP_V4_DST, IP_V6_DST]])
        {
            ip.extend(match address {
                IpAddr::V4(address) => attribute(v4, &address.octets()),
                IpAddr::V6(address) => attribute(v6, &address.octets()),
            });
        }
        let mut proto = attribute(PROTO_NUM, &[protocol]);
        if ports != [0, 0] {
            proto.extend(attribute(PROTO_SRC_PORT, &ports[0].to_be_bytes()));
            proto.extend(attribute(PROTO_DST_PORT, &ports[1].to_be_bytes()));
        }
        let mut nest = attribute(TUPLE_IP | NESTED, &ip);
        nest.extend(attribute(TUPLE_PROTO | NESTED, &proto));
        attribute(kind | NESTED, &nest)
    }

    /// The attributes of an entry.
    fn translated(original: [IpAddr; 2], reply: [IpAddr; 2], protocol: u8, status: u32) -> Vec<u8> {
        let ports = if protocol == 1 { [0; 2] } else { [4000, 80] };
        let mut bytes = direction(TUPLE_ORIG, original, protocol, ports);
        bytes.extend(direction(TUPLE_REPLY, reply, protocol, [ports[1], ports[0]]));
        bytes.extend(attribute(ID, &7_u32.to_be_bytes()));
        bytes.extend(attribute(STATUS, &status.to_be_bytes()));
        bytes
    }

    /// All replies of a datagram to question 7, or what is wrong.
    fn replies(datagram: &[u8]) -> Result<Vec<Reply>, &'static str> {
        let mut replies = Vec::new();
        read(datagram, Some(7), |reply| replies.push(reply))?;
        Ok(replies)
    }

    fn key(protocol: Protocol, source: &str, destination: &str) -> FlowKey {
        let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
        FlowKey { protocol, source: end(source), destination: end(destination) }
    }

    /// What Linux 6.18 sent of a new TCP connection behind a masquerade, little-endian.
    #[rustfmt::skip]
    pub(crate) const MASQUERADED: [u8; 196] = [
        0xc4, 0, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, // CT_NEW
        2, 0, 0, 0, // AF_INET
        0x34, 0, 1, 0x80, // original, 52 bytes
        0x14, 0, 1, 0x80, 8, 0, 1, 0, 0x0a, 1, 0, 2, 8, 0, 2, 0, 0x0a, 2, 0, 2, // addresses
        0x1c, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, // TCP
        6, 0, 2, 0, 0xc6, 0xf2, 0, 0, 6, 0, 3, 0, 0, 0x50, 0, 0, // ports
        0x34, 0, 2, 0x80, // reply
        0x14, 0, 1, 0x80, 8, 0, 1, 0, 0x0a, 2, 0, 2, 8, 0, 2, 0, 0x0a, 2, 0, 1,
        0x1c, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0,
        6, 0, 2, 0, 0, 0x50, 0, 0, 6, 0, 3, 0, 0xc6, 0xf2, 0, 0,
        8, 0, 0x0c, 0, 1, 0x58, 0x54, 0x9a, // number
        8, 0, 3, 0, 0, 0, 1, 0x98, // status
        8, 0, 7, 0, 0, 0, 0, 0x78, // timeout
        0x30, 0, 4, 0x80, 0x2c, 0, 1, 0x80, 5, 0, 1, 0, 1, 0, 0, 0, 5, 0, 2, 0, 0x0a, 0, 0, 0, // TCP's state
        5, 0, 3, 0, 0, 0, 0, 0, 6, 0, 4, 0, 3, 0, 0, 0, 6, 0, 5, 0, 0, 0, 0, 0,
    ];

    #[test]
    #[cfg(target_endian = "little")]
    fn a_new_connection_behind_a_masquerade_is_read() {
        let mut replies = Vec::new();
        read(&MASQUERADED, None, |reply| replies.push(reply)).unwrap();
        let expected = Entry {
            original: key(Protocol::TCP, "10.1.0.2:50930", "10.2.0.2:80"),
            reply: key(Protocol::TCP, "10.2.0.2:80", "10.2.0.1:50930"),
            id: 0x0158_549a,
            begun: None,
            ended: None,
        };
        assert_eq!(replies, [Reply::There(expected)]);
    }

    fn v4(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn what_is_not_translated_is_left_out() {
        let plain = translated([v4(1), v4(2)], [v4(2), v4(1)], 6, 0x18a);
        assert_eq!(replies(&message(NEW, 7, &plain)), Ok(vec![Reply::Untranslated]));
        // Set to what it was.
        let same = translated([v4(1), v4(2)], [v4(2), v4(1)], 6, SRC_NAT);
        assert_eq!(replies(&message(NEW, 7, &same)), Ok(vec![Reply::Untranslated]));
    }

    #[test]
    fn both_families_and_protocols_without_ports_are_read() {
        let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        let udp = translated([v6(1), v6(2)], [v6(3), v6(1)], 17, DST_NAT);
        let icmp = translated([v4(1), v4(2)], [v4(2), v4(3)], 1, SRC_NAT);
        let mut datagram = message(DELETE, 7, &udp);
        datagram.extend(message(NEW, 7, &icmp));
        let read = replies(&datagram).unwrap();
        let [Reply::Gone(udp), Reply::There(icmp)] = read[..] else {
            panic!("{read:?}");
        };
        assert_eq!(udp.original, key(Protocol::UDP, "[fd00::1]:4000", "[fd00::2]:80"));
        assert_eq!(udp.reply, key(Protocol::UDP, "[fd00::3]:80", "[fd00::1]:4000"));
        assert_eq!(icmp.original, key(Protocol::ICMP, "10.0.0.1:0", "10.0.0.2:0"));
        assert_eq!(icmp.reply, key(Protocol::ICMP, "10.0.0.2:0", "10.0.0.3:0"));
    }

    #[test]
    fn times_are_read_where_they_are_told() {
        let mut bytes = translated([v4(1), v4(2)], [v4(2), v4(3)], 6, SRC_NAT);
        let mut times = attribute(TIMESTAMP_START, &5_u64.to_be_bytes());
        times.extend(attribute(TIMESTAMP_STOP, &6_u64.to_be_bytes()));
        bytes.extend(attribute(TIMESTAMP | NESTED, &times));
        bytes.extend(attribute(TIMESTAMP_EVENT, &7_u64.to_be_bytes()));
        let read = replies(&message(DELETE, 7, &bytes)).unwrap();
        let [Reply::Gone(entry)] = read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((entry.begun, entry.ended), (Some(Timestamp(5)), Some(Timestamp(6))));
    }

    #[test]
    fn counts_and_ends_are_read() {
        let count = attribute(STATS_GLOBAL_ENTRIES, &300_u32.to_be_bytes());
        assert_eq!(replies(&message(GET_STATS, 7, &count)), Ok(vec![Reply::Count(300)]));
        assert!(replies(&message(GET_STATS, 7, &[])).is_err());
        for (kind, expected) in
            [(libc::NLMSG_DONE, Reply::Done(1)), (libc::NLMSG_ERROR, Reply::Refused(1))]
        {
            let mut bytes = message(kind as u16, 7, &[]);
            bytes[HEADER..].copy_from_slice(&(-1_i32).to_ne_bytes());
            assert_eq!(replies(&bytes), Ok(vec![expected]));
        }
        assert_eq!(replies(&message(NEW, 6, &[])), Ok(vec![]), "of another question");
    }

    #[test]
    fn no_cut_and_no_flipped_byte_is_fatal() {
        for cut in 0..MASQUERADED.len() {
            let _ = read(&MASQUERADED[..cut], None, |_| ());
        }
        for at in 0..MASQUERADED.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = MASQUERADED;
                bad[at] ^= flip;
                let mut count = 0;
                let _ = read(&bad, None, |_| count += 1);
                assert!(count <= 1);
            }
        }
    }

    #[test]
    fn questions_are_laid_out_as_the_kernel_reads_them() {
        let bytes = dump(Some(Side::Destination), 7);
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[..4], 36_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 0x101_u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x301_u16.to_ne_bytes()); // REQUEST, ROOT and MATCH
        assert_eq!(bytes[8..12], 7_u32.to_ne_bytes());
        assert_eq!(bytes[12..20], [0; 8]);
        assert_eq!(bytes[20..24], [8_u16.to_ne_bytes(), 3_u16.to_ne_bytes()].concat());
        assert_eq!(bytes[24..28], [0, 0, 0, 0x20]);
        assert_eq!(bytes[28..32], [8_u16.to_ne_bytes(), 26_u16.to_ne_bytes()].concat());
        assert_eq!(bytes[32..36], [0, 0, 0, 0x20]);
        assert_eq!(dump(None, 7).len(), 20);
        let bytes = count(7);
        assert_eq!((bytes.len(), &bytes[4..6]), (20, &0x105_u16.to_ne_bytes()[..]));
    }
}
