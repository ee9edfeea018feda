//! IP headers, and those that extend them.

use etherparse::{
    IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice,
    err::{ip_auth, ipv4, ipv6},
};

use super::trace::{Header, Trace};
use super::{Address, DEPTH, Packet, Transport, Tunnel, Undecoded, Whole, bytes, transport};

/// A part of a packet that was too long for a link (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Which packet of this source, destination and protocol it is part of.
    pub identification: u32,
    /// Where in that packet it belongs, in octets; 0 in the first one, which has the transport header.
    pub offset: u32,
    /// Whether another one follows.
    pub more: bool,
}

/// Behind the header of IP come these before the transport's (RFC 8200 section 4.1, IANA's "IPv6
/// Extension Header Types").
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
pub(crate) const MOBILITY: u8 = 135;
pub(crate) const HOST_IDENTITY: u8 = 139;
pub(crate) const SHIM6: u8 = 140;

/// Opens the IP packet at `at`, into `packet`. Filled in place: a packet is several cache lines long, and
/// handing it from one to the next took as long as reading the headers.
#[inline]
pub(super) fn open(
    whole: Whole,
    frame: &[u8],
    at: usize,
    packet: &mut Packet,
    trace: &mut impl Trace,
) -> Result<(), Undecoded> {
    let from = frame.get(at..).ok_or(Undecoded::CapturedShort)?;
    match from.first().map(|first| first >> 4) {
        Some(4) => v4(whole, frame, at, from, packet, trace),
        Some(6) => v6(whole, frame, at, from, packet, trace),
        Some(_) => Err(Undecoded::Malformed),
        None => Err(Undecoded::CapturedShort),
    }
}

#[inline]
fn v4(
    whole: Whole,
    frame: &[u8],
    at: usize,
    from: &[u8],
    packet: &mut Packet,
    trace: &mut impl Trace,
) -> Result<(), Undecoded> {
    let header = Ipv4HeaderSlice::from_slice(from).map_err(|error| match error {
        ipv4::HeaderSliceError::Len(_) => Undecoded::CapturedShort,
        ipv4::HeaderSliceError::Content(_) => Undecoded::Malformed,
    })?;
    let on_wire = whole.lengths.wire.saturating_sub(index(at));
    let own = index(header.slice().len());
    let ip = match header.total_len() {
        0 => on_wire,
        total => u32::from(total),
    };
    if ip < own {
        return Err(Undecoded::Malformed);
    }
    let (offset, more) = (header.fragments_offset().value(), header.more_fragments());
    let fragment = header.is_fragmenting_payload().then(|| Fragment {
        identification: u32::from(header.identification()),
        offset: u32::from(offset) * 8,
        more,
    });
    let [_, traffic_class] = bytes(from, 0)?;
    trace.header(Header::Ipv4(ip), at, header.slice().len());
    begin(packet, whole, 4, (ip, on_wire));
    packet.source = Address::v4(header.source());
    packet.destination = Address::v4(header.destination());
    packet.traffic_class = traffic_class;
    packet.hop_limit = header.ttl();
    packet.fragment = fragment;
    let next = Next { protocol: header.protocol().0, at: at + header.slice().len() };
    // Authentication is the only one that IPv4 has (RFC 4302), and it is part of what is fragmented.
    let first = fragment.is_none_or(|fragment| fragment.offset == 0);
    let next = if next.protocol == AUTHENTICATION && first {
        authentication(frame, next, trace)?
    } else {
        next
    };
    transport::open(packet, frame, at, next, trace)
}

