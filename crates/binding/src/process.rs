//! A process is the operating system's: boot id + pid + start time, because pids return.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::clock::BootTime;

/// One boot of one machine: `/proc/sys/kernel/random/boot_id` (random(4)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// A process within one boot: its pid in the tracker's pid namespace, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Process id (the thread group's).
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)), brought from clock ticks to nanoseconds.
    pub start: BootTime,
}

impl ProcessKey {
    /// The owner of the sockets that the kernel made for itself (a tunnel's, a network file
    /// system's): no process. Nothing else has pid 0.
    pub const KERNEL: Self = Self { pid: 0, start: BootTime(0) };
}

/// A process among all processes of all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The boot it lived in.
    pub boot: BootId,
    /// The process within that boot.
    pub key: ProcessKey,
}

/// What is known of a process, read while it lived.
///
/// All text comes from the process itself or from whoever started it, and may hold any
/// character; whoever prints it makes it harmless for the place where it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Which process.
    pub key: ProcessKey,
    /// The group leader's command name, at most 15 bytes on Linux (`/proc/PID/comm`).
    pub comm: SmolStr,
    /// Path of the executable (`/proc/PID/exe`); `None` where it could not be read.
    pub executable: Option<SmolStr>,
    /// Real user id; `None` where the source cannot tell.
    pub uid: Option<u32>,
    /// The user's name on the tracked host, where it has one.
    pub user: Option<SmolStr>,
    /// Container id, as its cgroup path names it.
    pub container: Option<SmolStr>,
    /// systemd unit, as its cgroup path names it.
    pub unit: Option<SmolStr>,
}

/// How many versions of one process' facts, or details, are kept once they are old; a process that
/// calls exec in a loop must not fill the memory.
pub(crate) const MOST_VERSIONS: usize = 16;

/// How many ancestors of a process are told.
pub const MOST_ANCESTORS: usize = 8;

/// What else is known of a process. Apart from [`Process`], because each of these is optional, large or
/// late.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Details {
    /// Which process.
    pub process: ProcessKey,
    /// Who started it, who started that one, and so on, at most [`MOST_ANCESTORS`]; as it was when
    /// the process started or was first seen.
    pub ancestors: Arc<[Ancestor]>,
    /// Its arguments, with what might be secret blacked out; `None` unless the tracker was asked to
    /// record them.
    pub command_line: Option<Vec<String>>,
    /// SHA-256 (FIPS 180-4) of its executable; `None` unless the tracker was asked for it, and until
    /// it is computed.
    pub digest: Option<[u8; 32]>,
}

/// A process that started another, or one that did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ancestor {
    /// Which.
    pub key: ProcessKey,
    /// Its command name then.
    pub comm: SmolStr,
}

impl Details {
    /// Whether these say what `former` said, and perhaps more: a digest that was not computed yet.
    pub(crate) fn complete(&self, former: &Self) -> bool {
        let line = former.command_line.is_none() || former.command_line == self.command_line;
        let digest = former.digest.is_none() || former.digest == self.digest;
        let ancestors = former.ancestors.is_empty() || former.ancestors == self.ancestors;
        line && digest && ancestors
    }

    /// About how many bytes it takes beyond its own size.
    pub(crate) fn footprint(&self) -> usize {
        let ancestors = self.ancestors.iter().map(|one| size_of::<Ancestor>() + one.comm.len());
        let line = self.command_line.iter().flatten();
        ancestors.sum::<usize>() + line.map(|word| size_of::<String>() + word.len()).sum::<usize>()
    }
}

impl fmt::Display for BootId {
    /// As the kernel prints it: 8-4-4-4-12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl BootId {
    /// From the kernel's own writing of it; `None` when it is not 32 hexadecimal digits (hyphens
    /// aside).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|&c| c != '-')
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()?;
        let mut id = [0; 16];
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Self(id))
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} started {}", self.pid, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_reads_as_it_prints() {
        let text = "0f2b1a8c-11d2-4e0b-9a77-00c0ffee0001";
        assert_eq!(BootId::parse(&format!("{text}\n")).unwrap().to_string(), text);
        assert_eq!(BootId::parse("0f2b"), None);
        assert_eq!(BootId::parse("zz2b1a8c-11d2-4e0b-9a77-00c0ffee0001"), None);
    }
}
