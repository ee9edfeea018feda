//! Rows as text, CSV or JSON lines, on their way to where they go.

use std::io::{self, Write};

use procflow_core::features::Column;
use procflow_core::rows::{Format, Rows, header};

/// So many bytes of rows are written at once.
const AT_ONCE: usize = 256 << 10;

/// Rows that are written some at a time.
pub(crate) struct Text<W> {
    rows: Vec<u8>,
    /// So many bytes of rows are written at once.
    at_once: usize,
    /// How many were.
    written: u64,
    out: W,
}

impl<W: Write> Text<W> {
    /// Rows of these columns, their names in front if the format has that.
    pub(crate) fn begin(format: Format, columns: &[Column], out: W) -> Self {
        let mut rows = Vec::with_capacity(AT_ONCE + AT_ONCE / 4);
        header(format, columns, &mut rows);
        Self { rows, at_once: AT_ONCE, written: 0, out }
    }

    /// Writes each row when it is there.
    pub(crate) fn write_at_once(&mut self) {
        self.at_once = 1;
    }

    /// Adds a row, with its number.
    pub(crate) fn add(&mut self, rows: &Rows, index: usize, number: u64) -> io::Result<()> {
        rows.copy(index, number, &mut self.rows);
        if self.rows.len() >= self.at_once { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.rows)?;
        self.written += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }

    /// How many bytes there are so far.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.rows.len() as u64
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }
}
