//! A summary of numbers that come one by one: least, most, sum and sum of squares, all exact. Mean and
//! deviation come from these at the end, so they do not depend on the order and lose nothing on the way.

/// A summary; how many numbers it is of, its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    least: u64,
    most: u64,
    sum: u64,
    /// As two halves, which need no alignment of 16.
    squares: [u64; 2],
}

impl Default for Summary {
    fn default() -> Self {
        Self { least: u64::MAX, most: 0, sum: 0, squares: [0; 2] }
    }
}

impl Summary {
    /// Takes in a number.
    #[inline]
    pub fn add(&mut self, value: u64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.sum = self.sum.saturating_add(value);
        let square = u128::from(value) * u128::from(value);
        let squares = self.squares().saturating_add(square);
        self.squares = [squares as u64, (squares >> 64) as u64];
    }

    /// The summary of the numbers of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let squares = self.squares().saturating_add(other.squares());
        Self {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
            sum: self.sum.saturating_add(other.sum),
            squares: [squares as u64, (squares >> 64) as u64],
        }
    }

    fn squares(&self) -> u128 {
        u128::from(self.squares[0]) | u128::from(self.squares[1]) << 64
    }

    /// The least of so many numbers.
    #[must_use]
    pub fn least(&self, count: u64) -> Option<u64> {
        (count > 0).then_some(self.least)
    }

    /// The greatest of so many numbers.
    #[must_use]
    pub fn most(&self, count: u64) -> Option<u64> {
        (count > 0).then_some(self.most)
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean of so many numbers.
    #[must_use]
    pub fn mean(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.sum as f64 / count as f64)
    }

    /// count² times the population variance: the sum of squared differences of all pairs, each taken once.
    fn pairs(&self, count: u64) -> f64 {
        let (n, sum) = (u128::from(count), u128::from(self.sum));
        match n.checked_mul(self.squares()) {
            Some(product) => product.saturating_sub(sum * sum) as f64,
            None => {
                let (sum, squares) = (sum as f64, self.squares() as f64);
                (count as f64).mul_add(squares, -sum * sum).max(0.0)
            }
        }
    }

    /// The sum of squared differences from the mean of so many numbers.
    #[must_use]
    pub fn m2(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.pairs(count) / count as f64)
    }

    /// The sample standard deviation (n - 1) of so many numbers; none of fewer than two.
    #[must_use]
    pub fn deviation(&self, count: u64) -> Option<f64> {
        let n = count as f64;
        (count > 1).then(|| (self.pairs(count) / (n * (n - 1.0))).sqrt())
    }

    /// The population standard deviation (n); none of fewer than two numbers.
    #[must_use]
    pub fn population_deviation(&self, count: u64) -> Option<f64> {
        (count > 1).then(|| self.pairs(count).sqrt() / count as f64)
    }

    /// The sample variance (n - 1); none of fewer than two numbers.
    #[must_use]
    pub fn variance(&self, count: u64) -> Option<f64> {
        let n = count as f64;
        (count > 1).then(|| self.pairs(count) / (n * (n - 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Summary {
        let mut summary = Summary::default();
        values.iter().for_each(|&value| summary.add(value));
        summary
    }

    #[test]
    fn a_summary_of_known_numbers() {
        let summary = of(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!((summary.least(8), summary.most(8), summary.sum()), (Some(2), Some(9), 40));
        assert_eq!((summary.mean(8), summary.population_deviation(8)), (Some(5.0), Some(2.0)));
        assert_eq!(summary.variance(8), Some(32.0 / 7.0));
    }

    #[test]
    fn of_one_number_there_is_no_deviation_and_of_none_nothing() {
        let summary = of(&[7]);
        assert_eq!((summary.mean(1), summary.deviation(1)), (Some(7.0), None));
        let none = Summary::default();
        assert_eq!((none.least(0), none.most(0), none.mean(0)), (None, None, None));
    }

    #[test]
    fn nothing_is_lost_on_large_numbers_that_differ_little() {
        // Gaps of a day, give or take a nanosecond.
        let day = 86_400_000_000_000;
        let summary = of(&[day - 1, day + 1, day - 1, day + 1]);
        assert_eq!(summary.population_deviation(4), Some(1.0));
        assert_eq!(of(&[day - 1, day + 1]).and(&of(&[day - 1, day + 1])), summary);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let summary = of(&[u64::MAX; 5]);
        assert!(summary.deviation(5).is_some_and(f64::is_finite));
    }
}
