//! A layer is one header of a frame with what it carries: layers nest as the headers do, from the link to
//! the data of the transport, through tags, extension headers and tunnels.
//!
//! This is for those who look into packets one by one. Flows are made without it, by `packet`, which knows the
//! way through a frame; here that way is followed again with a trace that keeps every header, so that
//! both find the same packet inside. Nothing is put together: a fragment is a fragment, a segment a segment
//! (`session` has the octets of a connection in their order).
//!
//! No captured octet is lost: each is in [`Layer::bytes`] of one layer, or in [`Layers::trailer`].

mod link;
mod network;
mod options;
mod text;
mod transport;
mod tunnel;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::key::{Protocol, Timestamp};
use crate::packet::network::{AUTHENTICATION, FRAGMENT};
use crate::packet::trace::{Header, Trace};
use crate::packet::{Decoder, LinkType, Packet, Undecoded};

pub use link::{
    Arp, ControlWord, Ethernet, FabricPath, Hdlc, Loopback, Mpls, Ppp, Pppoe, Radiotap, Sll, Snap,
    Vlan, Wireless,
};
pub use network::{Authentication, Extension, Fragment, Ipv4, Ipv6};
pub use options::{Blocks, Ipv4Option, Ipv4Options, TcpOption, TcpOptions};
pub use transport::{Dccp, Echo, Icmp, Sctp, Tcp, Udp, UdpLite};
pub use tunnel::{Erspan, Geneve, Gre, GtpU, Teredo, Vxlan};

/// So many layers are told of at most; the bytes of the others are one that is malformed. More than any
/// network stacks, and readers of JSON stop at 128 objects in one another.
const MOST: usize = 100;

/// A frame as layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers<'a> {
    time: Timestamp,
    wire: u32,
    outermost: Layer<'a>,
    trailer: &'a [u8],
    packet: Result<Packet, Undecoded>,
}

impl<'a> Layers<'a> {
    /// Takes a frame apart, as [`Decoder::decode`] does with tunnels: captured at this time, and so long on
    /// the wire.
    #[must_use]
    pub fn of(link_type: LinkType, time: Timestamp, frame: &'a [u8], wire: u32) -> Self {
        let mut packet = Packet::BLANK;
        let mut headers = Headers::default();
        let decoder = Decoder { tunnels: true };
        let read = decoder.follow(link_type, time, (frame, wire), &mut packet, &mut headers);
        let why = match read {
            Err(why) => Some(why),
            Ok(()) if headers.too_many => Some(Undecoded::Malformed),
            Ok(()) => headers.undecoded,
        };
        let (outermost, trailer) = nested(frame, &headers.found, why, packet.lengths.payload);
        let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        Self { time, wire: wire.max(captured), outermost, trailer, packet: read.map(|()| packet) }
    }

    /// When the frame was captured.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// How long it was on the wire, in octets.
    #[must_use]
    pub fn wire(&self) -> u32 {
        self.wire
    }

    /// The layer that all others are in.
    #[must_use]
    pub fn outermost(&self) -> &Layer<'a> {
        &self.outermost
    }

    /// All layers, from the outside in.
    pub fn layers(&self) -> impl Iterator<Item = &Layer<'a>> {
        self.outermost.layers()
    }

    /// The outermost layer of this kind; that in a tunnel is found from [`Layer::find`] of the tunnel's.
    #[must_use]
    pub fn find<T: Kind<'a>>(&self) -> Option<&T> {
        self.outermost.find()
    }

    /// The innermost layer of this kind. An IP header inside that is there, though what follows it cannot be
    /// read, is one too; [`packet`](Self::packet) is then the one around it.
    #[must_use]
    pub fn innermost<T: Kind<'a>>(&self) -> Option<&T> {
        self.layers().filter_map(|layer| T::of(&layer.fields)).last()
    }

    /// The packet that flows are made of, or why there is none.
    ///
    /// # Errors
    /// When flows are not made of this frame.
    pub fn packet(&self) -> Result<&Packet, Undecoded> {
        self.packet.as_ref().map_err(|why| *why)
    }

    /// Captured octets behind all packets: the padding of Ethernet, a check sequence.
    #[must_use]
    pub fn trailer(&self) -> &'a [u8] {
        self.trailer
    }
}

