//! The database: one SQLite file that keeps the history of a host from one start of its tracker to
//! the next, and how it is opened by the one who writes ([`Recorder`](crate::Recorder)) and by any
//! number who read ([`Reader`](crate::Reader)).
//!
//! Three tables. `incarnation` has a row for each start of the tracker. `chunk` has the events, a
//! [block](crate::block) of them in a row and all of one [class](crate::Class); of kind 1 as they
//! happened, of kind 0 a **base**: what was still true of a class after its event `last`. `evicted`
//! says up to where the events of a class are gone.
//!
//! The file never loses anything silently: one that is foreign, newer or damaged is refused with
//! the reason, and [`move_aside`] is what a program can offer then.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use procflow_binding::{BootId, BootTime, Event, HostId, Incarnation};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::block::{BlockError, Span, unpress};

/// What SQLite files of ours carry in their header ("pflw"), so that file(1) and we know them.
const APPLICATION: i32 = 0x7066_6c77;

/// The version of the tables below, in `PRAGMA user_version`. One that is newer is refused; there
/// is none yet that is older.
const SCHEMA: i32 = 1;

const TABLES: &str = "
CREATE TABLE incarnation (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order in which they began
    host          BLOB NOT NULL,
    boot          BLOB NOT NULL,
    number        INTEGER NOT NULL,
    host_name     TEXT NOT NULL,
    begin         INTEGER NOT NULL,  -- boot time of the first event
    newest        INTEGER NOT NULL,  -- number of the last event
    watched_until INTEGER NOT NULL,  -- boot time; everything until then is told
    real          INTEGER,           -- real time minus boot time, as it was last known
    UNIQUE (host, boot, number)
);
CREATE TABLE chunk (
    id          INTEGER PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    class       INTEGER NOT NULL,    -- user id; see Class::number for the others
    kind        INTEGER NOT NULL,    -- 0 a base, 1 events
    last        INTEGER NOT NULL,    -- number of the last event; of a base, of the last it speaks for
    last_time   INTEGER NOT NULL,    -- its boot time
    first       INTEGER NOT NULL,    -- number of the first event in the block, 0 when it is empty
    final       INTEGER NOT NULL,    -- number of the last event in the block
    begin       INTEGER NOT NULL,    -- boot time of the first event in the block
    count       INTEGER NOT NULL,
    length      INTEGER NOT NULL,    -- of the block before compression
    block       BLOB NOT NULL
);
CREATE UNIQUE INDEX chunk_order ON chunk (incarnation, class, kind, last);
CREATE TABLE evicted (
    incarnation INTEGER NOT NULL,
    class       INTEGER NOT NULL,
    through     INTEGER NOT NULL,    -- number of the last event that is gone
    until       INTEGER NOT NULL,    -- its boot time
    PRIMARY KEY (incarnation, class)
) WITHOUT ROWID;
";

/// What a row costs besides its block, in bytes: its numbers, its place in two trees. Measured with
/// dbstat on a million small ones: 61.
pub(crate) const ROW: u64 = 64;

/// The history on disk does not serve.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// An operation on the database failed.
    #[error("{what} {}: {source}", path.display())]
    Database {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: rusqlite::Error,
    },
    /// The file itself cannot be made, or compression does not work.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// A database of another program.
    #[error("{} is not a history of procflow", .0.display())]
    Foreign(PathBuf),
    /// A database of a newer version of this program.
    #[error(
        "{} was written by a newer version of procflow (format {found}, this one knows {SCHEMA})",
        path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
    /// A row whose block is broken.
    #[error("{}, row {row} of its events: {source}", path.display())]
    Row {
        /// Which database.
        path: PathBuf,
        /// Which row of the table `chunk`.
        row: i64,
        /// What is wrong.
        source: BlockError,
    },
    /// Rows that do not fit together: an event is missing that nobody evicted.
    #[error("{}: event {wanted} is missing, the next is {got}", path.display())]
    Hole {
        /// Which database.
        path: PathBuf,
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// An event was handed in out of turn.
    #[error("event {got} was handed in where {wanted} was due")]
    OutOfTurn {
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// An event that no block can hold.
    #[error("event {sequence}: {source}")]
    Unwritable {
        /// Its number.
        sequence: u64,
        /// Why not.
        source: BlockError,
    },
    /// The incarnation was there before: its numbers would be given twice.
    #[error("{} has start number {number} of this boot already", path.display())]
    Taken {
        /// Which database.
        path: PathBuf,
        /// The incarnation's.
        number: u64,
    },
}

impl HistoryError {
    /// Whether the file is damaged: it will never serve, and to [move it aside](move_aside) is all
    /// that is left. One that is foreign, or of a newer version, is not damaged; it is not ours to
    /// move.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Self::Row { .. } | Self::Hole { .. } => true,
            _ => false,
        }
    }
}

