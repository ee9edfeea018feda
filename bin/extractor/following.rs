//! Rows of a live capture with their processes: a record waits until everything that can be known of its
//! last packet is told, a moment mostly, and then gets its row. Rows keep the order of the records.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use procflow_core::Timestamp;
use procflow_core::flow::{Record, Settings};
use procflow_sink::{AsRows, Made, Output, is_told};

use crate::processes::Processes;
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

/// What the meter says.
pub(crate) enum Ended {
    Record(Box<Record>),
    /// All that follow ended then or later.
    Until(Timestamp),
}

/// Writes rows of records until no more come.
pub(crate) fn follow(
    records: &Receiver<Ended>,
    processes: &mut Processes,
    output: &mut Output,
    settings: &Settings,
    stop: &Stop,
) {
    let longest = settings.active.saturating_add(settings.idle).unsigned_abs();
    let keep = longest.clamp(SHORTEST, LONGEST);
    let mut waiting: VecDeque<(Ended, Instant)> = VecDeque::new();
    let (mut told, mut forgot) = (Instant::now(), Instant::now());
    let make = output.rows(None);
    let mut over = false;
    while !(over && waiting.is_empty()) {
        if waiting.len() >= WAITING || over {
            std::thread::sleep(TICK.saturating_sub(told.elapsed()));
        } else {
            match records.recv_timeout(TICK.saturating_sub(told.elapsed())) {
                Ok(ended) => waiting.push_back((ended, Instant::now())),
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
    waiting: &mut VecDeque<(Ended, Instant)>,
    processes: &Processes,
    make: &AsRows<'_>,
    output: &mut Output,
) -> bool {
    let mut join = None;
    let mut enough = false;
    while let Some((ended, since)) = waiting.pop_front() {
        let written = match ended {
            Ended::Until(until) => output.until(until),
            Ended::Record(mut record) => {
                let join = join.get_or_insert_with(|| processes.join());
                let who = join.attribute(&record.flow.flow_key(), record.flow.interval());
                if !is_told(&who) && since.elapsed() < PATIENCE {
                    waiting.push_front((Ended::Record(record), since));
                    break;
                }
                let mut made = Made::default();
                make.add(&mut record, Some(&who), &mut made);
                output.take(&made, 0)
            }
        };
        enough |= written.is_break();
    }
    enough
}
