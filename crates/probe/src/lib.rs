//! What the kernel says about sockets, their processes, network namespaces, addresses and their
//! translation - as dated changes.
//!
//! It keeps no history, attributes no flow, writes no file and never sleeps: the caller decides
//! when to look. A [`Source`] is asked again and again for what happened since it was last asked; [`Watch`] does
//! so, and tells the gaps.
//! Three can be opened. The eBPF source is told of every socket by programs in the kernel. The next
//! best looks, so that of what lives and dies between two looks the owner is not seen: sock_diag(7)
//! joined with `/proc/PID/fd`, over all network namespaces that can be entered, and oftener while
//! the kernel tells that processes start and sockets end. For systems without sock_diag there is
//! the `netstat2` crate.
//!
//! Command lines and digests of executables are told when asked for. A command line passes redacted
//! or not at all; a digest is of what was executed, or is missing.
//!
//! **Not seen by looking**: raw, packet, SCTP, DCCP and UDP-Lite sockets; TCP connections whose
//! handshake is not finished (their listener answers for them); namespaces that no process has
//! as its own and that no file under `/run/netns` or `/run/docker/netns` names (one that only a
//! thread or a descriptor holds); sockets of a process outside the own pid namespace show no
//! owner. **Not seen as translated**: what does not go through conntrack (IPVS without it, BPF
//! programs that translate by themselves, hardware), and conversations that two conntrack zones
//! of one namespace translate differently.

#![deny(unsafe_code)]

mod account;
mod address;
mod clock;
mod error;
mod host;
mod pace;
mod polled;
mod portable;
mod process;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod redact;
mod source;
mod watch;

#[cfg(target_os = "linux")]
mod capability;
#[cfg(target_os = "linux")]
mod conntrack;
#[cfg(target_os = "linux")]
mod destroy;
#[cfg(target_os = "linux")]
mod detailed;
#[cfg(target_os = "linux")]
mod digest;
#[cfg(have_bpf)]
mod ebpf;
#[cfg(target_os = "linux")]
mod kept;
#[cfg(target_os = "linux")]
mod look;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod netns_cookie;
#[cfg(target_os = "linux")]
mod nsid;
#[cfg(target_os = "linux")]
mod proc_connector;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod recent;
#[cfg(target_os = "linux")]
mod route;
#[cfg(target_os = "linux")]
mod sock_diag;
#[cfg(target_os = "linux")]
mod subscription;

pub use clock::now;
pub use error::ProbeError;
pub use host::{boot_id, hostname};
pub use redact::{BadPattern, Pattern, Redaction};
#[cfg(target_os = "linux")]
pub use route::default_interface;
pub use source::{Batch, Choice, Count, Options, Shortfall, Source, open};
pub use watch::{Heard, Watch};
