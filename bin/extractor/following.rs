//! Rows of a live capture with their processes: a record waits until everything that can be known of its
//! last packet is told, a moment mostly, and then gets its row. Rows keep the order of the records.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use procflow_core::flow::{Make, Record, Settings};

use crate::output::{AsRows, Made, Output};
use crate::processes::{Processes, name};
use crate::stop::Stop;

/// How often what was told is taken in.
const TICK: Duration = Duration::from_millis(100);

/// So long a record waits for what is to be told; then its row says that it is not known yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many records wait at most. Then packets wait, in the kernel, and are counted there when it has no
/// room for them.
const WAITING: usize = 1 << 16;

/// How often what is past is forgotten.
const FORGETTING: Duration = Duration::from_secs(60);

/// Past is what no flow reaches back to: at least an hour, and a day where flows may last for ever, in
/// nanoseconds.
const SHORTEST: u64 = 3_600_000_000_000;
const LONGEST: u64 = 24 * SHORTEST;

/// Writes rows of records until no more come.
pub(crate) fn follow(
    records: &Receiver<Record>,
    processes: &mut Processes,
    output: &mut Output,
    settings: &Settings,
    stop: &Stop,
) {
    let longest = settings.active.saturating_add(settings.idle).unsigned_abs();
    let keep = longest.clamp(SHORTEST, LONGEST);
    let mut waiting: VecDeque<(Record, Instant)> = VecDeque::new();
    let (mut told, mut forgot) = (Instant::now(), Instant::now());
    let make = output.rows(None);
    let mut over = false;
    while !(over && waiting.is_empty()) {
        if waiting.len() >= WAITING || over {
            std::thread::sleep(TICK.saturating_sub(told.elapsed()));
        } else {
            match records.recv_timeout(TICK.saturating_sub(told.elapsed())) {
                Ok(record) => waiting.push_back((record, Instant::now())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => over = true,
            }
        }
        if told.elapsed() < TICK {
            continue;
        }
        processes.catch_up();
        told = Instant::now();
        let enough = write(&mut waiting, processes, &make, output);
        if enough {
            stop.want();
        }
        if forgot.elapsed() >= FORGETTING {
            processes.prune(keep);
            forgot = Instant::now();
        }
    }
}

/// Writes those that need not wait any longer; whether nobody wants more.
fn write(
    waiting: &mut VecDeque<(Record, Instant)>,
    processes: &Processes,
    make: &AsRows<'_>,
    output: &mut Output,
) -> bool {
    if waiting.is_empty() {
        return false;
    }
    let join = processes.join();
    let mut enough = false;
    while let Some((mut record, since)) = waiting.pop_front() {
        if !name(&join, &mut record) && since.elapsed() < PATIENCE {
            waiting.push_front((record, since));
            break;
        }
        let mut made = Made::default();
        make.make(record, &mut made);
        enough |= output.take(&made, 0).is_break();
    }
    enough
}
