//! Ordered work: pieces are taken from a source in order, worked on by several threads at a time, and
//! put into a sink in the same order, by whoever worked on them - so a piece stays in one processor's
//! caches, and there are never more pieces than workers.
//!
//! The first error in the order of the pieces is the one that is told, however they were scheduled.

use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Error;

/// Who does all that is to be done with one piece after another.
pub(crate) trait Worker<S, T> {
    /// Takes the next piece; `false` when there is none. No other worker takes one meanwhile.
    fn take(&mut self, source: &mut S) -> Result<bool, Error>;

    /// What can be done while others work on their pieces.
    fn work(&mut self) -> Result<(), Error>;

    /// Puts the piece into the sink, when it is its turn.
    fn put(&mut self, sink: &mut T) -> Result<(), Error>;
}

/// Has one worker do it all.
pub(crate) fn alone<S, T>(
    source: &mut S,
    sink: &mut T,
    worker: &mut impl Worker<S, T>,
) -> Result<(), Error> {
    while worker.take(source)? {
        worker.work()?;
        worker.put(sink)?;
    }
    Ok(())
}

/// Has some workers share it, each on a thread of its own, one of them on this.
pub(crate) fn together<S: Send, T: Send, W: Worker<S, T> + Send>(
    source: &mut S,
    sink: &mut T,
    workers: &mut [W],
) -> Result<(), Error> {
    let Some((first, others)) = workers.split_first_mut() else { return Ok(()) };
    if others.is_empty() {
        return alone(source, sink, first);
    }
    let entrance = Entrance { source, next: 0, closed: false };
    let exit = Exit { sink, turn: 0, closed: false, error: None };
    let line =
        &Line { entrance: Mutex::new(entrance), exit: Mutex::new(exit), turn: Condvar::new() };
    thread::scope(|scope| {
        let threads: Vec<_> =
            others.iter_mut().map(|worker| scope.spawn(|| line.serve(worker))).collect();
        line.serve(first);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    line.exit().error.take().map_or(Ok(()), Err)
}

struct Line<'a, S, T> {
    entrance: Mutex<Entrance<'a, S>>,
    exit: Mutex<Exit<'a, T>>,
    /// Another piece may be put.
    turn: Condvar,
}

struct Entrance<'a, S> {
    source: &'a mut S,
    /// The number of the next piece.
    next: u64,
    /// Nothing more is taken.
    closed: bool,
}

struct Exit<'a, T> {
    sink: &'a mut T,
    /// Whose turn it is.
    turn: u64,
    /// Nothing more is put.
    closed: bool,
    error: Option<Error>,
}

impl<'a, S, T> Line<'a, S, T> {
    fn exit(&self) -> MutexGuard<'_, Exit<'a, T>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until nothing is left, or it failed.
    fn serve(&self, worker: &mut impl Worker<S, T>) {
        let _closing = ClosesInPanic(self);
        loop {
            let (number, taken) = {
                let mut entrance = self.entrance.lock().unwrap_or_else(PoisonError::into_inner);
                if entrance.closed {
                    return;
                }
                // Until it is known that there may be more.
                entrance.closed = true;
                let taken = worker.take(entrance.source);
                let number = entrance.next;
                entrance.next += 1;
                entrance.closed = !matches!(taken, Ok(true));
                (number, taken)
            };
            let done = match taken {
                Ok(true) => worker.work(),
                Ok(false) => return,
                Err(error) => Err(error),
            };
            let before = |exit: &mut Exit<'_, T>| exit.turn != number && !exit.closed;
            let mut exit =
                self.turn.wait_while(self.exit(), before).unwrap_or_else(PoisonError::into_inner);
            if exit.closed {
                return;
            }
            if let Err(error) = done.and_then(|()| worker.put(exit.sink)) {
                exit.closed = true;
                exit.error = Some(error);
            }
            exit.turn += 1;
            self.turn.notify_all();
        }
    }
}

/// Others would wait for the turn of one that panicked for ever.
struct ClosesInPanic<'a, 'b, S, T>(&'a Line<'b, S, T>);

impl<S, T> Drop for ClosesInPanic<'_, '_, S, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.exit().closed = true;
            self.0.turn.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::time::Duration;

    /// Takes numbers from a list, and puts those that are not thrown out.
    #[derive(Clone, Default)]
    struct Counting {
        number: u64,
        fails_at: Option<u64>,
        panics_at: Option<u64>,
    }

    impl Worker<Vec<u64>, Vec<u64>> for Counting {
        fn take(&mut self, source: &mut Vec<u64>) -> Result<bool, Error> {
            let next = source.pop();
            self.number = next.unwrap_or(0);
            Ok(next.is_some())
        }
        fn work(&mut self) -> Result<(), Error> {
            // The earlier of two takes longer.
            thread::sleep(Duration::from_micros(self.number % 3 * 200));
            assert!(self.panics_at != Some(self.number), "as it was told");
            match self.fails_at.is_some_and(|at| at <= self.number) {
                true => Err(Error::at(self.number, ErrorKind::TrailingBytes)),
                false => Ok(()),
            }
        }
        fn put(&mut self, sink: &mut Vec<u64>) -> Result<(), Error> {
            sink.push(self.number);
            Ok(())
        }
    }

    fn run(workers: usize, like: &Counting) -> (Vec<u64>, Vec<u64>, Result<(), Error>) {
        let (mut source, mut sink) = ((0..200).rev().collect(), Vec::new());
        let mut workers = vec![like.clone(); workers];
        let result = together(&mut source, &mut sink, &mut workers);
        (source, sink, result)
    }

    #[test]
    fn what_is_taken_in_order_is_put_in_order() {
        for workers in [1, 2, 5] {
            let (left, put, result) = run(workers, &Counting::default());
            assert!(result.is_ok() && left.is_empty());
            assert_eq!(put, (0..200).collect::<Vec<_>>(), "{workers}");
        }
    }

    #[test]
    fn the_first_error_in_order_is_told_and_ends_it() {
        for workers in [1, 2, 5] {
            let failing = Counting { fails_at: Some(50), ..Counting::default() };
            let (left, put, result) = run(workers, &failing);
            assert_eq!(result.unwrap_err().offset(), 50);
            assert_eq!(put, (0..50).collect::<Vec<_>>(), "{workers}");
            assert!(left.len() >= 150 - 2 * workers, "{} left", left.len());
        }
    }

    #[test]
    fn a_panic_ends_it_for_all() {
        let panicking = Counting { panics_at: Some(20), ..Counting::default() };
        for workers in [1, 2, 5] {
            assert!(std::panic::catch_unwind(|| run(workers, &panicking)).is_err());
        }
    }
}
