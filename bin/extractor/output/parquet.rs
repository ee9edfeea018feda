//! Rows as a Parquet file (parquet.apache.org, file format version 1 of pages): a typed column for each
//! of ours, any of them may be null, compressed with Zstandard.
//!
//! Values are taken out of records in any thread and wait here by columns until they are a row group; so
//! memory is bounded by that, and by what the footer says of each (some hundred bytes a column). Which rows
//! are a group depends on the rows only. Nothing of a file can be read before it is whole.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{
    Compression, ConvertedType, LogicalType, Repetition, Type as Physical, ZstdLevel,
};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use procflow_core::features::{Column, Kind, Value};
use procflow_core::flow::Record;
use procflow_core::rows::plain_text;
use serde_json::json;

/// Values of so many bytes are a row group: a few ten thousand rows, enough that a column compresses well.
const ROW_GROUP: usize = 64 << 20;

/// What a value takes at least, with its levels.
const LEAST: usize = 12;

/// Values of records, row by row, where the numbers of the rows are not known yet.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    cells: Vec<Cell>,
    texts: Vec<u8>,
    numbers: Vec<u64>,
}

/// One value; of texts and lists where they are.
#[derive(Clone, Copy, Debug)]
enum Cell {
    Null,
    Row,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Boolean(bool),
    Text(usize, usize),
    Numbers(usize, usize),
}

impl Cells {
    /// Adds the values of a record.
    pub(crate) fn add(&mut self, columns: &[Column], record: &Record) {
        let Self { cells, texts, numbers } = self;
        cells.extend(columns.iter().map(|column| match (column.value)(record) {
            Value::Null => Cell::Null,
            Value::Row => Cell::Row,
            Value::Unsigned(value) => Cell::Unsigned(value),
            Value::Signed(value) => Cell::Signed(value),
            Value::Float(value) => Cell::Float(value),
            Value::Boolean(value) => Cell::Boolean(value),
            Value::List(list) => {
                let start = numbers.len();
                numbers.extend(list.iter());
                Cell::Numbers(start, numbers.len())
            }
            text @ (Value::Text(_) | Value::Address(_) | Value::Hex(_)) => {
                let start = texts.len();
                plain_text(&text, texts);
                Cell::Text(start, texts.len())
            }
        }));
    }

    /// The values of a row that has so many.
    fn row(&self, index: usize, width: usize) -> &[Cell] {
        let start = index.saturating_mul(width);
        self.cells.get(start..start.saturating_add(width)).unwrap_or_default()
    }
}

/// A Parquet file that is being written.
pub(crate) struct Parquet<W: Write + Send> {
    file: SerializedFileWriter<W>,
    waiting: Vec<Waiting>,
    /// Bytes of the values that wait.
    size: usize,
    /// So many of them are a row group.
    row_group: usize,
}

/// The values of a column that are no row group yet.
struct Waiting {
    values: Values,
    /// Of each row, or of each number of a list, how much of it is there (the format's definition level).
    defined: Vec<i16>,
}

enum Values {
    Whole(Vec<i64>),
    Float(Vec<f64>),
    Boolean(Vec<bool>),
    /// All texts, and where each ends.
    Text(Vec<u8>, Vec<usize>),
    /// All numbers, and of each whether it goes on with a list (the format's repetition level).
    Numbers(Vec<i64>, Vec<i16>),
}