impl HistoryError {
    /// Whether SQLite wanted to write, or to make a file, and could not.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Database { source, .. } if matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)
        ))
    }
}

/// Moves a database that does not serve out of the way, to `NAME.broken-N` beside it with the first
/// N that is free; where it is now. Nothing of it is lost.
///
/// # Errors
///
/// When it cannot be renamed.
pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut number = 1;
    while beside(&format!(".broken-{number}")).symlink_metadata().is_ok() {
        number += 1;
    }
    // What SQLite keeps beside it belongs to it, and would be taken for the next one's. First, so
    // that a crash in between leaves a database without its latest rows, never one with another's.
    for part in ["-wal", "-shm"] {
        match std::fs::rename(beside(part), beside(&format!(".broken-{number}{part}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let aside = beside(&format!(".broken-{number}"));
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Whether there is more to the database than its file: somebody writes it, or was killed.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// The file as a URI that promises SQLite that nobody changes it (sqlite.org/uri.html). Should
/// somebody begin to in that moment, what is read may be torn, and is then refused as damaged.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    PathBuf::from(uri)
}

/// A connection, and the path for its errors.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
}

/// An incarnation's row, and its number in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) incarnation: Incarnation,
    pub(crate) host_name: String,
    pub(crate) begin: u64,
    pub(crate) newest: u64,
    pub(crate) watched_until: u64,
    pub(crate) real: Option<i64>,
}

/// A block's row without its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) id: i64,
    /// Number of the last event; of a base, of the last that it speaks for.
    pub(crate) last: u64,
    /// The boot time of that event.
    pub(crate) last_time: u64,
    span: Option<Span>,
    length: u64,
}

/// Kinds of blocks.
pub(crate) const BASE: i64 = 0;
pub(crate) const EVENTS: i64 = 1;

/// SQLite's integers have a sign; what we count never gets that far.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A negative number, which nobody wrote, is as wrong as any other; 0 fits nothing that is kept.
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Chunk {
    /// The number of its first event; of nothing, the end of all numbers.
    pub(crate) fn first(&self) -> u64 {
        self.span.map_or(u64::MAX, |span| span.first)
    }
}

