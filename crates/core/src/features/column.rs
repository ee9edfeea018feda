//! A column: a name, a unit, a definition, and the function that gives the value. Header, row, schema and
//! the printed dictionary all come from it.

use std::borrow::Cow;

use super::{Features, FirstPacket, Needs};
use crate::flow::Record;
use crate::packet::Address;

/// One column of an output.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What it is called in the output.
    pub name: &'static str,
    /// What it counts; empty for names, addresses and other things that are no quantity.
    pub unit: &'static str,
    /// What it means.
    pub definition: &'static str,
    /// What kind of values it has.
    pub kind: Kind,
    /// Which families it needs.
    pub needs: Needs,
    /// The value in a record.
    pub value: fn(&Record) -> Value<'_>,
}

/// What kind of values a column has; any of them may have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whole numbers of at least 0.
    Unsigned,
    /// Whole numbers.
    Signed,
    /// Floating point.
    Float,
    /// Text.
    Text,
    /// True or false.
    Boolean,
    /// Lists of whole numbers.
    Numbers,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// It cannot be said.
    Null,
    /// The number of the row, from 0 on, which only who writes it knows.
    Row,
    /// A number.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A JSON object, by its text.
    Object(Cow<'a, str>),
    /// An address, as text.
    Address(Address),
    /// Octets as text: an interface's address, or its first three octets.
    Hex(&'a [u8]),
    /// True or false.
    Boolean(bool),
    /// A list.
    List(List<'a>),
}

/// A list of whole numbers, where they are in a record.
#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    /// Counts of steps.
    Counts(&'a [u32]),
    /// One of each direction.
    Pair([u64; 2]),
    /// Something of each of the first packets.
    Packets(&'a [FirstPacket], fn(&FirstPacket) -> u64),
}

impl List<'_> {
    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Counts(counts) => counts.len(),
            Self::Pair(_) => 2,
            Self::Packets(packets, _) => packets.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.len()).map(|index| match self {
            Self::Counts(counts) => counts[index].into(),
            Self::Pair(pair) => pair[index],
            Self::Packets(packets, number) => number(&packets[index]),
        })
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> Value<'a> {
    /// A number, if there is one.
    #[must_use]
    pub fn unsigned(value: Option<u64>) -> Self {
        value.map_or(Self::Null, Self::Unsigned)
    }

    /// A number, if there is one.
    #[must_use]
    pub fn float(value: Option<f64>) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Null, Self::Float)
    }

    /// A text.
    #[must_use]
    pub fn text(value: &'a str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl Column {
    /// What all of some columns need.
    #[must_use]
    pub fn all_need(columns: &[Self]) -> Needs {
        columns.iter().fold(Needs::NONE, |needs, column| needs.and(column.needs))
    }
}

impl Features {
    /// The first packets, each as a number.
    pub(crate) fn first(&self, number: fn(&FirstPacket) -> u64) -> Value<'_> {
        Value::List(List::Packets(&self.first_packets, number))
    }
}

/// A column for the packets of both directions, and one for each. What they are called in front may be
/// said.
macro_rules! each_way {
    ($table:ident, $name:literal, $unit:literal, $kind:ident, $needs:ident, $definition:literal,
        |$record:ident, $way:ident| $value:expr) => {
        each_way!(
            $table,
            ("bidirectional_", "forward_", "reverse_"),
            $name,
            $unit,
            $kind,
            $needs,
            $definition,
            |$record, $way| $value
        )
    };
    ($table:ident, ($both:literal, $forward:literal, $reverse:literal), $name:literal,
        $unit:literal, $kind:ident, $needs:ident, $definition:literal,
        |$record:ident, $way:ident| $value:expr) => {
        one!(
            $table,
            concat!($both, $name),
            $unit,
            $kind,
            $needs,
            concat!($definition, ", of both directions"),
            |$record| {
                let $way = Way::Both;
                $value
            }
        );
        each_direction!(
            $table,
            ($forward, $reverse),
            $name,
            $unit,
            $kind,
            $needs,
            $definition,
            |$record, $way| $value
        )
    };
}

/// A column for the packets of each direction.
macro_rules! each_direction {
    ($table:ident, $name:literal, $unit:literal, $kind:ident, $needs:ident, $definition:literal,
        |$record:ident, $way:ident| $value:expr) => {
        each_direction!(
            $table,
            ("forward_", "reverse_"),
            $name,
            $unit,
            $kind,
            $needs,
            $definition,
            |$record, $way| $value
        )
    };
    ($table:ident, ($forward:literal, $reverse:literal), $name:literal,
        $unit:literal, $kind:ident, $needs:ident, $definition:literal,
        |$record:ident, $way:ident| $value:expr) => {
        one!(
            $table,
            concat!($forward, $name),
            $unit,
            $kind,
            $needs,
            concat!($definition, ", from the initiator"),
            |$record| {
                let $way = Way::Forward;
                $value
            }
        );
        one!(
            $table,
            concat!($reverse, $name),
            $unit,
            $kind,
            $needs,
            concat!($definition, ", from the responder"),
            |$record| {
                let $way = Way::Reverse;
                $value
            }
        );
    };
}

/// One column.
macro_rules! one {
    ($table:ident, $name:expr, $unit:literal, $kind:ident, $needs:ident, $definition:expr,
        |$record:ident| $value:expr) => {
        $table.push(Column {
            name: $name,
            unit: $unit,
            definition: $definition,
            kind: Kind::$kind,
            needs: Needs::$needs,
            value: |$record| $value,
        });
    };
}