impl<W: Write + Send> Parquet<W> {
    /// A file of these columns. If it is to have so many bytes at most, its row groups are that small.
    pub(crate) fn begin(columns: &[Column], most: Option<u64>, out: W) -> io::Result<Self> {
        let fields = columns.iter().map(|column| field(column).map(Arc::new));
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let schema = Type::group_type_builder("flows").with_fields(fields).build();
        let about = columns.iter().map(|Column { name, unit, definition, .. }| {
            json!({ "name": name, "unit": unit, "definition": definition })
        });
        let about: serde_json::Value = about.collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "procflow.columns".to_owned(),
                about.to_string(),
            )]))
            .build();
        let file =
            SerializedFileWriter::new(out, Arc::new(schema.map_err(failed)?), properties.into());
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(ROW_GROUP);
        let row_group = most.clamp(LEAST, ROW_GROUP);
        let waiting = columns.iter().map(|column| Waiting::of(column.kind)).collect();
        Ok(Self { file: file.map_err(failed)?, waiting, size: 0, row_group })
    }

    /// Adds a row, with its number.
    pub(crate) fn add(&mut self, cells: &Cells, index: usize, number: u64) -> io::Result<()> {
        let row = cells.row(index, self.waiting.len());
        for (waiting, &cell) in self.waiting.iter_mut().zip(row) {
            let cell = if let Cell::Row = cell { Cell::Unsigned(number) } else { cell };
            self.size += waiting.add(cell, cells);
        }
        if self.size >= self.row_group { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(failed)?;
        for waiting in &mut self.waiting {
            if let Some(column) = group.next_column().map_err(failed)? {
                waiting.write(column).map_err(failed)?;
            }
        }
        group.close().map_err(failed)?;
        self.size = 0;
        Ok(())
    }

    /// How many bytes were written so far.
    pub(crate) fn size(&self) -> u64 {
        self.file.bytes_written() as u64
    }

    /// Writes what is left, and the footer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if self.size > 0 {
            self.write_group()?;
        }
        self.file.into_inner().map_err(failed)
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

/// A column in the file's schema. Lists have the three levels of the format's "LogicalTypes", LIST.
fn field(column: &Column) -> Result<Type, ParquetError> {
    let plain = |physical| Type::primitive_type_builder(column.name, physical);
    let unsigned = Some(LogicalType::integer(64, false));
    match column.kind {
        Kind::Unsigned => plain(Physical::INT64).with_logical_type(unsigned),
        Kind::Signed => plain(Physical::INT64),
        Kind::Float => plain(Physical::DOUBLE),
        Kind::Text => plain(Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String)),
        Kind::Boolean => plain(Physical::BOOLEAN),
        Kind::Numbers => {
            let element = Type::primitive_type_builder("element", Physical::INT64)
                .with_logical_type(unsigned)
                .with_repetition(Repetition::REQUIRED)
                .build()?;
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![Arc::new(element)])
                .build()?;
            return Type::group_type_builder(column.name)
                .with_repetition(Repetition::OPTIONAL)
                .with_converted_type(ConvertedType::LIST)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list)])
                .build();
        }
    }
    .with_repetition(Repetition::OPTIONAL)
    .build()
}

impl Waiting {
    fn of(kind: Kind) -> Self {
        let values = match kind {
            Kind::Unsigned | Kind::Signed => Values::Whole(Vec::new()),
            Kind::Float => Values::Float(Vec::new()),
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Text => Values::Text(Vec::new(), Vec::new()),
            Kind::Numbers => Values::Numbers(Vec::new(), Vec::new()),
        };
        Self { values, defined: Vec::new() }
    }

    /// Adds a value; gives about how many bytes it takes. What is not of the column's kind is null.
    fn add(&mut self, cell: Cell, cells: &Cells) -> usize {
        let mut size = LEAST;
        let there = match (&mut self.values, cell) {
            // The format keeps unsigned numbers in the signed ones' bits.
            (Values::Whole(values), Cell::Unsigned(value)) => {
                values.push(value.cast_signed());
                true
            }
            (Values::Whole(values), Cell::Signed(value)) => {
                values.push(value);
                true
            }
            (Values::Float(values), Cell::Float(value)) => {
                values.push(value);
                true
            }
            (Values::Float(values), Cell::Unsigned(value)) => {
                values.push(value as f64);
                true
            }
            (Values::Boolean(values), Cell::Boolean(value)) => {
                values.push(value);
                true
            }
            (Values::Text(texts, ends), Cell::Text(start, end)) => {
                texts.extend_from_slice(cells.texts.get(start..end).unwrap_or_default());
                ends.push(texts.len());
                size += 40 + (end - start);
                true
            }
            (Values::Numbers(values, goes_on), cell) => {
                let numbers = match cell {
                    Cell::Numbers(start, end) => cells.numbers.get(start..end),
                    _ => None,
                };
                size += LEAST * numbers.map_or(0, <[u64]>::len);
                // 0 is no list, 1 one without numbers, 2 a number of one.
                match numbers {
                    None | Some([]) => {
                        goes_on.push(0);
                        self.defined.push(numbers.is_some().into());
                    }
                    Some(numbers) => {
                        for (index, number) in numbers.iter().enumerate() {
                            values.push(number.cast_signed());
                            goes_on.push((index > 0).into());
                            self.defined.push(2);
                        }
                    }
                }
                return size;
            }
            _ => false,
        };
        self.defined.push(there.into());
        size
    }

