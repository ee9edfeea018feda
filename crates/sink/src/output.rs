//! Where rows go: files, under their names only when they are whole, or standard output.

mod files;
mod parquet;
mod rotation;
mod text;
mod unfinished;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use procflow_binding::Join;
use procflow_core::Timestamp;
use procflow_core::features::Column;
use procflow_core::flow::{Make, Record};
use procflow_core::rows::{self, Rows};

use crate::failure::Failure;
use crate::processes;

use files::Files;
use parquet::Cells;
pub(crate) use rotation::Rotation;
use text::Text;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text(rows::Format),
    Parquet,
}

impl Format {
    /// The format of a file, by its name.
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Ok(Self::Text(rows::Format::Csv)),
            Some("jsonl") => Ok(Self::Text(rows::Format::JsonLines)),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Failure::NoFormat(path.to_owned())),
        }
    }
}

/// Makes rows of records.
pub(crate) struct AsRows<'a> {
    columns: Vec<Column>,
    /// None if nobody wants them.
    format: Option<Format>,
    /// Who says which process it was, if somebody does.
    join: Option<Join<'a>>,
}

/// Rows, as text or as values: one of both.
#[derive(Debug, Default)]
pub(crate) struct Made {
    text: Rows,
    cells: Cells,
    /// When the flow of each ended.
    ended: Vec<Timestamp>,
}

impl Make for AsRows<'_> {
    type Made = Made;

    fn make(&self, mut record: Record, made: &mut Made) {
        if let Some(join) = &self.join {
            processes::name(join, &mut record);
        }
        match self.format {
            Some(Format::Text(format)) => made.text.add(format, &self.columns, &record),
            Some(Format::Parquet) => made.cells.add(&self.columns, &record),
            None => {}
        }
        made.ended.push(record.ended);
    }
}

/// Takes rows and writes them.
pub(crate) struct Output {
    columns: Vec<Column>,
    format: Format,
    number: u64,
    sink: Sink,
    /// Why writing failed; nothing more is written then.
    failed: Option<Failure>,
}

enum Sink {
    Nowhere,
    Stdout(Text<io::Stdout>),
    Files(Box<Files>),
}

impl Output {
    /// Rows of these columns; without a path they are made and go nowhere.
    pub(crate) fn begin(
        columns: Vec<Column>,
        path: Option<&Path>,
        rotation: Option<Rotation>,
    ) -> Result<Self, Failure> {
        let csv = rows::Format::Csv;
        let (sink, format) = match path {
            None => (Sink::Nowhere, Format::Text(csv)),
            Some(path) if path == Path::new("-") => {
                if rotation.is_some() {
                    return Err(Failure::NothingToRotate);
                }
                let text = Text::begin(csv, &columns, io::stdout());
                (Sink::Stdout(text), Format::Text(csv))
            }
            Some(path) => {
                let format = Format::of(path)?;
                let files = Files::begin(path.to_owned(), format, columns.clone(), rotation)?;
                (Sink::Files(Box::new(files)), format)
            }
        };
        Ok(Self { columns, format, number: 0, sink, failed: None })
    }

    /// Writes each row when it is there: somebody waits for it. A Parquet file is not to be read before it
    /// is whole all the same.
    pub(crate) fn write_at_once(&mut self) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Stdout(text) => text.write_at_once(),
            Sink::Files(files) => files.write_at_once(),
        }
    }

    /// What makes the rows, with the processes that this join names.
    pub(crate) fn rows<'a>(&self, join: Option<Join<'a>>) -> AsRows<'a> {
        let format = Some(self.format).filter(|_| !matches!(self.sink, Sink::Nowhere));
        AsRows { columns: self.columns.clone(), format, join }
    }

    /// Adds one of the rows. It is over when nobody reads them, or they cannot be written; why is told at
    /// the end.
    pub(crate) fn take(&mut self, made: &Made, index: usize) -> ControlFlow<()> {
        if self.failed.is_none() {
            let added = match &mut self.sink {
                Sink::Nowhere => Ok(()),
                Sink::Stdout(text) => {
                    text.add(&made.text, index, self.number).map_err(Failure::Stdout)
                }
                Sink::Files(files) => files.add(made, index, self.number),
            };
            self.failed = added.err();
        }
        self.number += 1;
        self.go_on()
    }

    /// No row comes that ended before this moment.
    pub(crate) fn until(&mut self, moment: Timestamp) -> ControlFlow<()> {
        if self.failed.is_none()
            && let Sink::Files(files) = &mut self.sink
        {
            self.failed = files.until(moment).err();
        }
        self.go_on()
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Writes what is left, and gives a file its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let done = match (self.failed, self.sink) {
            (Some(failure), _) => Err(failure),
            (None, Sink::Nowhere) => Ok(()),
            (None, Sink::Stdout(text)) => text.finish().map(drop).map_err(Failure::Stdout),
            (None, Sink::Files(files)) => files.finish(),
        };
        match done {
            // Whoever reads has enough.
            Err(Failure::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }
}
