//! A record: one event as the programs write it into the ring (`programs/event.h`), read.
//!
//! No I/O. What comes from the ring was written by our own programs, but their layout and this file
//! must agree, so every record is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::sys::stat::makedev;
use procflow_binding::{BootTime, NamespaceId, ProcessKey};
use procflow_core::{Endpoint, Protocol};
use smol_str::SmolStr;

use crate::digest::{FileVersion, Running};

/// What a record tells; `enum kind` of `event.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Connecting,
    Accepting,
    Listening,
    Bound,
    Associated,
    Acting,
    Closed,
    Forked,
    Executed,
    Exited,
}

impl Kind {
    /// All, in the order of their numbers.
    pub(super) const ALL: [Self; 10] = [
        Self::Connecting,
        Self::Accepting,
        Self::Listening,
        Self::Bound,
        Self::Associated,
        Self::Acting,
        Self::Closed,
        Self::Forked,
        Self::Executed,
        Self::Exited,
    ];

    /// Its name, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Accepting => "accepting",
            Self::Listening => "listening",
            Self::Bound => "bound",
            Self::Associated => "associated",
            Self::Acting => "acting",
            Self::Closed => "closed",
            Self::Forked => "forked",
            Self::Executed => "executed",
            Self::Exited => "exited",
        }
    }
}

/// Bytes of `struct event`.
const EVENT: usize = 104;
/// Bytes of `struct execution`.
const EXECUTION: usize = EVENT + IDENTITY + 1024 + 256;
/// Bytes between an event and a path.
const IDENTITY: usize = 32;

mod flag {
    pub(super) const HAS_OWNER: u8 = 1;
    pub(super) const V6_ONLY: u8 = 2;
    pub(super) const HAS_TUPLE: u8 = 4;
    pub(super) const TRUNCATED: u8 = 8;
    pub(super) const RAW: u8 = 16;
    pub(super) const KERNEL: u8 = 32;
    pub(super) const FRAMES: u8 = 64;
}

/// The process that a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) key: ProcessKey,
    pub(super) uid: u32,
    /// Inode of its cgroup2 directory.
    pub(super) cgroup: u64,
    pub(super) comm: Comm,
}

/// A command name as the kernel holds it: up to the first zero byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comm([u8; 16]);

impl Comm {
    pub(super) fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    pub(super) fn text(&self) -> SmolStr {
        String::from_utf8_lossy(self.bytes()).into()
    }
}

#[cfg(test)]
impl From<&str> for Comm {
    fn from(text: &str) -> Self {
        let mut comm = [0; 16];
        comm[..text.len()].copy_from_slice(text.as_bytes());
        Self(comm)
    }
}

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) namespace: NamespaceId,
    pub(super) protocol: Protocol,
    pub(super) local: Endpoint,
    /// Port 0 and the unspecified address when it has no peer.
    pub(super) remote: Endpoint,
    pub(super) takes_both: bool,
    /// One of many conversations of a raw socket.
    pub(super) raw: bool,
    /// Of a socket below the network layer (AF_PACKET), whose end is not told.
    pub(super) frames: bool,
    /// The kernel made the socket for itself.
    pub(super) kernel: bool,
}

/// One event of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time: BootTime,
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A socket has these endpoints: `kind` is one of `Connecting` to `Associated`.
    Socket { kind: Kind, cookie: u64, tuple: Tuple, owner: Option<Actor> },
    /// A process used a socket.
    Acting { cookie: u64, tuple: Option<Tuple>, actor: Actor },
    /// A socket is gone.
    Closed { cookie: u64 },
    /// A process began.
    Forked { child: Actor, parent: ProcessKey },
    /// A process became another program.
    Executed(Box<Execution>),
    /// A process ended.
    Exited { process: ProcessKey },
}

/// A process became another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Execution {
    pub(super) process: Actor,
    /// `None` when it was too long to be told.
    pub(super) executable: Option<SmolStr>,
    /// `None` unless the programs were asked for them.
    pub(super) arguments: Option<Vec<String>>,
    /// Which file the executable is.
    pub(super) runs: Running,
}

/// A record that is not laid out as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {length} bytes and kind {kind} is not one of these programs'")]
pub(super) struct Malformed {
    length: usize,
    kind: u8,
}

/// Reads the fields of a record one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

