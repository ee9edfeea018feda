//! Where rows go: a file, under its name only when it is whole, or standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use procflow_core::features::Column;
use procflow_core::flow::Record;
use procflow_core::rows::{Format, header, row};

use crate::failure::Failure;

/// So many bytes of rows are written at once.
const AT_ONCE: usize = 256 << 10;

/// Takes records and writes them as rows.
pub(crate) struct Output {
    columns: Vec<Column>,
    format: Format,
    rows: Vec<u8>,
    number: u64,
    sink: Sink,
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
        Ok(Self { columns, format, rows, number: 0, sink, failed: None })
    }

    /// Adds the row of a record. Whether it could be written is told at the end.
    pub(crate) fn take(&mut self, record: &Record) {
        row(self.format, &self.columns, record, self.number, &mut self.rows);
        self.number += 1;
        if self.rows.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// Whether nobody reads what is written, or it cannot be.
    pub(crate) fn failed(&self) -> bool {
        self.failed.is_some()
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
