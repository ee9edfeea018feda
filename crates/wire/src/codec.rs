//! Messages as bytes: each in a frame, a length and so many bytes of bincode.
//!
//! The only place that knows bincode. Nothing is allocated for a length that a peer merely
//! claims: frames are bounded, and bincode is told the bound too.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message of an updater, in bytes.
pub const MOST_REQUEST: usize = 4 << 10;

/// Longest message of a tracker, in bytes.
pub const MOST_REPLY: usize = 1 << 20;

/// Bytes of a frame's length: u32, little-endian.
const HEADER: usize = 4;

/// Integers of variable length, little-endian; reads at most `MOST_REPLY` bytes.
const CONFIG: Configuration<LittleEndian, Varint, Limit<MOST_REPLY>> =
    bincode::config::standard().with_limit::<MOST_REPLY>();

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any message may be.
    #[error("a message of {length} bytes, longer than the {most} allowed")]
    TooLong {
        /// As claimed.
        length: usize,
        /// As allowed.
        most: usize,
    },
    /// Not a message of this protocol.
    #[error("{length} bytes that are no message: {reason}")]
    Garbled {
        /// Length of the frame.
        length: usize,
        /// What the decoder says.
        reason: String,
    },
    /// A message and then something else.
    #[error("{0} bytes after the end of a message")]
    Trailing(usize),
}

/// A message as a frame.
///
/// # Panics
///
/// Never for this crate's messages: they have no maps, no foreign types, nothing that bincode
/// cannot write.
pub(crate) fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    let config = bincode::config::standard();
    match bincode::serde::encode_into_std_write(message, &mut frame, config) {
        Ok(body) => {
            let length = u32::try_from(body).expect("a message is shorter than 4 GiB");
            frame[..HEADER].copy_from_slice(&length.to_le_bytes());
            frame
        }
        Err(error) => unreachable!("a message that cannot be written: {error}"),
    }
}

fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    match bincode::serde::decode_from_slice(body, CONFIG) {
        Ok((message, used)) if used == body.len() => Ok(message),
        Ok((_, used)) => Err(FrameError::Trailing(body.len() - used)),
        Err(error) => Err(FrameError::Garbled { length: body.len(), reason: error.to_string() }),
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug)]
pub struct Frames {
    most: usize,
    bytes: Vec<u8>,
    /// How much of `bytes` was read already.
    read: usize,
}

