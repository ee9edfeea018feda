//! How far reading files is, as a bar for whoever looks at the terminal.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use procflow_core::flow::Tally;

use crate::args::Args;

/// With how much there is in all, and without.
const BAR: &str = "{bar:30} {bytes}/{total_bytes} {msg}, {eta} to go";
const NO_BAR: &str = "{bytes} {msg}";

/// A bar on standard error; gone when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Octets read so far.
    read: Arc<AtomicU64>,
}

impl Progress {
    /// A bar, if somebody looks at it: not where rows or reports go to the same terminal. `total` is how much
    /// there is to read, where that is known.
    pub(crate) fn of(args: &Args, read: Arc<AtomicU64>, total: Option<u64>) -> Option<Self> {
        let rows = args.output == Path::new("-") && !args.no_output;
        let hidden = args.quiet || (rows && io::stdout().is_terminal());
        if hidden || !io::stderr().is_terminal() {
            return None;
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), BAR),
            None => (ProgressBar::no_length(), NO_BAR),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Some(Self { bar, read })
    }

    /// Shows how far all is.
    pub(crate) fn show(&self, tally: &Tally) {
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        let rate = HumanCount((tally.frames as f64 / seconds) as u64);
        let records = HumanCount(tally.records);
        self.bar.set_message(format!("{rate} packets/s, {records} flow records"));
        self.bar.set_position(self.read.load(Ordering::Relaxed));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
