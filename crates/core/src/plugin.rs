//! A plugin is somebody's own measure of flows: it is shown each packet of each flow, keeps a state of its
//! own in each, and says at a flow's end what came of it, in columns of its own. It may end a flow when it
//! has seen enough.
//!
//! Here is what a plugin is and what it may say; when it is asked, `flow/cache.rs` decides. There is an
//! instance of it for each shard, and a conversation stays in its shard: what an instance sees, and in
//! which order, depends on the packets and on [`Settings::capacity`](crate::flow::Settings::capacity)
//! only, never on how many threads there are.
//!
//! Bounded is how many states there are: one for each flow held. How large one grows is up to its plugin,
//! which has to do with whatever packets a stranger sends. A panic in a plugin is not caught: it ends the
//! metering, in whichever thread it happens, and whoever called gets it.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use crate::dissect::Dissected;
use crate::features::{Column, Kind, List, Needs, Step, Value, column, process_columns};
use crate::flow::{Direction, Flow, Record, Slab};
use crate::packet::Packet;
use crate::presets::presets;

/// What a plugin does. Each instance is a clone of the one that was handed over.
///
/// Every method has flows of one shard only; what all of them have together is to be had at the end, by
/// [`exit`](Self::exit).
pub trait Plugin: Clone + Send + 'static {
    /// What it keeps of a flow that goes on. It is dropped with the flow at the latest.
    type State: Send;

    /// Its columns, the same at every call.
    fn columns(&self) -> Vec<PluginColumn>;

    /// What it wants to find measured in a record.
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    /// So many octets of a payload it wants to be shown, of each packet; none unless it asks.
    fn payload(&self) -> u16 {
        0
    }

    /// A flow begins with this packet (NFStream's `on_init`), for which [`update`](Self::update) is called
    /// as well.
    fn begin(&mut self, shown: &Shown<'_>) -> Self::State;

    /// A packet of a flow came, the first or another; it is counted in the flow already.
    fn update(&mut self, state: &mut Self::State, shown: &Shown<'_>) -> Verdict;

    /// A flow has ended (NFStream's `on_expire`), and this is its record, without what plugins say. A
    /// value for each column is to be pushed, in their order.
    fn end(&mut self, state: Self::State, record: &Record, values: &mut Values<'_>);

    /// All flows have ended (NFStream's `cleanup`): called once, with the instances of all shards, in the
    /// order of the shards. It is not called when a panic ends the metering.
    fn exit(shards: Vec<Self>) {
        drop(shards);
    }
}

/// A column that a plugin fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginColumn {
    /// What it is called; no other column has this name.
    pub name: &'static str,
    /// What it counts; empty for what is no quantity.
    pub unit: &'static str,
    /// What it means.
    pub definition: &'static str,
    /// What kind of values it has.
    pub kind: Kind,
}

/// What a plugin is shown of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The flow, with this packet counted. It says who began, however the packet goes.
    pub flow: &'a Flow,
    /// The packet, which way it goes, its size, and the times since those before.
    pub step: &'a Step<'a>,
    /// The first octets of what was captured of the transport's payload, as many as the plugin asked for.
    /// (The packet's own place of its payload means nothing here.) A fragment that came before the first
    /// one has none.
    pub payload: &'a [u8],
    /// What the messages of the flow have said so far, this packet's included, if anybody listens: a plugin
    /// that wants it needs [`Needs::DISSECTION`].
    pub dissected: Option<&'a Dissected>,
}

impl<'a> Shown<'a> {
    /// The packet.
    #[must_use]
    pub const fn packet(&self) -> &'a Packet {
        self.step.packet
    }

    /// Which way it goes.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.step.direction
    }
}

/// Whether a flow goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As if nobody had asked.
    GoOn,
    /// It ends with this packet, for this reason. Its record has the end reason
    /// [`Forced`](crate::flow::EndReason::Forced) and these words. Of several plugins the first that was
    /// added is heard; all are shown the packet.
    ///
    /// The next packet of the conversation begins it anew from zero, for the plugins as well. As after
    /// the active timeout it stays known who the initiator is and whether the connection is over.
    Export(Cow<'static, str>),
}