impl Record {
    /// Reads one record.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let kind = bytes.first().copied().unwrap_or(u8::MAX);
        Self::read(bytes).ok_or(Malformed { length: bytes.len(), kind })
    }

    /// What kind of record it is.
    pub(super) fn kind(&self) -> Kind {
        match self.what {
            What::Socket { kind, .. } => kind,
            What::Acting { .. } => Kind::Acting,
            What::Closed { .. } => Kind::Closed,
            What::Forked { .. } => Kind::Forked,
            What::Executed(_) => Kind::Executed,
            What::Exited { .. } => Kind::Exited,
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let kind = *Kind::ALL.get(usize::from(fields.u8()?))?;
        let flags = fields.u8()?;
        let protocol = Protocol(fields.u8()?);
        let family = fields.u8()?;
        let (local_port, remote_port) = (fields.u16()?, fields.u16()?);
        let time = BootTime(fields.u64()?);
        let actor = actor(&mut fields)?;
        let (cookie, namespace) = (fields.u64()?, fields.u64()?);
        let (local, remote) = (fields.take()?, fields.take()?);
        let is = |flag| flags & flag != 0;
        let tuple = is(flag::HAS_TUPLE).then(|| Tuple {
            namespace: NamespaceId(namespace),
            protocol,
            local: Endpoint::new(address(family, local), local_port),
            remote: Endpoint::new(address(family, remote), remote_port),
            takes_both: !is(flag::V6_ONLY),
            raw: is(flag::RAW),
            frames: is(flag::FRAMES),
            kernel: is(flag::KERNEL),
        });
        let what = match kind {
            Kind::Connecting
            | Kind::Accepting
            | Kind::Listening
            | Kind::Bound
            | Kind::Associated => {
                let owner = is(flag::HAS_OWNER).then_some(actor);
                What::Socket { kind, cookie, tuple: tuple?, owner }
            }
            Kind::Acting => What::Acting { cookie, tuple, actor },
            Kind::Closed => What::Closed { cookie },
            Kind::Forked => {
                let (pid, start) = (u32::try_from(namespace).ok()?, ticks(cookie));
                What::Forked { child: actor, parent: ProcessKey { pid, start } }
            }
            Kind::Executed => What::Executed(Box::new(execution(
                fields,
                time,
                actor,
                is(flag::TRUNCATED),
                bytes,
            )?)),
            Kind::Exited => What::Exited { process: actor.key },
        };
        Some(Self { time, what })
    }
}

fn actor(fields: &mut Fields<'_>) -> Option<Actor> {
    let (start, cgroup) = (fields.u64()?, fields.u64()?);
    let (pid, uid) = (fields.u32()?, fields.u32()?);
    let comm = Comm(fields.take()?);
    Some(Actor { key: ProcessKey { pid, start: ticks(start) }, uid, cgroup, comm })
}

/// `/proc/PID/stat` shows the start in ticks of a hundredth of a second (USER_HZ), rounded down; that
/// is how a process is known everywhere else.
fn ticks(start: u64) -> BootTime {
    const TICK: u64 = 10_000_000;
    BootTime(start / TICK * TICK)
}

/// Up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    const AF_INET: u8 = 2;
    if family == AF_INET {
        let [a, b, c, d, ..] = bytes;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from(bytes).into()
    }
}

fn execution(
    mut fields: Fields<'_>,
    at: BootTime,
    process: Actor,
    truncated: bool,
    bytes: &[u8],
) -> Option<Execution> {
    let path_length = usize::try_from(fields.u32()?).ok()?;
    let arguments_length = usize::try_from(fields.u32()?).ok()?;
    let (inode, seconds) = (fields.u64()?, fields.take().map(i64::from_ne_bytes)?);
    let (nanoseconds, device) = (fields.u32()?, fields.u32()?);
    let device = makedev(u64::from(device >> 20), u64::from(device & 0xf_ffff));
    let file = FileVersion { device, inode, changed: (seconds, nanoseconds.into()) };
    let runs = Running { file, at };
    let executable = fields.0.get(..path_length).filter(|_| !truncated).and_then(path);
    // None at all where their page was not at hand.
    let arguments = (bytes.len() > EXECUTION && arguments_length > 0).then(|| {
        let arguments =
            bytes.get(EXECUTION..).and_then(|rest| Fields(rest).bytes(arguments_length));
        let arguments = arguments.unwrap_or_default();
        let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
        arguments.split(|&byte| byte == 0).map(text).collect()
    });
    Some(Execution { process, executable, arguments, runs })
}