    /// Writes what waits, as this column of a row group.
    fn write(&mut self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let defined = Some(&self.defined[..]);
        match &mut self.values {
            Values::Whole(values) => {
                column.typed::<Int64Type>().write_batch(values, defined, None)?;
                values.clear();
            }
            Values::Float(values) => {
                column.typed::<DoubleType>().write_batch(values, defined, None)?;
                values.clear();
            }
            Values::Boolean(values) => {
                column.typed::<BoolType>().write_batch(values, defined, None)?;
                values.clear();
            }
            Values::Text(texts, ends) => {
                let all = ByteArray::from(std::mem::take(texts));
                let mut start = 0;
                let one = |end| {
                    let text = all.slice(start, end - start);
                    start = end;
                    text
                };
                let texts: Vec<ByteArray> = ends.drain(..).map(one).collect();
                column.typed::<ByteArrayType>().write_batch(&texts, defined, None)?;
            }
            Values::Numbers(values, goes_on) => {
                let goes_on_levels = Some(&goes_on[..]);
                column.typed::<Int64Type>().write_batch(values, defined, goes_on_levels)?;
                values.clear();
                goes_on.clear();
            }
        }
        self.defined.clear();
        column.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use procflow_core::features::Needs;

    /// A column of this kind that only has a name: cells are put together here.
    fn column(name: &'static str, kind: Kind) -> Column {
        let value = |_: &Record| Value::Null;
        Column { name, unit: "", definition: "made up", kind, needs: Needs::NONE, value }
    }

    #[test]
    fn rows_keep_their_order_and_kinds_over_row_groups() {
        let columns = [
            column("number", Kind::Unsigned),
            column("most", Kind::Unsigned),
            column("below", Kind::Signed),
            column("text", Kind::Text),
            column("list", Kind::Numbers),
            column("flag", Kind::Boolean),
        ];
        let mut file = Parquet::begin(&columns, Some(300), Vec::new()).unwrap();
        let none = [Cell::Row, Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null];
        let some = [
            Cell::Row,
            Cell::Unsigned(u64::MAX),
            Cell::Signed(-1),
            Cell::Text(1, 3),
            Cell::Numbers(1, 3),
            Cell::Boolean(true),
        ];
        let empty = [
            Cell::Row,
            Cell::Unsigned(0),
            Cell::Signed(0),
            Cell::Text(0, 0),
            Cell::Numbers(0, 0),
            Cell::Boolean(false),
        ];
        let cells = Cells {
            cells: [none, some, empty].concat(),
            texts: b"abcd".to_vec(),
            numbers: vec![6, 7, 8],
        };
        for number in 0..9 {
            file.add(&cells, (number % 3) as usize, number).unwrap();
        }
        let bytes = bytes::Bytes::from(file.finish().unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        assert!(reader.num_row_groups() > 2, "{}", reader.num_row_groups());
        let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string());
        let expected = (0..9).map(|number| match number % 3 {
            0 => format!(
                "{{number: {number}, most: null, below: null, text: null, list: null, flag: null}}"
            ),
            1 => format!(
                "{{number: {number}, most: {}, below: -1, text: \"bc\", list: [7, 8], flag: true}}",
                u64::MAX
            ),
            _ => format!(
                "{{number: {number}, most: 0, below: 0, text: \"\", list: [], flag: false}}"
            ),
        });
        assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