#[inline]
fn v6(
    whole: Whole,
    frame: &[u8],
    at: usize,
    from: &[u8],
    packet: &mut Packet,
    trace: &mut impl Trace,
) -> Result<(), Undecoded> {
    let header = Ipv6HeaderSlice::from_slice(from).map_err(|error| match error {
        ipv6::HeaderSliceError::Len(_) => Undecoded::CapturedShort,
        ipv6::HeaderSliceError::Content(_) => Undecoded::Malformed,
    })?;
    let on_wire = whole.lengths.wire.saturating_sub(index(at));
    let next = Next { protocol: header.next_header().0, at: at + 40 };
    let payload = match header.payload_length() {
        // An empty packet, one with the option for more, or one that was to be segmented.
        0 if next.protocol == 59 => 0,
        0 => on_wire.saturating_sub(40),
        some => u32::from(some),
    };
    let ip = 40 + payload;
    trace.header(Header::Ipv6(ip), at, 40);
    begin(packet, whole, 6, (ip, on_wire));
    packet.source = Address::v6(header.source());
    packet.destination = Address::v6(header.destination());
    packet.traffic_class = header.traffic_class();
    packet.hop_limit = header.hop_limit();
    let next = extensions(packet, frame, next, trace)?;
    transport::open(packet, frame, at, next, trace)
}

/// What does not come from the header. A packet is filled again and again: all of it must be said.
fn begin(packet: &mut Packet, whole: Whole, ip_version: u8, (ip, on_wire): (u32, u32)) {
    let Whole { time, lengths, link } = whole;
    packet.time = time;
    packet.lengths = lengths;
    packet.lengths.ip = ip;
    packet.lengths.truncated |= ip > on_wire;
    packet.link = link;
    packet.tunnel = Tunnel::NONE;
    packet.virtual_network = 0;
    packet.ip_version = ip_version;
    packet.fragment = None;
    (packet.source_port, packet.destination_port) = (0, 0);
    packet.transport = Transport::Other;
}

/// What comes next, and where.
#[derive(Clone, Copy)]
pub(super) struct Next {
    pub(super) protocol: u8,
    pub(super) at: usize,
}

/// Steps over the extension headers of IPv6.
fn extensions(
    packet: &mut Packet,
    frame: &[u8],
    mut next: Next,
    trace: &mut impl Trace,
) -> Result<Next, Undecoded> {
    for _ in 0..DEPTH {
        let from = frame.get(next.at..).unwrap_or_default();
        match next.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let header = Ipv6RawExtHeaderSlice::from_slice(from);
                let header = header.map_err(|_| Undecoded::CapturedShort)?;
                let length = header.slice().len();
                trace.header(Header::Extension(next.protocol), next.at, length);
                next = Next { protocol: header.next_header().0, at: next.at + length };
            }
            FRAGMENT => {
                let header = Ipv6FragmentHeaderSlice::from_slice(from);
                let header = header.map_err(|_| Undecoded::CapturedShort)?;
                trace.header(Header::Extension(FRAGMENT), next.at, header.slice().len());
                next =
                    Next { protocol: header.next_header().0, at: next.at + header.slice().len() };
                let offset = u32::from(header.fragment_offset().value()) * 8;
                // One that is all of a packet is no fragment ("atomic", RFC 6946).
                if header.is_fragmenting_payload() {
                    packet.fragment = Some(Fragment {
                        identification: header.identification(),
                        offset,
                        more: header.more_fragments(),
                    });
                }
                if offset > 0 {
                    return Ok(next);
                }
            }
            AUTHENTICATION => next = authentication(frame, next, trace)?,
            _ => return Ok(next),
        }
    }
    Err(Undecoded::Malformed)
}

fn authentication(frame: &[u8], next: Next, trace: &mut impl Trace) -> Result<Next, Undecoded> {
    let from = frame.get(next.at..).unwrap_or_default();
    let header = IpAuthHeaderSlice::from_slice(from).map_err(|error| match error {
        ip_auth::HeaderSliceError::Len(_) => Undecoded::CapturedShort,
        ip_auth::HeaderSliceError::Content(_) => Undecoded::Malformed,
    })?;
    let length = header.slice().len();
    trace.header(Header::Extension(AUTHENTICATION), next.at, length);
    Ok(Next { protocol: header.next_header().0, at: next.at + length })
}

/// A place in a frame, which is never longer than a capture file's 32 bits say.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
