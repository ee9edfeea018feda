//! A row is a record as text: a line of CSV (RFC 4180) or a JSON object on a line of its own.
//!
//! Written here, not by the libraries that others use for it, because most of a row is numbers: they are
//! put where they belong without an allocation, and that is half of what an export of flows takes.

use std::io::Write;
use std::net::IpAddr;

use crate::features::{Column, List, Value};
use crate::flow::Record;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated values with a line of names in front; what cannot be said is empty.
    Csv,
    /// An object a line; what cannot be said is null.
    JsonLines,
}

/// The line in front of the rows, if there is one.
pub fn header(format: Format, columns: &[Column], out: &mut Vec<u8>) {
    if format == Format::Csv {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            csv_text(column.name, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Some rows take so many bytes; it saves growing to that.
const AT_FIRST: usize = 16 << 10;

/// Rows that were made where their numbers are not known yet.
#[derive(Debug, Default)]
pub struct Rows {
    text: Vec<u8>,
    /// Where each row ends, and where its number belongs, if it has one.
    ends: Vec<(usize, Option<usize>)>,
}

impl Rows {
    /// Adds the row of a record.
    pub fn add(&mut self, format: Format, columns: &[Column], record: &Record) {
        let text = &mut self.text;
        if text.is_empty() {
            text.reserve(AT_FIRST);
        }
        let mut number = None;
        match format {
            Format::Csv => {
                for (index, column) in columns.iter().enumerate() {
                    if index > 0 {
                        text.push(b',');
                    }
                    match (column.value)(record) {
                        Value::Row => number = Some(text.len()),
                        value => csv(value, text),
                    }
                }
                text.extend_from_slice(b"\r\n");
            }
            Format::JsonLines => {
                for (index, column) in columns.iter().enumerate() {
                    text.push(if index > 0 { b',' } else { b'{' });
                    json_text(column.name, text);
                    text.push(b':');
                    match (column.value)(record) {
                        Value::Row => number = Some(text.len()),
                        value => json(value, text),
                    }
                }
                text.extend_from_slice(b"}\n");
            }
        }
        self.ends.push((self.text.len(), number));
    }

    /// Copies a row, with its number.
    pub fn copy(&self, index: usize, number: u64, into: &mut Vec<u8>) {
        let Some(&(end, place)) = self.ends.get(index) else { return };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        match place {
            Some(place) => {
                into.extend_from_slice(&self.text[start..place]);
                into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                into.extend_from_slice(&self.text[place..end]);
            }
            None => into.extend_from_slice(&self.text[start..end]),
        }
    }
}

fn csv(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Text(text) | Value::Object(text) => csv_text(&text, out),
        Value::List(numbers) => {
            // A comma is in it.
            let quote = numbers.len() > 1;
            if quote {
                out.push(b'"');
            }
            list(numbers, out);
            if quote {
                out.push(b'"');
            }
        }
        other => plain(&other, out),
    }
}

/// RFC 4180 section 2: what has a comma, a quote or a line end is quoted, and quotes are doubled.
fn csv_text(text: &str, out: &mut Vec<u8>) {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn json(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Text(text) => json_text(&text, out),
        Value::Object(text) => out.extend_from_slice(text.as_bytes()),
        Value::List(numbers) => list(numbers, out),
        Value::Address(_) | Value::Hex(_) => {
            out.push(b'"');
            plain(&value, out);
            out.push(b'"');
        }
        other => plain(&other, out),
    }
}

/// RFC 8259 section 7.
fn json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 | 0x7f => {
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A value as text and nothing around it: what a format without a rule for it can hold.
pub fn plain_text(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) | Value::Object(text) => out.extend_from_slice(text.as_bytes()),
        Value::List(numbers) => list(*numbers, out),
        other => plain(other, out),
    }
}

/// Numbers and addresses, which look alike in all formats.
fn plain(value: &Value<'_>, out: &mut Vec<u8>) {
    let mut whole = itoa::Buffer::new();
    match value {
        Value::Unsigned(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::Signed(value) => out.extend_from_slice(whole.format(*value).as_bytes()),
        Value::Float(value) => {
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format(*value);
            out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        }
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Address(address) => match address.ip() {
            IpAddr::V4(v4) => {
                for (index, octet) in v4.octets().into_iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    out.extend_from_slice(whole.format(octet).as_bytes());
                }
            }
            // Writing to a vector cannot fail.
            IpAddr::V6(v6) => drop(write!(out, "{v6}")),
        },
        Value::Hex(octets) => {
            for (index, &octet) in octets.iter().enumerate() {
                if index > 0 {
                    out.push(b':');
                }
                out.extend_from_slice(&[hex(octet >> 4), hex(octet)]);
            }
        }
        Value::Null | Value::Row | Value::Text(_) | Value::Object(_) | Value::List(_) => {}
    }
}

/// The lower half of an octet as a digit.
fn hex(octet: u8) -> u8 {
    b"0123456789abcdef"[usize::from(octet & 15)]
}

fn list(numbers: List<'_>, out: &mut Vec<u8>) {
    let mut whole = itoa::Buffer::new();
    out.push(b'[');
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(whole.format(number).as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Address;

    fn both(value: Value<'_>) -> (String, String) {
        let (mut in_csv, mut in_json) = (Vec::new(), Vec::new());
        csv(value.clone(), &mut in_csv);
        json(value, &mut in_json);
        (String::from_utf8(in_csv).unwrap(), String::from_utf8(in_json).unwrap())
    }

    #[test]
    fn a_value_by_itself_has_nothing_around_it() {
        for (value, expected) in [
            (Value::text("a,\"b\"\n"), "a,\"b\"\n"),
            (Value::List(List::Pair([1, 2])), "[1,2]"),
            (Value::Hex(&[2, 255]), "02:ff"),
            (Value::Null, ""),
        ] {
            let mut text = Vec::new();
            plain_text(&value, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn every_kind_of_value_as_text() {
        for (value, in_csv, in_json) in [
            (Value::Null, "", "null"),
            (Value::Signed(-1), "-1", "-1"),
            (Value::Float(0.1), "0.1", "0.1"),
            (Value::Float(3.0), "3", "3"),
            (Value::text("plain"), "plain", "\"plain\""),
            (Value::text("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"", "\"a,\\\"b\\\"\\u000a\""),
            (Value::text("ä\\"), "ä\\", "\"ä\\\\\""),
            (Value::Object("{\"a\":1}".into()), "\"{\"\"a\"\":1}\"", "{\"a\":1}"),
            (Value::List(List::Counts(&[])), "[]", "[]"),
            (Value::List(List::Pair([1, 2])), "\"[1,2]\"", "[1,2]"),
            (Value::Address(Address::v4([10, 0, 0, 1])), "10.0.0.1", "\"10.0.0.1\""),
            (Value::Address(Address(1)), "::1", "\"::1\""),
            (Value::Hex(&[2, 0, 0, 0, 0, 255]), "02:00:00:00:00:ff", "\"02:00:00:00:00:ff\""),
        ] {
            assert_eq!(both(value), (in_csv.to_owned(), in_json.to_owned()));
        }
    }
}