/// One value that a plugin gives.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// It cannot be said.
    Null,
    /// A number.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A number; one that is not finite cannot be said.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A text.
    Text(Cow<'static, str>),
    /// A list.
    Numbers(Vec<u32>),
}

impl OwnedValue {
    /// Whether a column of this kind can have it.
    fn is(&self, kind: Kind) -> bool {
        match self {
            Self::Null => true,
            Self::Unsigned(_) => kind == Kind::Unsigned,
            Self::Signed(_) => kind == Kind::Signed,
            Self::Float(_) => kind == Kind::Float,
            Self::Boolean(_) => kind == Kind::Boolean,
            Self::Text(_) => kind == Kind::Text,
            Self::Numbers(_) => kind == Kind::Numbers,
        }
    }

    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Signed(value) => Value::Signed(*value),
            Self::Float(value) => Value::float(Some(*value)),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Text(text) => Value::text(text),
            Self::Numbers(numbers) => Value::List(List::Counts(numbers)),
        }
    }
}

macro_rules! from {
    ($($of:ty => $kind:ident;)*) => {
        $(impl From<$of> for OwnedValue {
            fn from(value: $of) -> Self {
                Self::$kind(value.into())
            }
        })*
    };
}

from! {
    u32 => Unsigned;
    u64 => Unsigned;
    i32 => Signed;
    i64 => Signed;
    f64 => Float;
    bool => Boolean;
    &'static str => Text;
    String => Text;
    Vec<u32> => Numbers;
}

impl<T: Into<OwnedValue>> From<Option<T>> for OwnedValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

/// Takes the values of a plugin, column by column.
#[derive(Debug)]
pub struct Values<'a> {
    /// Of the columns that have none yet.
    kinds: &'a [Kind],
    values: &'a mut Vec<OwnedValue>,
}

impl Values<'_> {
    /// The value of the next column. One of another kind than the column cannot be said there, one beyond
    /// the last column nowhere; a column that gets none has none.
    pub fn push(&mut self, value: impl Into<OwnedValue>) {
        let Some((&kind, others)) = self.kinds.split_first() else { return };
        self.kinds = others;
        let value = value.into();
        self.values.push(if value.is(kind) { value } else { OwnedValue::Null });
    }

    /// Nothing else is said.
    fn finish(self) {
        self.values.extend(self.kinds.iter().map(|_| OwnedValue::Null));
    }
}

/// What plugins say of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The values of all their columns.
    values: Vec<OwnedValue>,
    /// Why one of them ended the flow, if one did.
    pub forced: Option<Cow<'static, str>>,
}

/// A plain metric: one number, which each packet may change. See [`metric`].
#[derive(Clone, Copy, Debug)]
pub struct Metric<F> {
    column: PluginColumn,
    next: F,
}