impl Frames {
    /// For messages of at most `most` bytes. Holds at most one frame beyond what it is handed.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, bytes: Vec::new(), read: 0 }
    }

    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    ///
    /// When the bytes are no message; there is no way to go on then.
    pub fn pop<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let left = &self.bytes[self.read..];
        let Some((header, left)) = left.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.most {
            return Err(FrameError::TooLong { length, most: self.most });
        }
        let Some(body) = left.get(..length) else { return Ok(None) };
        let message = decode(body)?;
        self.read += HEADER + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Mode, Refusal, Reply, Request};
    use procflow_binding::{
        Address, Ancestor, BootId, BootTime, Change, Close, Coverage, Details, Event, Gap,
        GapCause, HostId, Incarnation, Namespace, NamespaceId, Open, Owners, Position, Process,
        ProcessKey, Socket, SocketId, Translation, TranslationGone,
    };
    use procflow_core::{Endpoint, FlowKey, Protocol, Timestamp};
    use std::fmt::Write;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// Golden bytes: both directions, and as `docs/wire.md` prints them.
    #[track_caller]
    fn golden<M>(message: &M, bytes: &str)
    where
        M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let frame = encode(message);
        assert_eq!(hex(&frame), bytes.replace(' ', ""));
        // The document must not drift from the code.
        let documented = |line: &str| line.replace(' ', "") == hex(&frame);
        let document = include_str!("../../../docs/wire.md");
        assert!(document.lines().any(documented), "{bytes} is not in docs/wire.md");
        let mut frames = Frames::new(MOST_REPLY);
        frames.push(&frame);
        assert_eq!(frames.pop::<M>().unwrap().as_ref(), Some(message));
        assert_eq!(frames.pop::<M>(), Ok(None));
    }

    #[test]
    fn requests_have_these_bytes() {
        let hello = Request::Hello { oldest: 1, newest: 1, program: "updater 0.1".to_owned() };
        golden(&hello, "0f000000 00 01 01 0b 7570646174657220302e31");
        golden(&Request::Follow { from: None, mode: Mode::Pull }, "03000000 01 00 00");
        let incarnation =
            Incarnation { host: HostId([0xaa; 16]), boot: BootId([0xbb; 16]), number: 3 };
        let from = Some(Position { incarnation, sequence: 300 });
        golden(
            &Request::Follow { from, mode: Mode::Subscribe },
            &format!("27000000 01 01 {} {} 03 fb2c01 01", "aa".repeat(16), "bb".repeat(16)),
        );
    }

    #[test]
    fn replies_have_these_bytes() {
        let incarnation =
            Incarnation { host: HostId([0xaa; 16]), boot: BootId([0xbb; 16]), number: 3 };
        let host_name = "web1".to_owned();
        golden(
            &Reply::Welcome { version: 1, incarnation, host_name },
            &format!("28000000 00 01 {} {} 03 04 77656231", "aa".repeat(16), "bb".repeat(16)),
        );
        let (sequence, watched_until, now) = (5, BootTime(6), BootTime(7));
        golden(&Reply::UpToDate { sequence, watched_until, now }, "04000000 05 05 06 07");
        golden(&Reply::Dropped { until: BootTime(9), through: 8 }, "03000000 02 09 08");
        golden(&Reply::Refused(Refusal::Version { oldest: 1, newest: 2 }), "04000000 01 00 01 02");
        golden(&Reply::Refused(Refusal::Ahead { asked: 9, newest: 8 }), "04000000 01 01 09 08");
        let event = Event { sequence: 1, time: BootTime(2), change: Change::Listed };
        golden(&Reply::StillTrue(vec![event.clone()]), "05000000 03 01 01 02 0b");
        golden(
            &Reply::Incarnation(Position { incarnation, sequence: 300 }),
            &format!("25000000 06 {} {} 03 fb2c01", "aa".repeat(16), "bb".repeat(16)),
        );
        golden(&Reply::Kept { through: 1, events: vec![event] }, "06000000 07 01 01 01 02 0b");
        golden(&Reply::Ended { watched_until: BootTime(6) }, "02000000 08 06");
    }

    #[test]
    fn events_have_these_bytes() {
        let key = ProcessKey { pid: 7, start: BootTime(9) };
        let event = |change| Reply::Events(vec![Event { sequence: 1, time: BootTime(2), change }]);
        // reply 4, one event, sequence 1, time 2
        let golden = |change: Change, bytes: &str| {
            let length = 4 + bytes.replace(' ', "").len() / 2;
            golden(&event(change), &format!("{length:02x}000000 04 01 01 02 {bytes}"));
        };
        let namespace = NamespaceId(5);
        golden(Change::Watch(Coverage::Polled { period: 100 }), "00 00 64");
        golden(Change::Watch(Coverage::Complete), "00 01");
        let (begin, end, cause) = (BootTime(3), BootTime(4), GapCause::EventsLost);
        golden(Change::Gap(Gap { begin, end, cause }), "01 03 04 01");
        golden(Change::Clock(Timestamp(-1)), "02 01");
        let name = Some("box".to_owned());
        golden(
            Change::Namespace(Namespace { id: namespace, inode: 6, name, initial: true }),
            "03 05 06 01 03 626f78 01",
        );
        golden(Change::NamespaceGone(namespace), "04 05");
        let v4 = Address { namespace, address: [10, 0, 0, 1].into(), prefix: 24 };
        golden(Change::Address(v4), "05 05 00 0a000001 18");
        let v6 = Address { namespace, address: std::net::Ipv6Addr::LOCALHOST.into(), prefix: 128 };
        golden(Change::AddressGone(v6), "06 05 01 00000000000000000000000000000001 80");
        golden(
            Change::Process(Process {
                key,
                comm: "sshd".into(),
                executable: None,
                uid: Some(0),
                user: Some("root".into()),
                container: None,
                unit: None,
            }),
            "07 07 09 04 73736864 00 01 00 01 04 726f6f74 00 00",
        );
        let (local, remote) = (Endpoint::new([10, 0, 0, 1], 22), Endpoint::new([10, 0, 0, 2], 99));
        let socket = Socket::connected(namespace, Protocol::TCP, local, remote);
        let (id, not_before) = (SocketId(8), BootTime(1));
        golden(
            Change::Open(Open { id, socket, owners: [key].into(), not_before }),
            "08 08 05 06 00 0a000001 16 01 00 0a000002 63 00 00 01 07 09 01",
        );
        golden(
            Change::Owners(Owners { id, owners: [key].into(), not_before }),
            "09 08 01 07 09 01",
        );
        golden(Change::Close(Close { id, last_seen: BootTime(1) }), "0a 08 01");
        golden(Change::Listed, "0b");
        let init = ProcessKey { pid: 1, start: BootTime(0) };
        golden(
            Change::Details(Details {
                process: key,
                ancestors: [Ancestor { key: init, comm: "init".into() }].into(),
                command_line: Some(vec!["nc".to_owned(), "-l".to_owned()]),
                digest: Some([0xcc; 32]),
            }),
            &format!("0c 07 09 01 01 00 04 696e6974 01 02 02 6e63 02 2d6c 01 {}", "cc".repeat(32)),
        );
        let outside = Endpoint::new([10, 0, 0, 3], 98);
        let original = FlowKey { protocol: Protocol::TCP, source: remote, destination: outside };
        let reply = FlowKey { source: local, destination: remote, ..original };
        golden(
            Change::Translation(Translation { namespace, original, reply, not_before }),
            "0d 05 06 00 0a000002 63 00 0a000003 62 06 00 0a000001 16 00 0a000002 63 01",
        );
        let last_seen = BootTime(1);
        golden(
            Change::TranslationGone(TranslationGone { namespace, original, last_seen }),
            "0e 05 06 00 0a000002 63 00 0a000003 62 01",
        );
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut frames = Frames::new(MOST_REQUEST);
        frames.push(&[0xff, 0xff, 0xff, 0x7f]);
        let (length, most) = (0x7fff_ffff, MOST_REQUEST);
        assert_eq!(frames.pop::<Request>(), Err(FrameError::TooLong { length, most }));
        // A program name that claims 2^60 bytes.
        let mut frames = Frames::new(MOST_REQUEST);
        let body = [0, 1, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0x10];
        frames.push(&(body.len() as u32).to_le_bytes());
        frames.push(&body);
        assert!(matches!(frames.pop::<Request>(), Err(FrameError::Garbled { .. })));
        // Events that claim 2^32.
        let mut frames = Frames::new(MOST_REPLY);
        frames.push(&[6, 0, 0, 0, 4, 0xfc, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(frames.pop::<Reply>(), Err(FrameError::Garbled { .. })));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut frame = encode(&Request::Follow { from: None, mode: Mode::Pull });
        frame[0] += 1;
        frame.push(0);
        let mut frames = Frames::new(MOST_REQUEST);
        frames.push(&frame);
        assert_eq!(frames.pop::<Request>(), Err(FrameError::Trailing(1)));
    }

    #[test]
    fn a_socket_that_cannot_be_is_refused() {
        // A listening socket with a peer, as in `events_have_these_bytes` but for one bit.
        let bytes =
            "1b000000 04 01 01 02 08 08 05 06 00 0a000001 16 01 00 0a000002 63 01 00 01 07 09 01";
        let bytes: Vec<u8> = bytes
            .replace(' ', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let mut frames = Frames::new(MOST_REPLY);
        frames.push(&bytes);
        let error = frames.pop::<Reply>().unwrap_err();
        assert!(error.to_string().contains("a listening socket has no peer"), "{error}");
    }

    #[test]
    fn bytes_may_come_one_by_one() {
        let mut frames = Frames::new(MOST_REQUEST);
        let message = Request::Follow { from: None, mode: Mode::Subscribe };
        let frame = encode(&message);
        for _ in 0..3 {
            for (i, &byte) in frame.iter().enumerate() {
                frames.push(&[byte]);
                let whole = i + 1 == frame.len();
                assert_eq!(frames.pop().unwrap(), whole.then(|| message.clone()));
            }
        }
    }
}