/// Components from the last to the first, each ended by a zero byte.
fn path(bytes: &[u8]) -> Option<SmolStr> {
    let components = bytes.strip_suffix(&[0])?;
    let mut path = String::new();
    for component in components.rsplit(|&byte| byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the programs lay it out.
    fn bytes(kind: Kind, flags: u8) -> Vec<u8> {
        let mut bytes = vec![kind as u8, flags, 6, 2];
        bytes.extend(40_000u16.to_ne_bytes());
        bytes.extend(443u16.to_ne_bytes());
        bytes.extend(1_234_567_890u64.to_ne_bytes());
        bytes.extend(987_654_321u64.to_ne_bytes());
        bytes.extend(77u64.to_ne_bytes());
        bytes.extend(4242u32.to_ne_bytes());
        bytes.extend(1000u32.to_ne_bytes());
        bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(99u64.to_ne_bytes());
        bytes.extend(5u64.to_ne_bytes());
        for address in [[10, 0, 0, 1], [192, 0, 2, 7]] {
            bytes.extend(address);
            bytes.extend([0; 12]);
        }
        assert_eq!(bytes.len(), EVENT);
        bytes
    }

    fn curl() -> Actor {
        let key = ProcessKey { pid: 4242, start: BootTime(980_000_000) };
        Actor { key, uid: 1000, cgroup: 77, comm: Comm::from("curl") }
    }

    #[test]
    fn a_connection_is_read() {
        let record = Record::parse(&bytes(Kind::Connecting, 1 | 4)).unwrap();
        let tuple = Tuple {
            namespace: NamespaceId(5),
            protocol: Protocol::TCP,
            local: Endpoint::new(Ipv4Addr::new(10, 0, 0, 1), 40_000),
            remote: Endpoint::new(Ipv4Addr::new(192, 0, 2, 7), 443),
            takes_both: true,
            raw: false,
            frames: false,
            kernel: false,
        };
        let owner = Some(curl());
        let what = What::Socket { kind: Kind::Connecting, cookie: 99, tuple, owner };
        assert_eq!(record, Record { time: BootTime(1_234_567_890), what });
    }

    #[test]
    fn an_execution_is_read() {
        let mut record = bytes(Kind::Executed, 0);
        record.extend(13u32.to_ne_bytes());
        record.extend(0u32.to_ne_bytes());
        record.extend(131_077u64.to_ne_bytes());
        record.extend(1_700_000_000i64.to_ne_bytes());
        record.extend(999u32.to_ne_bytes());
        record.extend((8u32 << 20 | 300).to_ne_bytes());
        record.extend(*b"curl\0bin\0usr\0");
        record.resize(EXECUTION, 7);
        let Ok(Record { what: What::Executed(execution), .. }) = Record::parse(&record) else {
            panic!("not an execution");
        };
        let executable = Some("/usr/bin/curl".into());
        let device = makedev(8, 300);
        let file = FileVersion { device, inode: 131_077, changed: (1_700_000_000, 999) };
        let runs = Running { file, at: BootTime(1_234_567_890) };
        assert_eq!(*execution, Execution { process: curl(), executable, arguments: None, runs });
        record.extend(*b"curl\0-s\0a b\0");
        record[EVENT + 4] = 12;
        record.resize(EXECUTION + 4096, 7);
        let Ok(Record { what: What::Executed(execution), .. }) = Record::parse(&record) else {
            panic!("not an execution");
        };
        assert_eq!(execution.arguments.unwrap(), ["curl", "-s", "a b"]);
    }

    #[test]
    fn a_path_that_was_too_long_is_not_told() {
        let mut record = bytes(Kind::Executed, 8);
        record.extend([0; 8]);
        record.resize(EXECUTION, 0);
        let Ok(Record { what: What::Executed(execution), .. }) = Record::parse(&record) else {
            panic!("not an execution");
        };
        assert_eq!(execution.executable, None);
    }

    #[test]
    fn what_is_too_short_or_unheard_of_is_refused() {
        let whole = bytes(Kind::Acting, 4);
        for length in 0..EVENT {
            assert!(Record::parse(&whole[..length]).is_err(), "{length}");
        }
        let mut unheard = whole.clone();
        unheard[0] = 10;
        assert_eq!(Record::parse(&unheard), Err(Malformed { length: EVENT, kind: 10 }));
        // A socket event without its endpoints.
        assert!(Record::parse(&bytes(Kind::Bound, 1)).is_err());
        assert!(Record::parse(&whole).is_ok());
    }
}
