//! The programs in the kernel: loaded, attached, and read from. They go when this is dropped, or when
//! the process ends, however it ends: nothing is pinned.
//!
//! Each program is loaded and attached alone. One that this kernel refuses is left out, and
//! [`Missing`] says what is lost by that.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr,
    Program, ProgramError, SockOps,
};
use aya::{Btf, Ebpf, EbpfLoader};

use procflow_binding::BootTime;

use super::record::{self, Kind, Record};
use super::{Losses, Missing, mount};
use crate::ProbeError;
use crate::source::Options;

/// Compiled from `programs/` by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs.bpf.o"));

/// How a program is attached.
#[derive(Clone, Copy)]
enum Hook {
    /// To the root of the cgroup2 hierarchy.
    CgroupSock,
    CgroupAddress,
    CgroupEgress,
    SockOps,
    /// To a tracepoint by its BTF.
    Tracepoint(&'static str),
}

/// What happens when a program cannot be used.
#[derive(Clone, Copy)]
enum Without {
    /// There is no point in going on.
    Nothing,
    /// This is lost.
    Loses(&'static str),
    /// Only wanted when one of those before it is missing.
    Spare,
}

/// Every program of `programs/`, with what it needs and what it is good for.
const PROGRAMS: [(&str, Hook, Without); 19] = [
    ("made", Hook::CgroupSock, Without::Nothing),
    ("released", Hook::CgroupSock, Without::Nothing),
    ("tcp", Hook::SockOps, Without::Nothing),
    ("state_changed", Hook::Tracepoint("inet_sock_set_state"), Without::Nothing),
    (
        "connecting_v4",
        Hook::CgroupAddress,
        Without::Loses("a connection over an inherited socket is given to whoever made the socket"),
    ),
    (
        "connecting_v6",
        Hook::CgroupAddress,
        Without::Loses("a connection over an inherited socket is given to whoever made the socket"),
    ),
    (
        "binding_v6",
        Hook::CgroupAddress,
        Without::Loses("whether a UDP socket bound to :: takes IPv4 is not known"),
    ),
    (
        "bound_v4",
        Hook::CgroupSock,
        Without::Loses("UDP sockets are not seen until they send or receive"),
    ),
    (
        "bound_v6",
        Hook::CgroupSock,
        Without::Loses("UDP sockets are not seen until they send or receive"),
    ),
    (
        "sending_v4",
        Hook::CgroupAddress,
        Without::Loses("the first datagram of a socket may seem to precede it"),
    ),
    (
        "sending_v6",
        Hook::CgroupAddress,
        Without::Loses("the first datagram of a socket may seem to precede it"),
    ),
    (
        "sent",
        Hook::Tracepoint("sock_send_length"),
        Without::Loses("UDP sockets and processes that only send over a passed socket are missed"),
    ),
    (
        "received",
        Hook::Tracepoint("sock_recv_length"),
        Without::Loses("processes that only receive over a passed socket are missed"),
    ),
    ("read_tcp", Hook::Tracepoint("tcp_rcv_space_adjust"), Without::Spare),
    ("leaving", Hook::CgroupEgress, Without::Loses("raw sockets (ping) are not seen")),
    (
        "framing",
        Hook::Tracepoint("net_dev_queue"),
        Without::Loses("who sends frames of its own (AF_PACKET: scanners, DHCP) is not seen"),
    ),
    (
        "executed",
        Hook::Tracepoint("sched_process_exec"),
        Without::Loses("of a process that exits at once only the name is known"),
    ),
    (
        "forked",
        Hook::Tracepoint("sched_process_fork"),
        Without::Loses("who started a process that exits at once is not known"),
    ),
    (
        "exited",
        Hook::Tracepoint("sched_process_exit"),
        Without::Loses("that a process ended is not known, so that nothing of it is forgotten"),
    ),
];

/// The programs, running.
pub(super) struct Kernel {
    ring: RingBuf<MapData>,
    counts: PerCpuArray<MapData, [[u64; 4]; Kind::ALL.len()]>,
    epoch: Array<MapData, u32>,
    epochs: u32,
    /// What could not be used.
    pub(super) missing: Vec<Missing>,
    /// Attached as long as this is kept.
    programs: Ebpf,
}

impl Kernel {
    /// Loads and attaches all that this kernel takes.
    pub(super) fn open(options: &Options) -> Result<Self, ProbeError> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|source| ProbeError::File { path: "/proc/self/mountinfo".into(), source })?;
        let root = mount::cgroup2_root(&mountinfo).ok_or(ProbeError::NoCgroup2)?;
        let cgroup =
            File::open(&root).map_err(|source| ProbeError::File { path: root.clone(), source })?;
        let btf =
            Btf::from_sys_fs().map_err(|error| ProbeError::NoBtf { because: chain(&error) })?;
        let mut programs = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("ring", ring_bytes(options.ring))
            .override_global("tell_arguments", &u8::from(options.arguments.is_some()), true)
            .load(OBJECT)
            .map_err(|error| refused("the programs", &error))?;

