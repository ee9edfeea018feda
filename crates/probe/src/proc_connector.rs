//! The process events connector (linux/cn_proc.h): the kernel tells of every fork, exec and exit on
//! the host. Heard of at once, a process can be looked at before it is gone, and `/proc` need not be
//! listed whole to find out that it came.
//!
//! It takes CAP_NET_ADMIN on the host itself, and being in the initial network, pid and user
//! namespace.
//!
//! Reading the messages is apart from receiving them, as for sock_diag.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, NetlinkAddr, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use crate::ProbeError;
use crate::netlink::{HEADER, messages, u32_at};
use crate::subscription::{Received, Subscription};

const CONNECTOR: usize = 20; // struct cn_msg, whose payload follows at once
const EVENT: usize = 16; // struct proc_event up to its union
const QUESTION: usize = HEADER + CONNECTOR + 4;

/// `CN_IDX_PROC` and `CN_VAL_PROC`; the first is also the multicast group's bit.
const PROC: u32 = 1;

/// Something that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was started by a fork. (New threads of a process are not told here.)
    Fork(u32),
    /// It is another program now.
    Exec(u32),
    /// It is over: its first thread is, the others may live on.
    Exit(u32),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Event(Event),
    /// The kernel has heard question `number`; errno, or 0.
    Heard {
        number: u32,
        errno: u32,
    },
}

/// Reads a datagram; what is no process event is skipped.
fn read(datagram: &[u8], mut told: impl FnMut(Told)) {
    for message in messages(datagram).map_while(Result::ok) {
        told_by(message.body).into_iter().for_each(&mut told);
    }
}

/// What a `cn_msg` tells; nothing where it is not about processes, or too short.
fn told_by(body: &[u8]) -> Option<Told> {
    let index = (u32_at(body, 0)?, u32_at(body, 4)?);
    if index != (PROC, PROC) {
        return None;
    }
    let event = body.get(CONNECTOR..)?;
    let field = |number: usize| u32_at(event, EVENT + 4 * number);
    // Kernel and user space call different things pid: field 0 or 2 is the thread's number, the
    // one after it the process's.
    let leader = |thread: u32, process: u32| (thread == process).then_some(process);
    match u32_at(event, 0)? {
        // The kernel counts its messages in `seq`, and answers with the question's `ack` plus one.
        libc::PROC_EVENT_NONE => {
            Some(Told::Heard { number: u32_at(body, 12)?.wrapping_sub(1), errno: field(0)? })
        }
        libc::PROC_EVENT_FORK => Some(Told::Event(Event::Fork(leader(field(2)?, field(3)?)?))),
        libc::PROC_EVENT_EXEC => Some(Told::Event(Event::Exec(field(1)?))),
        libc::PROC_EVENT_EXIT => Some(Told::Event(Event::Exit(leader(field(0)?, field(1)?)?))),
        _ => None,
    }
}

/// `PROC_CN_MCAST_LISTEN` or `PROC_CN_MCAST_IGNORE`, as the kernel reads it.
fn question(operation: u32, number: u32) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &(libc::NLMSG_DONE as u16).to_ne_bytes());
    put(HEADER, &PROC.to_ne_bytes());
    put(HEADER + 4, &PROC.to_ne_bytes());
    put(HEADER + 12, &number.to_ne_bytes());
    put(HEADER + 16, &4_u16.to_ne_bytes());
    put(HEADER + CONNECTOR, &operation.to_ne_bytes());
    bytes
}

/// How much the kernel keeps while it is not read. A message takes about a kilobyte there, so that this is two
/// thousand of them: what a host that starts 6,000 processes a second tells in 100 ms.
const ROOM: usize = 1024 * 1024;

/// The most messages that are read at once.
const AT_ONCE: usize = 16_384;

/// A subscription to process events.
pub(crate) struct ProcConnector {
    subscription: Subscription,
}

impl ProcConnector {
    /// Subscribes, and makes sure that the kernel agrees.
    pub(crate) fn open() -> Result<Self, ProbeError> {
        // The kernel has a connector in the initial network namespace only, which is found out by
        // sending to it.
        let (netlink, number) = (Domain::from(libc::AF_NETLINK), libc::NETLINK_CONNECTOR);
        let socket = Socket::new(netlink, Type::DGRAM, Some(Protocol::from(number)))
            .map_err(ProbeError::call("open a connector socket"))?;
        let mut connector = Self { subscription: Subscription::join(socket.into(), PROC, ROOM)? };
        // The kernel's answer goes to all who listen, so ours is told by its number.
        let own = std::process::id();
        connector.ask(libc::PROC_CN_MCAST_LISTEN, own)?;
        // It is given while the question is sent.
        let mut answer = None;
        connector.subscription.drain(AT_ONCE, |datagram, _| {
            read(datagram, |told| match told {
                Told::Heard { number, errno } if number == own => answer = Some(errno),
                _ => {}
            });
        })?;
        let refused = ProbeError::call::<io::Error>("subscribe to process events");
        match answer {
            Some(0) => Ok(connector),
            Some(errno) => {
                let errno = i32::try_from(errno).unwrap_or(libc::EPERM);
                Err(refused(io::Error::from_raw_os_error(errno)))
            }
            None => Err(refused(io::Error::other("not in the first pid and user namespace"))),
        }
    }

