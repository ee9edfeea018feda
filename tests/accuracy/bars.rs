//! The bars that the project holds itself to, in the order of their numbers; each is a scene of its
//! own, and says how it is scored where it is played.
//!
//! Everywhere: flows with their own times, a tolerance of [1 ms](crate::scene::TOLERANCE), each end
//! for itself. Right is an answer that names the process which acted, by pid *and* start time. One
//! that names another, the kernel for a process or a process for the kernel is wrong, and a single
//! wrong one fails a bar, whichever source it is. Wrong guesses that are marked as guesses (`listener`,
//! `extrapolated`) are counted apart: a source that looks every so often may take the listener's
//! process for a connection that it never saw, and says so; one that is told may not. How many must
//! be right is asked of the source that is told; of the others A3 asks it.

use crate::Trouble;
use crate::scene::Stage;
use crate::table::Line;

/// A bar.
pub struct Bar {
    pub id: &'static str,
    pub what: &'static str,
    /// What must be reached, in words.
    pub bar: &'static str,
    /// Whether it must have the machine for itself. (In the short form the others share it.)
    pub alone: bool,
    /// Whether a source is measured by it.
    pub applies: fn(&Stage) -> bool,
    pub play: fn(&Stage) -> Result<Vec<Line>, Trouble>,
}

fn always(_: &Stage) -> bool {
    true
}

/// Sources that see other namespaces.
fn everywhere(stage: &Stage) -> bool {
    stage.source != "portable"
}

/// Where nothing is demanded of a source that looks, the short form does not look either.
fn if_demanded(stage: &Stage) -> bool {
    stage.is_told() || (everywhere(stage) && !stage.short)
}

/// All of them. (A12 is the join's own, `crates/binding`.)
pub const BARS: &[Bar] = &[
    Bar {
        id: "A1",
        what: "TCP, one process for each connection, life < 1 ms, 1,000/s for 60 s",
        bar: "recall >= 99.9 %, 0 wrong",
        alone: false,
        applies: always,
        play: crate::calls::thousand_a_second,
    },
    Bar {
        id: "A2",
        what: "the same at 5,000/s for 10 s",
        bar: "recall >= 99.5 %, 0 wrong",
        alone: true,
        applies: if_demanded,
        play: crate::calls::five_thousand_a_second,
    },
    Bar {
        id: "A3",
        what: "without eBPF, 100/s: life 100 ms and 20 ms",
        bar: "recall >= 99 % and >= 60 %, 0 wrong",
        alone: false,
        applies: |stage| !stage.is_told(),
        play: crate::calls::hundred_a_second,
    },
    Bar {
        id: "A4",
        what: "UDP: with and without a peer, receive-only; IPv6; v4-mapped",
        bar: "recall >= 99.9 % each, 0 wrong",
        alone: false,
        applies: everywhere,
        play: crate::datagrams::every_kind,
    },
    Bar {
        id: "A5",
        what: "shared sockets: the owners hold the one who acts",
        bar: "recall >= 99.9 % each, 0 wrong",
        alone: false,
        applies: everywhere,
        play: crate::shared::every_way,
    },
    Bar {
        id: "A6",
        what: "one 5-tuple, two processes, a second apart",
        bar: "recall >= 99.9 %, 0 wrong",
        alone: false,
        applies: everywhere,
        play: crate::calls::tuples_again,
    },
    Bar {
        id: "A7",
        what: "pids come round again",
        bar: "pids were reused, 0 wrong",
        alone: true,
        applies: everywhere,
        play: crate::calls::pids_again,
    },
    Bar {
        id: "A8",
        what: "namespaces and address translation, seen from outside",
        bar: "recall >= 99 %, 0 wrong",
        alone: false,
        applies: everywhere,
        play: crate::translated::both_ways,
    },
    Bar {
        id: "A9",
        what: "what the kernel says by itself, while a process pings",
        bar: "labelled kernel, 0 given to a process",
        alone: false,
        applies: everywhere,
        play: crate::kernel_made::every_kind,
    },
    Bar {
        id: "A10",
        what: "losses on purpose: tracker stopped, tiny ring",
        bar: "0 wrong, in a gap a gap is said, whole again after 1 s; attempted = consumed + lost",
        alone: true,
        applies: everywhere,
        play: crate::losses::on_purpose,
    },
    Bar {
        id: "A11",
        what: "what it costs",
        bar: "<= 10 us a connection, <= 1 % of a core at 1,000/s, <= 100 bytes of memory and <= 160 of disk an interval",
        alone: true,
        applies: if_demanded,
        play: crate::costs::all,
    },
    Bar {
        id: "A13",
        what: "both ends tracked: both processes on one record",
        bar: "both on >= 99.9 % of the records, 0 wrong",
        alone: false,
        applies: everywhere,
        play: crate::both_ends::on_one_record,
    },
];
