//! The files that rows go to, one after another: a single one that takes the place of what has its name,
//! or several that have names of their own ([`Rotation`]).

use std::fs::File;
use std::io;
use std::path::PathBuf;

use procflow_core::Timestamp;
use procflow_core::features::Column;

use crate::error::SinkError;
use crate::nfcapd::Nfcapd;
use crate::output::{Format, Made};
use crate::parquet::Parquet;
use crate::rotation::Rotation;
use crate::text::Text;
use crate::unfinished::Unfinished;

/// Files of rows.
pub(crate) struct Files {
    path: PathBuf,
    format: Format,
    columns: Vec<Column>,
    /// Without, there is one file.
    rotation: Option<Rotation>,
    /// Whether each row is written when it is there.
    at_once: bool,
    open: Option<Open>,
    /// The begin of the latest file's time, and its number.
    latest: (i64, u32),
}

/// The file that rows go to for now.
struct Open {
    unfinished: Unfinished,
    writer: Writer,
    /// The begin of its time, if it has rows.
    begin: Option<i64>,
}

/// What writes a file.
enum Writer {
    Text(Text<File>),
    Parquet(Box<Parquet<File>>),
    Nfcapd(Box<Nfcapd>),
}

impl Files {
    /// Begins the first of them, so that what cannot be written is told at once.
    pub(crate) fn begin(
        path: PathBuf,
        format: Format,
        columns: Vec<Column>,
        rotation: Option<Rotation>,
    ) -> Result<Self, SinkError> {
        let latest = (0, 0);
        let mut files =
            Self { path, format, columns, rotation, at_once: false, open: None, latest };
        files.open = Some(files.next()?);
        Ok(files)
    }

    pub(crate) fn write_at_once(&mut self) {
        self.at_once = true;
        if let Some(Open { writer: Writer::Text(text), .. }) = &mut self.open {
            text.write_at_once();
        }
    }

    /// Adds a row with its number to the file of its time.
    pub(crate) fn add(&mut self, made: &Made, index: usize, number: u64) -> Result<(), SinkError> {
        let ended = made.ended.get(index).copied().unwrap_or_default();
        let begin = self.rotation.map_or(0, |rotation| rotation.begin(ended));
        if self.open.as_ref().is_some_and(|open| open.begin.is_some_and(|of| of != begin)) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.next()?,
        };
        open.begin = Some(begin);
        let added = open.writer.add(made, index, number);
        added.map_err(|source| failed(&open.unfinished, source))?;
        let most = self.rotation.and_then(|rotation| rotation.size).unwrap_or(u64::MAX);
        let full = open.writer.size() >= most;
        self.open = Some(open);
        if full { self.close() } else { Ok(()) }
    }

    /// No row comes that ended before this moment: a file of a time before is whole.
    pub(crate) fn until(&mut self, moment: Timestamp) -> Result<(), SinkError> {
        let begin = self.rotation.map_or(0, |rotation| rotation.begin(moment));
        let over = |open: &Open| open.begin.is_some_and(|of| of < begin);
        if self.open.as_ref().is_some_and(over) { self.close() } else { Ok(()) }
    }

    /// Gives what is there its name.
    pub(crate) fn finish(mut self) -> Result<(), SinkError> {
        self.close()
    }

    fn next(&self) -> Result<Open, SinkError> {
        let (unfinished, file) = Unfinished::beside(&self.path)?;
        let most = self.rotation.and_then(|rotation| rotation.size);
        let writer = match self.format {
            Format::Text(format) => {
                let mut text = Text::begin(format, &self.columns, file);
                if self.at_once {
                    text.write_at_once();
                }
                Ok(Writer::Text(text))
            }
            Format::Parquet => Parquet::begin(&self.columns, most, file)
                .map(|parquet| Writer::Parquet(Box::new(parquet))),
            Format::Nfcapd => Nfcapd::begin(file).map(|nfcapd| Writer::Nfcapd(Box::new(nfcapd))),
        };
        let writer = writer.map_err(|source| failed(&unfinished, source))?;
        Ok(Open { unfinished, writer, begin: None })
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let Some(Open { unfinished, writer, begin }) = self.open.take() else { return Ok(()) };
        let Some(rotation) = &self.rotation else {
            let named = writer.finish().and_then(|()| unfinished.replace(&self.path));
            return named.map_err(|source| SinkError::File { path: self.path.clone(), source });
        };
        // Without rows it goes as it came.
        let Some(begin) = begin else { return Ok(()) };
        let first = if self.latest.0 == begin { self.latest.1.saturating_add(1) } else { 1 };
        let named = writer.finish().and_then(|()| {
            unfinished.take_free(first, |number| rotation.name(&self.path, begin, number))
        });
        let path = || rotation.name(&self.path, begin, first);
        let number = named.map_err(|source| SinkError::File { path: path(), source })?;
        self.latest = (begin, number);
        Ok(())
    }
}

fn failed(unfinished: &Unfinished, source: io::Error) -> SinkError {
    SinkError::File { path: unfinished.path().to_owned(), source }
}

impl Writer {
    fn add(&mut self, made: &Made, index: usize, number: u64) -> io::Result<()> {
        match self {
            Self::Text(text) => text.add(&made.text, index, number),
            Self::Parquet(parquet) => parquet.add(&made.cells, index, number),
            Self::Nfcapd(nfcapd) => nfcapd.add(&made.flows, index),
        }
    }

    /// How large the file is so far.
    fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.size(),
            Self::Parquet(parquet) => parquet.size(),
            Self::Nfcapd(nfcapd) => nfcapd.size(),
        }
    }

    /// Writes what is left, to the disk.
    fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::Text(text) => text.finish()?,
            Self::Parquet(parquet) => parquet.finish()?,
            Self::Nfcapd(nfcapd) => nfcapd.finish()?,
        };
        file.sync_all()
    }
}
