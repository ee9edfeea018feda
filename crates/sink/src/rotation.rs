//! Rows in files that follow one another, by how large they become or by the time at which flows ended.
//!
//! `flows.csv` becomes `flows.20261122T101500Z.csv`, after the begin of the time that the file is of, in
//! UTC (times are counted from 1970 on, so those of an hour begin at full hours); or `flows.0001.csv`, and so on,
//! if files are bounded by size; or both. No file that is there is ever replaced: the next number is taken
//! instead, by time alone from 0002 on. A time in which no flow ended has no file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procflow_core::Timestamp;

/// When a file is followed by the next one; at least one of both is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// It has so many bytes.
    pub size: Option<u64>,
    /// It is of so many seconds.
    pub seconds: Option<i64>,
}

const NANOS: i64 = 1_000_000_000;

impl Rotation {
    /// What was asked for, if anything was.
    #[must_use]
    pub fn of(size: Option<u64>, time: Option<Duration>) -> Option<Self> {
        let seconds = time.map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1));
        (size.is_some() || seconds.is_some()).then_some(Self { size, seconds })
    }

    /// The begin of the time that this moment is in, in seconds since 1970; 0 if files are of no time.
    pub(crate) fn begin(&self, moment: Timestamp) -> i64 {
        let second = moment.0.div_euclid(NANOS);
        self.seconds.map_or(0, |seconds| second - second.rem_euclid(seconds))
    }

    /// The name of a file: with the begin of its time, and with a number.
    pub(crate) fn name(&self, path: &Path, begin: i64, number: u32) -> PathBuf {
        let mut name = OsString::from(path.file_stem().unwrap_or_default());
        if self.seconds.is_some() {
            let begin = jiff::Timestamp::from_second(begin).unwrap_or_default();
            name.push(begin.strftime(".%Y%m%dT%H%M%SZ").to_string());
        }
        if self.size.is_some() || number > 1 {
            name.push(format!(".{number:04}"));
        }
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_begin_of_the_time_and_a_number_where_it_takes_one() {
        // 2026-11-22 10:17:03.5 UTC.
        let moment = Timestamp(1_795_342_623_500_000_000);
        let name = |size, seconds: Option<i64>, number| {
            let rotation = Rotation { size, seconds };
            let name = rotation.name(Path::new("/a/b.c.csv"), rotation.begin(moment), number);
            name.to_str().unwrap().to_owned()
        };
        assert_eq!(name(None, Some(900), 1), "/a/b.c.20261122T101500Z.csv");
        assert_eq!(name(None, Some(86_400), 2), "/a/b.c.20261122T000000Z.0002.csv");
        assert_eq!(name(Some(1), None, 1), "/a/b.c.0001.csv");
        assert_eq!(name(Some(1), None, 12_345), "/a/b.c.12345.csv");
        assert_eq!(name(Some(1), Some(1), 3), "/a/b.c.20261122T101703Z.0003.csv");
    }

    #[test]
    fn any_moment_is_in_some_time() {
        for seconds in [1, 7, i64::MAX] {
            let rotation = Rotation { size: None, seconds: Some(seconds) };
            for moment in [i64::MIN, -1, 0, i64::MAX] {
                let begin = rotation.begin(Timestamp(moment));
                assert!(begin <= moment.div_euclid(NANOS), "{seconds} {moment}");
                rotation.name(Path::new("x.csv"), begin, 1);
            }
        }
    }
}
