//! A time that may not have come, in no more room than a time takes: there is one in every flow.

use crate::key::Timestamp;

/// A time, or none. The earliest that there is, 1677, is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(i64);

impl Default for Moment {
    fn default() -> Self {
        Self::NONE
    }
}

impl Moment {
    pub(crate) const NONE: Self = Self(i64::MIN);

    /// This time.
    pub(crate) const fn at(time: Timestamp) -> Self {
        Self(if time.0 == i64::MIN { i64::MIN + 1 } else { time.0 })
    }

    /// The time, if it has come.
    pub(crate) const fn get(self) -> Option<Timestamp> {
        if self.0 == i64::MIN { None } else { Some(Timestamp(self.0)) }
    }

    /// This time, unless there is one.
    pub(crate) const fn keep(&mut self, time: Timestamp) {
        if self.0 == i64::MIN {
            *self = Self::at(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_kept_and_none_is_none() {
        let mut moment = Moment::default();
        assert_eq!(moment.get(), None);
        moment.keep(Timestamp(i64::MIN));
        assert_eq!(moment.get(), Some(Timestamp(i64::MIN + 1)));
        moment.keep(Timestamp(7));
        assert_eq!(moment.get(), Some(Timestamp(i64::MIN + 1)));
    }
}