    fn ask(&self, operation: u32, number: u32) -> Result<(), ProbeError> {
        sendto(
            self.subscription.socket().as_raw_fd(),
            &question(operation, number),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )
        .map_err(ProbeError::call("ask for process events"))?;
        Ok(())
    }

    /// All events that have come.
    pub(crate) fn drain(&mut self, mut event: impl FnMut(Event)) -> Result<Received, ProbeError> {
        self.subscription.drain(AT_ONCE, |datagram, _| {
            read(datagram, |told| {
                if let Told::Event(told) = told {
                    event(told);
                }
            });
        })
    }

    /// How often events were lost because they were not read in time.
    pub(crate) fn overruns(&self) -> u64 {
        self.subscription.overruns()
    }
}

impl Drop for ProcConnector {
    /// Before Linux 6.6 the kernel goes on making events for nobody otherwise.
    fn drop(&mut self) {
        let _ = self.ask(libc::PROC_CN_MCAST_IGNORE, std::process::id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::message;

    /// A datagram with one process event.
    fn datagram(what: u32, fields: &[u32]) -> Vec<u8> {
        let mut body = Vec::new();
        let length = u32::try_from(EVENT + 4 * fields.len()).unwrap();
        // struct cn_msg: index, value, sequence, ack, length (and flags).
        for number in [PROC, PROC, 3, 10, length] {
            body.extend(number.to_ne_bytes());
        }
        for number in [what, 0, 1, 0].iter().chain(fields) {
            body.extend(number.to_ne_bytes());
        }
        message(libc::NLMSG_DONE as u16, 0, 3, &body)
    }

    fn told(datagram: &[u8]) -> Vec<Told> {
        let mut all = Vec::new();
        read(datagram, |told| all.push(told));
        all
    }

    #[test]
    fn a_process_is_told_and_a_thread_is_not() {
        let fork = datagram(libc::PROC_EVENT_FORK, &[10, 10, 77, 77]);
        assert_eq!(told(&fork), [Told::Event(Event::Fork(77))]);
        assert_eq!(told(&datagram(libc::PROC_EVENT_FORK, &[10, 10, 78, 77])), []);
        // Another thread than the first may call exec; it takes the place of the first.
        let exec = datagram(libc::PROC_EVENT_EXEC, &[78, 77]);
        assert_eq!(told(&exec), [Told::Event(Event::Exec(77))]);
        let exit = datagram(libc::PROC_EVENT_EXIT, &[77, 77, 0, 17, 10, 10]);
        assert_eq!(told(&exit), [Told::Event(Event::Exit(77))]);
        assert_eq!(told(&datagram(libc::PROC_EVENT_EXIT, &[78, 77, 0, 17, 10, 10])), []);
        assert_eq!(told(&datagram(libc::PROC_EVENT_COMM, &[77, 77, 0, 0, 0, 0])), []);
    }

    #[test]
    fn an_answer_is_told_with_its_number() {
        let refused = datagram(libc::PROC_EVENT_NONE, &[1]);
        assert_eq!(told(&refused), [Told::Heard { number: 9, errno: 1 }]);
    }

    #[test]
    fn nothing_is_read_into_a_short_or_foreign_message() {
        let mut foreign = datagram(libc::PROC_EVENT_EXEC, &[78, 77]);
        foreign[HEADER] ^= 1;
        assert_eq!(told(&foreign), []);
        let whole = datagram(libc::PROC_EVENT_FORK, &[10, 10, 77, 77]);
        for cut in 0..whole.len() {
            assert_eq!(told(&whole[..cut]), []);
        }
        let body = &whole[HEADER..];
        for cut in 0..body.len() {
            assert_eq!(told(&message(libc::NLMSG_DONE as u16, 0, 3, &body[..cut])), []);
        }
    }

    #[test]
    fn a_question_is_laid_out_as_the_kernel_reads_it() {
        let bytes = question(libc::PROC_CN_MCAST_LISTEN, 5);
        assert_eq!((u32_at(&bytes, 0), bytes.len()), (Some(40), 40));
        assert_eq!(u32_at(&bytes, HEADER), Some(1));
        assert_eq!(u32_at(&bytes, HEADER + 4), Some(1));
        assert_eq!(u32_at(&bytes, HEADER + 12), Some(5));
        assert_eq!(bytes[HEADER + 16..HEADER + 18], 4_u16.to_ne_bytes());
        assert_eq!(u32_at(&bytes, 36), Some(1));
    }

    #[test]
    fn a_process_that_starts_and_ends_is_told() {
        let mut connector = match ProcConnector::open() {
            Ok(connector) => connector,
            Err(error) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "SKIPPED: no process events here: {error}");
                return;
            }
        };
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let mut events = Vec::new();
        connector.drain(|event| events.push(event)).unwrap();
        events.retain(|event| {
            let (Event::Fork(of) | Event::Exec(of) | Event::Exit(of)) = event;
            *of == pid
        });
        assert_eq!(events, [Event::Fork(pid), Event::Exec(pid), Event::Exit(pid)]);
        assert_eq!(connector.overruns(), 0);
    }
}