        let mut missing = Vec::new();
        for (name, hook, without) in PROGRAMS {
            if matches!(without, Without::Spare) && missing.is_empty() {
                continue;
            }
            let attached = if options.leave_out.iter().any(|out| out == name) {
                Err("left out on request".to_owned())
            } else {
                attach(&mut programs, name, hook, &btf, &cgroup)
            };
            match (attached, without) {
                (Ok(()), _) | (Err(_), Without::Spare) => {}
                (Err(because), Without::Nothing) => {
                    return Err(ProbeError::Program { name, because });
                }
                (Err(because), Without::Loses(lost)) => {
                    missing.push(Missing { program: name, because, lost });
                }
            }
        }
        let take = |programs: &mut Ebpf, name| {
            programs.take_map(name).ok_or(ProbeError::Absent("a map of the programs"))
        };
        let ring = RingBuf::try_from(take(&mut programs, "ring")?);
        let counts = PerCpuArray::try_from(take(&mut programs, "counts")?);
        let epoch = Array::try_from(take(&mut programs, ".bss")?);
        let map = |error: aya::maps::MapError| refused("a map of the programs", &error);
        Ok(Self {
            ring: ring.map_err(map)?,
            counts: counts.map_err(map)?,
            epoch: epoch.map_err(map)?,
            epochs: 0,
            missing,
            programs,
        })
    }

    /// The next event, if one is waiting. An event that cannot be understood is an error, and the next
    /// call goes on behind it.
    pub(super) fn next(&mut self) -> Option<Result<Record, record::Malformed>> {
        self.ring.next().map(|item| Record::parse(&item))
    }

    /// What was to be told since the programs were loaded, and what found no room.
    pub(super) fn losses(&self) -> Result<Losses, ProbeError> {
        let mut losses = Losses::default();
        let cpus =
            self.counts.get(&0, 0).map_err(|error| refused("the programs' counts", &error))?;
        for cpu in cpus.iter() {
            for (kind, &[attempted, lost, first, epoch]) in Kind::ALL.into_iter().zip(cpu) {
                losses.add(kind, attempted, lost);
                if lost > 0 && epoch == u64::from(self.epochs) {
                    losses.began(BootTime(first));
                }
            }
        }
        Ok(losses)
    }

    /// How often the kernel did not run a program on a tracepoint because the same one was running on
    /// that processor, interrupted (`__bpf_trace_run`, kernel/trace/bpf_trace.c). What it would have
    /// told is lost, and no count of the programs' own says so.
    pub(super) fn misses(&self) -> u64 {
        let of = |program: &Program| {
            let fd = program.fd().ok()?.as_fd().as_raw_fd();
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            misses_of(&text)
        };
        self.programs.programs().filter_map(|(_, program)| of(program)).sum()
    }

    /// Makes the programs tell again what they told before.
    pub(super) fn begin_epoch(&mut self) -> Result<(), ProbeError> {
        self.epochs = self.epochs.wrapping_add(1);
        self.epoch.set(0, self.epochs, 0).map_err(|error| refused("the programs' epoch", &error))
    }
}

/// The line `recursion_misses:` of a program's fdinfo (Linux 5.12).
fn misses_of(fdinfo: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

/// The kernel wants a power of two, of whole pages.
fn ring_bytes(wanted: usize) -> u32 {
    const MOST: u32 = 1 << 30;
    let wanted = u32::try_from(wanted).unwrap_or(MOST);
    wanted.clamp(1 << 12, MOST).next_power_of_two()
}

fn refused(what: &'static str, error: &dyn std::error::Error) -> ProbeError {
    ProbeError::Refused { what, because: chain(error) }
}

/// An error with what caused it, without the verifier's log, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = error.to_string();
        let line = line.lines().next().unwrap_or_default().to_owned();
        if !line.is_empty() && !text.contains(&line) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&line);
        }
        next = error.source();
    }
    text
}

fn attach(
    programs: &mut Ebpf,
    name: &str,
    hook: Hook,
    btf: &Btf,
    cgroup: &File,
) -> Result<(), String> {
    let program = programs.program_mut(name).ok_or("not in the object")?;
    try_attach(program, hook, btf, cgroup).map_err(|error| match &error {
        ProgramError::LoadError { io_error, verifier_log } => {
            // The verifier's last word but its statistics.
            let log = verifier_log.to_string();
            let word = log.lines().rev().find(|line| {
                !line.trim().is_empty()
                    && !line.starts_with("processed ")
                    && !line.starts_with("verification time")
                    && !line.starts_with("stack depth")
            });
            word.map_or_else(|| io_error.to_string(), |word| format!("{io_error}: {word}"))
        }
        error => chain(error),
    })
}

fn try_attach(
    program: &mut Program,
    hook: Hook,
    btf: &Btf,
    cgroup: &File,
) -> Result<(), ProgramError> {
    // "Single" because a link makes the kernel allow several by itself, and refuses the flag.
    let mode = CgroupAttachMode::Single;
    match hook {
        Hook::CgroupSock => {
            let program: &mut CgroupSock = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Hook::CgroupAddress => {
            let program: &mut CgroupSockAddr = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Hook::CgroupEgress => {
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            program.attach(cgroup, CgroupSkbAttachType::Egress, mode)?;
        }
        Hook::SockOps => {
            let program: &mut SockOps = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Hook::Tracepoint(tracepoint) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(tracepoint, btf)?;
            program.attach()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_did_not_run_is_read() {
        let fdinfo =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t3\nverified_insns:\t9\n";
        assert_eq!(misses_of(fdinfo), Some(3));
        assert_eq!(misses_of("prog_type:\t26\n"), None);
    }

    #[test]
    fn a_ring_is_a_power_of_two() {
        assert_eq!(ring_bytes(0), 4096);
        assert_eq!(ring_bytes(5000), 8192);
        assert_eq!(ring_bytes(usize::MAX), 1 << 30);
    }
}
