//! Where rows go: a file, under its name only when it is whole, or standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use procflow_binding::Join;
use procflow_core::features::Column;
use procflow_core::flow::{Make, Record};
use procflow_core::rows::{Format, Rows, header};

use crate::failure::Failure;
use crate::processes;

/// So many bytes of rows are written at once.
const AT_ONCE: usize = 256 << 10;

/// Makes rows of records.
pub(crate) struct AsRows<'a> {
    columns: Vec<Column>,
    format: Format,
    /// Whether anybody wants them.
    wanted: bool,
    /// Who says which process it was, if somebody does.
    join: Option<Join<'a>>,
}

impl Make for AsRows<'_> {
    type Made = Rows;

    fn make(&self, mut record: Record, made: &mut Rows) {
        if let Some(join) = &self.join {
            processes::name(join, &mut record);
        }
        if self.wanted {
            made.add(self.format, &self.columns, &record);
        }
    }
}

/// Takes rows and writes them.
pub(crate) struct Output {
    columns: Vec<Column>,
    format: Format,
    rows: Vec<u8>,
    number: u64,
    sink: Sink,
    /// So many bytes of rows are written at once.
    at_once: usize,
    /// Why writing failed; nothing more is written then.
    failed: Option<Failure>,
}

enum Sink {
    Nowhere,
    Stdout,
    File { file: File, path: PathBuf, unfinished: PathBuf },
}

impl Output {
    /// Rows of these columns; without a path they are made and go nowhere.
    pub(crate) fn begin(columns: Vec<Column>, path: Option<&Path>) -> Result<Self, Failure> {
        let (sink, format) = match path {
            None => (Sink::Nowhere, Format::Csv),
            Some(path) if path == Path::new("-") => (Sink::Stdout, Format::Csv),
            Some(path) => {
                let format = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("csv") => Format::Csv,
                    Some("jsonl") => Format::JsonLines,
                    _ => return Err(Failure::NoFormat(path.to_owned())),
                };
                let unfinished = unfinished(path);
                let file = File::create(&unfinished).map_err(|source| {
                    let path = unfinished.clone();
                    Failure::Output { path, source }
                })?;
                (Sink::File { file, path: path.to_owned(), unfinished }, format)
            }
        };
        let mut rows = Vec::with_capacity(AT_ONCE + AT_ONCE / 4);
        header(format, &columns, &mut rows);
        Ok(Self { columns, format, rows, number: 0, sink, at_once: AT_ONCE, failed: None })
    }

    /// Writes each row when it is there: somebody waits for it.
    pub(crate) fn write_at_once(&mut self) {
        self.at_once = 1;
    }

    /// What makes the rows, with the processes that this join names.
    pub(crate) fn rows<'a>(&self, join: Option<Join<'a>>) -> AsRows<'a> {
        let wanted = !matches!(self.sink, Sink::Nowhere);
        AsRows { columns: self.columns.clone(), format: self.format, wanted, join }
    }

    /// Adds one of the rows. It is over when nobody reads them, or they cannot be written; why is told at
    /// the end.
    pub(crate) fn take(&mut self, rows: &Rows, index: usize) -> ControlFlow<()> {
        rows.copy(index, self.number, &mut self.rows);
        self.number += 1;
        if self.rows.len() >= self.at_once {
            self.flush();
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            let written = match &mut self.sink {
                Sink::Nowhere => Ok(()),
                Sink::Stdout => io::stdout().lock().write_all(&self.rows).map_err(Failure::Stdout),
                Sink::File { file, unfinished, .. } => file
                    .write_all(&self.rows)
                    .map_err(|source| Failure::Output { path: unfinished.clone(), source }),
            };
            self.failed = written.err();
        }
        self.rows.clear();
    }

    /// Writes what is left, and gives a file its name.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        if let Some(failure) = self.failed.take() {
            if let Failure::Stdout(error) = &failure
                && error.kind() == io::ErrorKind::BrokenPipe
            {
                // Whoever reads has enough.
                return Ok(());
            }
            return Err(failure);
        }
        match &self.sink {
            Sink::Nowhere => Ok(()),
            Sink::Stdout => io::stdout().flush().map_err(Failure::Stdout),
            Sink::File { file, path, unfinished } => {
                let renamed = file.sync_all().and_then(|()| std::fs::rename(unfinished, path));
                renamed.map_err(|source| Failure::Output { path: path.clone(), source })
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Sink::File { unfinished, .. } = &self.sink {
            // Gone already if it has its name.
            let _ = std::fs::remove_file(unfinished);
        }
    }
}

/// What a file is called until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}
