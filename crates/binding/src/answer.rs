//! An answer as machines are told it: what every program that prints owners prints of them, under the same
//! names.

use serde::Serialize;
use smol_str::SmolStr;

use crate::attribute::{Holder, Owner};

/// Who was behind one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// [`Owner::answer`].
    pub answer: &'static str,
    /// [`Owner::why`].
    pub why: String,
    /// Who; for an ambiguous one all who fit.
    pub processes: Vec<Who>,
}

/// A process that held a socket. Text is as the process, or who started it, chose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// The host's id.
    pub host: String,
    /// The boot's id.
    pub boot: String,
    /// The network namespace in which the socket lived.
    pub namespace: u64,
    /// The process' id.
    pub pid: u32,
    /// When it started, in nanoseconds after the boot.
    pub start: u64,
    /// Its command name.
    pub comm: SmolStr,
    /// Path of its executable.
    pub executable: Option<SmolStr>,
    /// Its user's number.
    pub uid: Option<u32>,
    /// Its user's name.
    pub user: Option<SmolStr>,
    /// Its container's id.
    pub container: Option<SmolStr>,
    /// Its systemd unit.
    pub unit: Option<SmolStr>,
}

impl From<&Owner> for Answer {
    fn from(owner: &Owner) -> Self {
        let processes = owner.holders().iter().map(Who::from).collect();
        Self { answer: owner.answer(), why: owner.why(), processes }
    }
}

impl From<&Holder> for Who {
    fn from(holder: &Holder) -> Self {
        let process = &holder.process;
        Self {
            host: holder.host.to_string(),
            boot: holder.boot.to_string(),
            namespace: holder.namespace.0,
            pid: process.key.pid,
            start: process.key.start.0,
            comm: process.comm.clone(),
            executable: process.executable.clone(),
            uid: process.uid,
            user: process.user.clone(),
            container: process.container.clone(),
            unit: process.unit.clone(),
        }
    }
}
