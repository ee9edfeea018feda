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

/// Values of so many bytes are a row group: some ten thousand rows, enough that a column compresses well.
const ROW_GROUP: usize = 32 << 20;

/// What a value takes at least, with its levels.
const LEAST: usize = 12;

/// Values of records, row by row, where the numbers of the rows are not known yet. They are packed - most are
/// small or null - because many rows are on their way at a time.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    packed: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

/// One value. Packed, it is its kind and then what is in it, numbers in seven bits a byte from the lowest on,
/// the last one without the eighth.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell<'a> {
    Null,
    Row,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Boolean(bool),
    Text(&'a [u8]),
    /// So many numbers, packed.
    Numbers(u64, &'a [u8]),
}

impl Cells {
    /// Adds the values of a record.
    pub(crate) fn add(&mut self, columns: &[Column], record: &Record) {
        for column in columns {
            self.pack((column.value)(record));
        }
        self.ends.push(self.packed.len());
    }

    fn pack(&mut self, value: Value<'_>) {
        let packed = &mut self.packed;
        match value {
            Value::Null => packed.push(0),
            Value::Row => packed.push(1),
            Value::Unsigned(value) => {
                packed.push(2);
                pack_number(value, packed);
            }
            Value::Signed(value) => {
                packed.push(3);
                packed.extend_from_slice(&value.to_le_bytes());
            }
            Value::Float(value) => {
                packed.push(4);
                packed.extend_from_slice(&value.to_le_bytes());
            }
            Value::Boolean(value) => packed.extend_from_slice(&[5, value.into()]),
            text @ (Value::Text(_) | Value::Object(_) | Value::Address(_) | Value::Hex(_)) => {
                let mut bytes = Vec::new();
                plain_text(&text, &mut bytes);
                packed.push(6);
                pack_number(bytes.len() as u64, packed);
                packed.extend_from_slice(&bytes);
            }
            Value::List(list) => {
                packed.push(7);
                pack_number(list.len() as u64, packed);
                list.iter().for_each(|number| pack_number(number, packed));
            }
        }
    }

    /// The values of a row, in order.
    fn row(&self, index: usize) -> impl Iterator<Item = Cell<'_>> {
        let end = self.ends.get(index).copied().unwrap_or_default();
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let mut rest = self.packed.get(start.unwrap_or(0)..end).unwrap_or_default();
        std::iter::from_fn(move || unpack(&mut rest))
    }
}

fn pack_number(mut number: u64, packed: &mut Vec<u8>) {
    while number >= 0x80 {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

fn unpack_number(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

fn unpack<'a>(packed: &mut &'a [u8]) -> Option<Cell<'a>> {
    let (&kind, rest) = packed.split_first()?;
    *packed = rest;
    let mut eight = || {
        let (bytes, rest) = packed.split_first_chunk::<8>()?;
        *packed = rest;
        Some(*bytes)
    };
    Some(match kind {
        0 => Cell::Null,
        1 => Cell::Row,
        2 => Cell::Unsigned(unpack_number(packed)?),
        3 => Cell::Signed(i64::from_le_bytes(eight()?)),
        4 => Cell::Float(f64::from_le_bytes(eight()?)),
        5 => {
            let (&value, rest) = packed.split_first()?;
            *packed = rest;
            Cell::Boolean(value != 0)
        }
        6 => {
            let length = usize::try_from(unpack_number(packed)?).ok()?;
            let (text, rest) = packed.split_at_checked(length)?;
            *packed = rest;
            Cell::Text(text)
        }
        _ => {
            let count = unpack_number(packed)?;
            let all = *packed;
            for _ in 0..count {
                unpack_number(packed)?;
            }
            Cell::Numbers(count, all)
        }
    })
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
        for (waiting, cell) in self.waiting.iter_mut().zip(cells.row(index)) {
            let cell = if cell == Cell::Row { Cell::Unsigned(number) } else { cell };
            self.size += waiting.add(cell);
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
    fn add(&mut self, cell: Cell<'_>) -> usize {
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
            (Values::Text(texts, ends), Cell::Text(text)) => {
                texts.extend_from_slice(text);
                ends.push(texts.len());
                // As the writer wants them, they are handles of some words.
                size += 40 + text.len();
                true
            }
            (Values::Numbers(values, goes_on), cell) => {
                // 0 is no list, 1 one without numbers, 2 a number of one.
                let (count, mut packed) = match cell {
                    Cell::Numbers(count, packed) => (count, packed),
                    _ => (0, &[][..]),
                };
                if count == 0 {
                    goes_on.push(0);
                    self.defined.push(matches!(cell, Cell::Numbers(..)).into());
                }
                for index in 0..count {
                    values.push(unpack_number(&mut packed).unwrap_or_default().cast_signed());
                    goes_on.push((index > 0).into());
                    self.defined.push(2);
                    size += LEAST;
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
    use procflow_core::features::{List, Needs};

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
        let none = [Value::Row, Value::Null, Value::Null, Value::Null, Value::Null, Value::Null];
        let some = [
            Value::Row,
            Value::Unsigned(u64::MAX),
            Value::Signed(-1),
            Value::text("bc"),
            Value::List(List::Counts(&[7, u32::MAX])),
            Value::Boolean(true),
        ];
        let empty = [
            Value::Row,
            Value::Unsigned(0),
            Value::Signed(0),
            Value::text(""),
            Value::List(List::Counts(&[])),
            Value::Boolean(false),
        ];
        let mut cells = Cells::default();
        for row in [none, some, empty] {
            row.into_iter().for_each(|value| cells.pack(value));
            cells.ends.push(cells.packed.len());
        }
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
                "{{number: {number}, most: {}, below: -1, text: \"bc\", list: [7, {}], flag: true}}",
                u64::MAX,
                u32::MAX
            ),
            _ => format!(
                "{{number: {number}, most: 0, below: 0, text: \"\", list: [], flag: false}}"
            ),
        });
        assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