/// A plugin of one number, which is 0 when a flow begins, and after each packet what this function makes
/// of it. Of the flow the packet is counted already.
pub fn metric<F>(name: &'static str, next: F) -> Metric<F>
where
    F: Fn(f64, &Packet, &Flow, Direction) -> f64 + Clone + Send + 'static,
{
    let definition = "A metric of whoever runs this";
    Metric { column: PluginColumn { name, unit: "", definition, kind: Kind::Float }, next }
}

impl<F> Metric<F> {
    /// The same, with what it counts and what it means for the dictionary of columns.
    #[must_use]
    pub fn described(mut self, unit: &'static str, definition: &'static str) -> Self {
        (self.column.unit, self.column.definition) = (unit, definition);
        self
    }
}

impl<F> Plugin for Metric<F>
where
    F: Fn(f64, &Packet, &Flow, Direction) -> f64 + Clone + Send + 'static,
{
    type State = f64;

    fn columns(&self) -> Vec<PluginColumn> {
        vec![self.column]
    }

    fn begin(&mut self, _: &Shown<'_>) -> f64 {
        0.0
    }

    fn update(&mut self, value: &mut f64, shown: &Shown<'_>) -> Verdict {
        *value = (self.next)(*value, shown.packet(), shown.flow, shown.direction());
        Verdict::GoOn
    }

    fn end(&mut self, value: f64, _: &Record, values: &mut Values<'_>) {
        values.push(value);
    }
}

/// Why a plugin is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// Another column has this name, of a table, of a preset or of another plugin.
    #[error("there is a column {0:?} already")]
    Name(&'static str),
    /// There is no place for so many columns.
    #[error("plugins have at most {MOST} columns together")]
    TooMany,
}

/// The plugins of a metering, in the order in which they were added.
#[derive(Default)]
pub struct Plugins {
    first: Attached,
    columns: Vec<PluginColumn>,
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Plugins {
    /// Adds one.
    ///
    /// # Errors
    /// When one of its columns has a name that another one has, or all have too many columns. It is not
    /// added then.
    pub fn add(&mut self, plugin: impl Plugin) -> Result<(), PluginError> {
        let columns = plugin.columns();
        for (index, column) in columns.iter().enumerate() {
            let mut before = self.columns.iter().chain(&columns[..index]);
            if before.any(|other| other.name == column.name) || is_taken(column.name) {
                return Err(PluginError::Name(column.name));
            }
        }
        if self.columns.len() + columns.len() > MOST {
            return Err(PluginError::TooMany);
        }
        let kinds = columns.iter().map(|column| column.kind).collect();
        self.columns.extend(columns);
        self.first.0.push(Box::new(InShard { plugin, kinds, states: Slab::new(1) }));
        Ok(())
    }

    /// Their columns, and behind them why one of them ended the flow, to be put behind those of a preset;
    /// none without plugins. They say nothing of records that were made without these plugins.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let own = self.columns.iter().zip(PLACES);
        let mut columns: Vec<Column> = own
            .map(|(&PluginColumn { name, unit, definition, kind }, value)| Column {
                name,
                unit,
                definition,
                kind,
                needs: Needs::NONE,
                value,
            })
            .collect();
        if !self.first.is_empty() {
            columns.push(Column {
                name: FORCED_REASON,
                unit: "",
                definition: "Why a plugin ended the flow, if one did",
                kind: Kind::Text,
                needs: Needs::NONE,
                value: |record| match &record.plugins {
                    Some(said) => said.forced.as_deref().map_or(Value::Null, Value::text),
                    None => Value::Null,
                },
            });
        }
        columns
    }

    /// What all of them need.
    pub(crate) fn needs(&self) -> Needs {
        self.first.0.iter().fold(Needs::NONE, |needs, plugin| needs.and(plugin.needs()))
    }

    /// Those of a shard, which has no flows yet.
    pub(crate) fn attach(&self) -> Attached {
        Attached(self.first.0.iter().map(|plugin| plugin.another()).collect())
    }
}

/// The name of the column behind those of the plugins.
const FORCED_REASON: &str = "forced_reason";

/// Whether a column that is no plugin's has this name.
fn is_taken(name: &str) -> bool {
    let mut of_presets = presets().iter().flat_map(|preset| &preset.columns);
    name == FORCED_REASON
        || column(name).is_some()
        || process_columns().iter().any(|column| column.name == name)
        || of_presets.any(|column| column.name == name)
}

/// Plugins have at most so many columns. A column is found by a function of its own, so there must be an
/// end to them.
const MOST: usize = 64;

macro_rules! places {
    ($($place:literal)*) => { [$(|record| in_place(record, $place)),*] };
}

/// The values of plugins by their places.
static PLACES: [fn(&Record) -> Value<'_>; MOST] = places![
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
];

fn in_place(record: &Record, place: usize) -> Value<'_> {
    let said = record.plugins.as_ref();
    said.and_then(|said| said.values.get(place)).map_or(Value::Null, OwnedValue::as_value)
}