/// One layer and those inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer<'a> {
    /// What kind of layer it is, and what its header says.
    pub fields: Fields<'a>,
    /// Where in the frame it begins.
    pub at: usize,
    /// The captured octets of the header with its options; of a layer without a header all of it.
    pub bytes: &'a [u8],
    /// The captured octets that it carries, up to where it ends by its own length.
    pub payload: &'a [u8],
    inner: Option<Box<Layer<'a>>>,
}

impl<'a> Layer<'a> {
    /// The layer inside of this one.
    #[must_use]
    pub fn inner(&self) -> Option<&Self> {
        self.inner.as_deref()
    }

    /// This layer and those inside, from the outside in.
    pub fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |layer| layer.inner())
    }

    /// The first layer of this kind: this one, or one inside.
    #[must_use]
    pub fn find<T: Kind<'a>>(&self) -> Option<&T> {
        self.layers().find_map(|layer| T::of(&layer.fields))
    }
}

/// What a layer says, by its kind. Numbers are as on the wire unless said otherwise.
///
/// As JSON it is an object with the kind as `layer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is what its type is")]
pub enum Fields<'a> {
    Loopback(Loopback),
    Ethernet(Ethernet),
    Vlan(Vlan),
    Mpls(Mpls),
    ControlWord(ControlWord),
    Pppoe(Pppoe),
    Ppp(Ppp),
    Hdlc(Hdlc),
    Sll(Sll),
    /// Version 2 of that.
    Sll2(Sll),
    Radiotap(Radiotap),
    Wireless(Wireless),
    Snap(Snap),
    FabricPath(FabricPath),
    Arp(Arp),
    Ipv4(Ipv4<'a>),
    Ipv6(Ipv6),
    Extension(Extension),
    Fragment(Fragment),
    Authentication(Authentication),
    Tcp(Tcp<'a>),
    Udp(Udp),
    UdpLite(UdpLite),
    Dccp(Dccp),
    Sctp(Sctp),
    Icmp(Icmp),
    Icmpv6(Icmp),
    Gre(Gre),
    Erspan(Erspan),
    Vxlan(Vxlan),
    Geneve(Geneve<'a>),
    GtpU(GtpU),
    Teredo(Teredo),
    /// What the innermost header carries, and nothing here looks into: so many octets by that header, of
    /// which the capture may have less.
    Data {
        octets: u32,
    },
    /// What is not looked into below IP, and why: no IP, encrypted, a link type that is not known.
    Unknown {
        #[serde(serialize_with = "name")]
        reason: Undecoded,
    },
    /// Where a header should be, and cannot be read: the capture ends inside of it, or it cannot be.
    Malformed {
        #[serde(serialize_with = "name")]
        reason: Undecoded,
    },
}

fn name<S: Serializer>(reason: &Undecoded, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

/// A kind of layer that can be asked for by its type.
pub trait Kind<'a>: Sized {
    /// This layer, if it is of this kind.
    fn of<'l>(fields: &'l Fields<'a>) -> Option<&'l Self>;
}

macro_rules! kinds {
    ($($kind:ty: $($variant:ident)|+,)*) => {
        $(impl<'a> Kind<'a> for $kind {
            fn of<'l>(fields: &'l Fields<'a>) -> Option<&'l Self> {
                match fields {
                    $(Fields::$variant(of_this_kind))|+ => Some(of_this_kind),
                    _ => None,
                }
            }
        })*
    };
}

kinds! {
    Loopback: Loopback,
    Ethernet: Ethernet,
    Vlan: Vlan,
    Mpls: Mpls,
    ControlWord: ControlWord,
    Pppoe: Pppoe,
    Ppp: Ppp,
    Hdlc: Hdlc,
    Sll: Sll | Sll2,
    Radiotap: Radiotap,
    Wireless: Wireless,
    Snap: Snap,
    FabricPath: FabricPath,
    Arp: Arp,
    Ipv4<'a>: Ipv4,
    Ipv6: Ipv6,
    Extension: Extension,
    Fragment: Fragment,
    Authentication: Authentication,
    Tcp<'a>: Tcp,
    Udp: Udp,
    UdpLite: UdpLite,
    Dccp: Dccp,
    Sctp: Sctp,
    Icmp: Icmp | Icmpv6,
    Gre: Gre,
    Erspan: Erspan,
    Vxlan: Vxlan,
    Geneve<'a>: Geneve,
    GtpU: GtpU,
    Teredo: Teredo,
}

/// The headers that were found on the way through a frame.
#[derive(Default)]
struct Headers {
    found: Vec<Found>,
    too_many: bool,
    undecoded: Option<Undecoded>,
}

#[derive(Clone, Copy)]
struct Found {
    header: Header,
    start: usize,
    end: usize,
}

impl Trace for Headers {
    fn header(&mut self, header: Header, at: usize, length: usize) {
        // With room for what is behind the last one.
        if self.found.len() + 1 < MOST {
            self.found.push(Found { header, start: at, end: at.saturating_add(length) });
        } else {
            self.too_many = true;
        }
    }

    fn undecoded(&mut self, why: Undecoded) {
        self.undecoded = Some(why);
    }
}

/// The layers of a frame, each in the one before, and what is behind all of them. `why` says why there is
/// nothing more to be read behind the last header; without it there are so many octets of data.
fn nested<'a>(
    frame: &'a [u8],
    found: &[Found],
    mut why: Option<Undecoded>,
    data: u32,
) -> (Layer<'a>, &'a [u8]) {
    let mut layers = Vec::with_capacity(found.len() + 1);
    let (mut at, mut end) = (0, frame.len());
    for Found { header, start, end: header_end } in found.iter().copied() {
        let bytes = between(frame, start, header_end.min(end));
        let fields = match read(header, bytes) {
            Ok(fields) => fields,
            Err(error) => {
                // It is not all there, and what is behind it was not found there.
                why = Some(why.filter(|why| *why == Undecoded::Malformed).unwrap_or(error));
                break;
            }
        };
        let length = match header {
            Header::Ipv4(length) | Header::Ipv6(length) => length as usize,
            Header::Arp => bytes.len(),
            _ => usize::MAX,
        };
        end = end.min(start.saturating_add(length));
        at = header_end.min(end);
        layers.push(Layer {
            fields,
            at: start,
            bytes,
            payload: between(frame, at, end),
            inner: None,
        });
    }
    let last = layers.last().map(|layer| &layer.fields);
    let rest = match why {
        Some(Undecoded::NotIp) if matches!(last, Some(Fields::Arp(_))) => None,
        Some(reason @ (Undecoded::NotIp | Undecoded::Encrypted | Undecoded::LinkType)) => {
            if let Some(
                Fields::Ethernet(Ethernet { ether_type, .. })
                | Fields::Vlan(Vlan { ether_type, .. }),
            ) = last
                && *ether_type <= 1500
            {
                // IEEE 802.3 has a length there, and the rest is padding.
                end = end.min(at + usize::from(*ether_type));
            }
            Some(Fields::Unknown { reason })
        }
        Some(reason) => Some(Fields::Malformed { reason }),
        None if data > 0 => Some(Fields::Data { octets: data }),
        None => None,
    };
    let innermost = rest.map(|fields| {
        let bytes = between(frame, at, end);
        Layer { fields, at, bytes, payload: &[], inner: None }
    });
    let around = |inner: Option<Layer<'a>>, layer: Layer<'a>| {
        Some(Layer { inner: inner.map(Box::new), ..layer })
    };
    let outermost = layers.into_iter().rev().fold(innermost, around);
    let nothing = Fields::Malformed { reason: Undecoded::CapturedShort };
    let nothing = Layer { fields: nothing, at: 0, bytes: &[], payload: &[], inner: None };
    (outermost.unwrap_or(nothing), between(frame, end, frame.len()))
}

/// What of this is there.
fn between(frame: &[u8], start: usize, end: usize) -> &[u8] {
    let end = end.min(frame.len());
    frame.get(start.min(end)..end).unwrap_or_default()
}

fn read<'a>(header: Header, bytes: &'a [u8]) -> Result<Fields<'a>, Undecoded> {
    Ok(match header {
        Header::Loopback => Fields::Loopback(Loopback::read(bytes)?),
        Header::Ethernet => Fields::Ethernet(Ethernet::read(bytes)?),
        Header::Tag => Fields::Vlan(Vlan::read(bytes)?),
        Header::Label => Fields::Mpls(Mpls::read(bytes)?),
        Header::ControlWord => Fields::ControlWord(ControlWord::read(bytes)?),
        Header::Pppoe => Fields::Pppoe(Pppoe::read(bytes)?),
        Header::Ppp => Fields::Ppp(Ppp::read(bytes)?),
        Header::Hdlc => Fields::Hdlc(Hdlc::read(bytes)?),
        Header::Sll => Fields::Sll(Sll::read(bytes)?),
        Header::Sll2 => Fields::Sll2(Sll::read_version_2(bytes)?),
        Header::Radiotap => Fields::Radiotap(Radiotap::read(bytes)?),
        Header::Wireless => Fields::Wireless(Wireless::read(bytes)?),
        Header::Snap => Fields::Snap(Snap::read(bytes)?),
        Header::FabricPath => Fields::FabricPath(FabricPath::read(bytes)?),
        Header::Arp => Fields::Arp(Arp::read(bytes)?),
        Header::Ipv4(length) => Fields::Ipv4(Ipv4::read(bytes, length)?),
        Header::Ipv6(length) => Fields::Ipv6(Ipv6::read(bytes, length)?),
        Header::Extension(FRAGMENT) => Fields::Fragment(Fragment::read(bytes)?),
        Header::Extension(AUTHENTICATION) => Fields::Authentication(Authentication::read(bytes)?),
        Header::Extension(number) => Fields::Extension(Extension::read(bytes, number)?),
        Header::Transport(protocol) => match protocol {
            Protocol::TCP => Fields::Tcp(Tcp::read(bytes)?),
            Protocol::UDP => Fields::Udp(Udp::read(bytes)?),
            Protocol::UDP_LITE => Fields::UdpLite(UdpLite::read(bytes)?),
            Protocol::DCCP => Fields::Dccp(Dccp::read(bytes)?),
            Protocol::SCTP => Fields::Sctp(Sctp::read(bytes)?),
            Protocol::ICMP => Fields::Icmp(Icmp::read(bytes, [0, 8])?),
            Protocol::ICMPV6 => Fields::Icmpv6(Icmp::read(bytes, [128, 129])?),
            _ => return Err(Undecoded::Malformed),
        },
        Header::Gre => Fields::Gre(Gre::read(bytes)?),
        Header::Erspan => Fields::Erspan(Erspan::read(bytes)?),
        Header::Vxlan => Fields::Vxlan(Vxlan::read(bytes)?),
        Header::Geneve => Fields::Geneve(Geneve::read(bytes)?),
        Header::GtpU => Fields::GtpU(GtpU::read(bytes)?),
        Header::Teredo => Fields::Teredo(Teredo::read(bytes)?),
    })
}

/// Octets as JSON has them: as hexadecimal digits.
fn in_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(bytes))
}

/// Octets as hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