impl Database {
    /// Opens it for writing; makes it, for its owner and the group's readers, if there is none.
    pub(crate) fn open_to_write(path: &Path) -> Result<Self, HistoryError> {
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(HistoryError::Io { what: "cannot make", path: path.into(), source });
            }
            _ => {}
        }
        let database = Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.check()?;
        // WAL and NORMAL: a commit is in the file before it returns, so it outlives this process
        // (kill -9 included); only the machine's own death may take the last seconds, from the WAL's
        // end, never from its middle. A number is still not given twice then: after that death the
        // boot id is another one. FULL would buy those seconds with an fsync five times a second.
        let setup = "
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = NORMAL;
            PRAGMA journal_size_limit = 4194304;
            PRAGMA trusted_schema = OFF;";
        database.run("cannot set up", |connection| connection.execute_batch(setup))?;
        Ok(database)
    }

    /// Opens it for reading, while somebody writes it or not.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self, HistoryError> {
        let open = |path: &Path, flags| -> Result<Self, HistoryError> {
            let database = Self::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | flags)?;
            database.check()?;
            Ok(database)
        };
        match open(path, OpenFlags::empty()) {
            // A WAL database has two files beside it, which SQLite makes even to read. Who may not
            // make them (a member of the group) can still read while nobody writes.
            Err(error) if error.is_refusal() && !has_log(path) => {
                let database = open(&immutable(path), OpenFlags::SQLITE_OPEN_URI);
                database.map(|database| Self { path: path.to_owned(), ..database })
            }
            other => other,
        }
    }

    fn open(path: &Path, flags: OpenFlags) -> Result<Self, HistoryError> {
        let connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(
                |source| HistoryError::Database { what: "cannot open", path: path.into(), source },
            )?;
        let database = Self { connection, path: path.to_owned() };
        let patience = std::time::Duration::from_secs(5);
        database.run("cannot set up", |connection| {
            connection.busy_timeout(patience)?;
            // Blocks are read once, and the system has a cache of its own: half a megabyte holds
            // the inner pages, where SQLite would take two.
            connection.pragma_update(None, "cache_size", -512)
        })?;
        Ok(database)
    }

    /// Whether it is ours; makes the tables in one that is empty.
    fn check(&self) -> Result<(), HistoryError> {
        let (application, version, tables) = self.run("cannot read", |connection| {
            let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
            let tables = "SELECT count(*) FROM sqlite_schema";
            Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?, number(tables)?))
        })?;
        if (application, version, tables) == (0, 0, 0) {
            let make = format!(
                "PRAGMA auto_vacuum = INCREMENTAL;
                 BEGIN IMMEDIATE; {TABLES}
                 PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
            );
            return self.run("cannot make tables in", |connection| connection.execute_batch(&make));
        }
        match version {
            _ if application != APPLICATION => Err(HistoryError::Foreign(self.path.clone())),
            SCHEMA => Ok(()),
            found => Err(HistoryError::Newer { path: self.path.clone(), found }),
        }
    }

    /// Runs something on the connection; an error says what was tried.
    pub(crate) fn run<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        run(&self.connection).map_err(|source| self.failed(what, source))
    }

    pub(crate) fn failed(&self, what: &'static str, source: rusqlite::Error) -> HistoryError {
        HistoryError::Database { what, path: self.path.clone(), source }
    }

    /// All incarnations, in the order in which they began.
    pub(crate) fn incarnations(&self) -> Result<Vec<Row>, HistoryError> {
        self.run("cannot read", |connection| {
            let sql = "SELECT id, host, boot, number, host_name, begin, newest, watched_until, real
                       FROM incarnation ORDER BY id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let incarnation = Incarnation {
                    host: HostId(row.get(1)?),
                    boot: BootId(row.get(2)?),
                    number: from_sql(row.get(3)?),
                };
                Ok(Row {
                    id: row.get(0)?,
                    incarnation,
                    host_name: row.get(4)?,
                    begin: from_sql(row.get(5)?),
                    newest: from_sql(row.get(6)?),
                    watched_until: from_sql(row.get(7)?),
                    real: row.get(8)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The classes that an incarnation has anything of.
    pub(crate) fn classes(&self, incarnation: i64) -> Result<Vec<i64>, HistoryError> {
        self.run("cannot read", |connection| {
            // SQLite walks the index from one class to the next, however many rows each has.
            let sql = "
                WITH RECURSIVE each(class) AS (
                    SELECT min(class) FROM chunk WHERE incarnation = ?1
                    UNION ALL
                    SELECT (SELECT min(class) FROM chunk
                            WHERE incarnation = ?1 AND class > each.class)
                    FROM each WHERE each.class IS NOT NULL
                ) SELECT class FROM each WHERE class IS NOT NULL";
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map([incarnation], |row| row.get(0))?.collect()
        })
    }

    /// Up to which event, and until when, the events of a class are gone.
    pub(crate) fn evicted(
        &self,
        incarnation: i64,
        class: i64,
    ) -> Result<Option<(u64, u64)>, HistoryError> {
        self.run("cannot read", |connection| {
            let sql = "SELECT through, until FROM evicted WHERE incarnation = ? AND class = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([incarnation, class])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some((from_sql(row.get(0)?), from_sql(row.get(1)?))))
        })
    }

    /// Until when anything of an incarnation was evicted, of whichever class.
    pub(crate) fn whole_evicted(&self, incarnation: i64) -> Result<Option<u64>, HistoryError> {
        self.run("cannot read", |connection| {
            let sql = "SELECT max(until) FROM evicted WHERE incarnation = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let until: Option<i64> = statement.query_row([incarnation], |row| row.get(0))?;
            Ok(until.map(from_sql))
        })
    }

    /// The first of a class's rows of one kind whose `last` is beyond a number.
    pub(crate) fn next_chunk(
        &self,
        (incarnation, class): (i64, i64),
        kind: i64,
        beyond: u64,
    ) -> Result<Option<Chunk>, HistoryError> {
        let sql = "SELECT id, last, first, final, begin, last_time, count, length FROM chunk
                   WHERE incarnation = ? AND class = ? AND kind = ? AND last > ?
                   ORDER BY last LIMIT 1";
        self.chunk(sql, [incarnation, class, kind, to_sql(beyond)])
    }

    /// The last base of a class that speaks for events up to `through` at most, and for times up to
    /// `until` at most.
    pub(crate) fn base(
        &self,
        (incarnation, class): (i64, i64),
        through: u64,
        until: u64,
    ) -> Result<Option<Chunk>, HistoryError> {
        let sql = "SELECT id, last, first, final, begin, last_time, count, length FROM chunk
                   WHERE incarnation = ? AND class = ? AND kind = 0 AND last <= ?
                   AND last_time <= ? ORDER BY last DESC LIMIT 1";
        self.chunk(sql, [incarnation, class, to_sql(through), to_sql(until)])
    }

    /// The boot time of the last event of a class.
    pub(crate) fn latest(
        &self,
        (incarnation, class): (i64, i64),
    ) -> Result<Option<u64>, HistoryError> {
        self.run("cannot read", |connection| {
            let sql = "SELECT last_time FROM chunk
                       WHERE incarnation = ? AND class = ? AND kind = 1 ORDER BY last DESC LIMIT 1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([incarnation, class])?;
            rows.next()?.map(|row| row.get(0).map(from_sql)).transpose()
        })
    }

    fn chunk(&self, sql: &str, values: [i64; 4]) -> Result<Option<Chunk>, HistoryError> {
        self.run("cannot read", |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(values)?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let number = |column| Ok::<_, rusqlite::Error>(from_sql(row.get(column)?));
            let time = |column| Ok::<_, rusqlite::Error>(BootTime(number(column)?));
            let (first, last, count) = (number(2)?, number(3)?, number(6)?);
            let span = Span { first, last, begin: time(4)?, end: time(5)?, count };
            Ok(Some(Chunk {
                id: row.get(0)?,
                last: number(1)?,
                last_time: number(5)?,
                span: (count > 0).then_some(span),
                length: number(7)?,
            }))
        })
    }

    /// The events of a row.
    pub(crate) fn events(&self, chunk: &Chunk) -> Result<Vec<Event>, HistoryError> {
        let Some(span) = chunk.span else { return Ok(Vec::new()) };
        let block: Vec<u8> = self.run("cannot read", |connection| {
            let sql = "SELECT block FROM chunk WHERE id = ?";
            connection.prepare_cached(sql)?.query_row([chunk.id], |row| row.get(0))
        })?;
        unpress(&block, chunk.length, span).map_err(|source| HistoryError::Row {
            path: self.path.clone(),
            row: chunk.id,
            source,
        })
    }

    /// Writes a row.
    pub(crate) fn insert(&self, chunk: &NewChunk<'_>) -> Result<i64, HistoryError> {
        let &NewChunk { key: (incarnation, class), kind, last, last_time, span, length, block } =
            chunk;
        let zero = BootTime(0);
        let none = Span { first: 0, last: 0, begin: zero, end: zero, count: 0 };
        let span = span.unwrap_or(none);
        self.run("cannot write to", |connection| {
            let sql = "INSERT INTO chunk (incarnation, class, kind, last, last_time, first, final,
                       begin, count, length, block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            connection.prepare_cached(sql)?.insert((
                incarnation,
                class,
                kind,
                to_sql(last),
                to_sql(last_time),
                to_sql(span.first),
                to_sql(span.last),
                to_sql(span.begin.0),
                to_sql(span.count),
                to_sql(length),
                block,
            ))
        })
    }
}

/// A row to be written.
pub(crate) struct NewChunk<'a> {
    /// Of which incarnation, of which class.
    pub(crate) key: (i64, i64),
    pub(crate) kind: i64,
    pub(crate) last: u64,
    pub(crate) last_time: u64,
    pub(crate) span: Option<Span>,
    pub(crate) length: u64,
    pub(crate) block: &'a [u8],
}