/// The plugins of one shard, with the states of its flows.
#[derive(Default)]
pub(crate) struct Attached(Vec<Box<dyn Instance>>);

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} plugins", self.0.len())
    }
}

impl Attached {
    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes sure that there is room for this flow.
    pub(crate) fn reach(&mut self, number: u32) {
        self.0.iter_mut().for_each(|plugin| plugin.reach(number));
    }

    /// Shows a packet to all of them; gives why the flow is to end, if it is.
    pub(crate) fn show(&mut self, number: u32, shown: &Shown<'_>) -> Option<Cow<'static, str>> {
        let mut wanted = None;
        for plugin in &mut self.0 {
            if let Verdict::Export(reason) = plugin.show(number, shown) {
                wanted.get_or_insert(reason);
            }
        }
        wanted
    }

    /// What they say of a flow that has ended.
    pub(crate) fn end(
        &mut self,
        number: u32,
        record: &Record,
        forced: Option<Cow<'static, str>>,
    ) -> Box<Said> {
        let mut values = Vec::new();
        self.0.iter_mut().for_each(|plugin| plugin.end(number, record, &mut values));
        Box::new(Said { values, forced })
    }

    /// All flows of all shards have ended.
    pub(crate) fn exit(shards: impl Iterator<Item = Self>) {
        let mut shards: Vec<_> = shards.map(|shard| shard.0.into_iter()).collect();
        loop {
            // An instance of the same plugin in each.
            let mut instances = shards.iter_mut().filter_map(Iterator::next);
            let Some(first) = instances.next() else { break };
            first.exit(&mut instances);
        }
    }
}

/// A plugin, whatever its state is.
trait Instance: Send {
    fn another(&self) -> Box<dyn Instance>;
    fn needs(&self) -> Needs;
    fn reach(&mut self, number: u32);
    fn show(&mut self, number: u32, shown: &Shown<'_>) -> Verdict;
    fn end(&mut self, number: u32, record: &Record, values: &mut Vec<OwnedValue>);
    fn exit(self: Box<Self>, others: &mut dyn Iterator<Item = Box<dyn Instance>>);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A plugin in a shard.
struct InShard<P: Plugin> {
    plugin: P,
    kinds: Vec<Kind>,
    states: Slab<Option<P::State>>,
}

impl<P: Plugin> Instance for InShard<P> {
    fn another(&self) -> Box<dyn Instance> {
        let (plugin, kinds) = (self.plugin.clone(), self.kinds.clone());
        Box::new(Self { plugin, kinds, states: Slab::new(1) })
    }

    fn needs(&self) -> Needs {
        self.plugin.needs()
    }

    fn reach(&mut self, number: u32) {
        self.states.reach_by(number, || None);
    }

    fn show(&mut self, number: u32, shown: &Shown<'_>) -> Verdict {
        let most = usize::from(self.plugin.payload());
        let shown = Shown { payload: shown.payload.get(..most).unwrap_or(shown.payload), ..*shown };
        let Self { plugin, states, .. } = self;
        let state = states.one_mut(number).get_or_insert_with(|| plugin.begin(&shown));
        plugin.update(state, &shown)
    }

    fn end(&mut self, number: u32, record: &Record, values: &mut Vec<OwnedValue>) {
        let mut values = Values { kinds: &self.kinds, values };
        if let Some(state) = self.states.one_mut(number).take() {
            self.plugin.end(state, record, &mut values);
        }
        values.finish();
    }

    fn exit(self: Box<Self>, others: &mut dyn Iterator<Item = Box<dyn Instance>>) {
        let others = others.filter_map(|other| other.into_any().downcast::<Self>().ok());
        P::exit(std::iter::once(self).chain(others).map(|shard| shard.plugin).collect());
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
