//! What the history takes on disk and of the processor: a million intervals, told as a tracker
//! tells them, five commits a second.
//!
//! `cargo run --release -p procflow-store --example sizes`

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use procflow_binding::{BootTime, Position};
use procflow_store::{Keep, Page, Reader, Recorder};
use world::{World, incarnation};

/// Intervals to write.
const INTERVALS: u64 = 1_000_000;
/// Intervals a second: 7,000 events.
const RATE: u64 = 3_500;
/// Sockets open at a time.
const OPEN: u64 = 2_000;
/// A new process for so many intervals.
const PER_PROCESS: u64 = 20;
const USERS: u32 = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let path = place.path().join("history.db");
    let keep = Keep { nanoseconds: u64::MAX, bytes: 1 << 30 };
    let mut recorder = Recorder::begin(&path, incarnation(1), "host", keep)?;
    let (mut world, mut events) = World::start(BootTime(1_000_000_000_000));
    let mut writing = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    let (mut open, mut pid, mut count) = (Vec::new(), 1000, 0);
    for id in 1..=INTERVALS {
        // A tracker that looks sees what happened between two looks at one time.
        if id % (RATE / 10) == 0 {
            world.now = world.now.plus(100_000_000);
        }
        if id % PER_PROCESS == 1 {
            pid += 1;
            events.push(world.process(pid, 1000 + pid % USERS));
        }
        // Tuples as they come, not in the order of the cookies.
        let tuple = world.random(1 << 40);
        events.push(world.open(tuple, pid));
        open.push(tuple);
        if open.len() as u64 > OPEN {
            let which = world.random(OPEN) as usize;
            events.push(world.close(open.swap_remove(which)));
        }
        if id % (RATE / 5) == 0 || id == INTERVALS {
            count += events.len();
            let begun = Instant::now();
            for event in events.drain(..) {
                recorder.append(&event)?;
            }
            recorder.commit(world.now)?;
            recorder.retain(world.now)?;
            writing += begun.elapsed();
            slowest = slowest.max(begun.elapsed());
        }
    }
    drop(recorder);
    let bytes = std::fs::metadata(&path)?.len();
    println!("{INTERVALS} intervals, {count} events, {bytes} bytes on disk");
    println!("{:.1} bytes an interval", bytes as f64 / INTERVALS as f64);
    let each = writing.as_secs_f64() / count as f64;
    println!("{:.2} us an event: {:.2} % of a core at 7,000 a second", each * 1e6, each * 7e5);
    println!("slowest commit of {} events: {slowest:.1?}", count as u64 * (RATE / 5) / INTERVALS);

    let reader = Reader::open(&path)?;
    let begun = Instant::now();
    let (mut position, mut read) = (Position { incarnation: incarnation(1), sequence: 0 }, 0);
    while let Some(Page::Events(events)) = reader.after(position, 0, 4 << 20)? {
        let Some(last) = events.last() else { break };
        position.sequence = last.sequence;
        read += events.len();
    }
    let each = begun.elapsed().as_secs_f64() / read as f64;
    println!("reading: {:.2} us an event, {read} events", each * 1e6);
    let begun = Instant::now();
    let moment = world::real(world.now.minus(60_000_000_000));
    let mut told = 0;
    reader.between(moment, moment, |_| {
        told += 1;
        Ok::<_, procflow_store::HistoryError>(())
    })?;
    println!("one moment: {:.1?}, {told} things told", begun.elapsed());
    Ok(())
}
