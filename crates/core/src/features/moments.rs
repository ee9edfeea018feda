//! Skewness and kurtosis: the third and fourth central moments, kept up to date packet by packet (Pébay,
//! "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
//! moments", Sandia report SAND2008-6212, equations for one new value).

use super::{Family, Step};
use crate::flow::Both;

/// The shape of a distribution; how many numbers it is of, its owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Shape {
    /// Takes in a number, after so many others.
    #[inline]
    pub fn add(&mut self, value: f64, before: u64) {
        let (one, n) = (before as f64, before as f64 + 1.0);
        let delta = value - self.mean;
        let part = delta / n;
        let square = part * part;
        let term = delta * part * one;
        self.mean += part;
        self.m4 +=
            term * square * (n * n - 3.0 * n + 3.0) + 6.0 * square * self.m2 - 4.0 * part * self.m3;
        self.m3 += term * part * (n - 2.0) - 3.0 * part * self.m2;
        self.m2 += term;
    }

    /// The population skewness of so many numbers, g1; none of fewer than two, or if all are equal.
    #[must_use]
    pub fn skewness(&self, count: u64) -> Option<f64> {
        (count > 1 && self.m2 > 0.0).then(|| (count as f64).sqrt() * self.m3 / self.m2.powf(1.5))
    }

    /// The population excess kurtosis of so many numbers, g2: 0 for a normal distribution; none of fewer
    /// than two, or if all are equal.
    #[must_use]
    pub fn kurtosis(&self, count: u64) -> Option<f64> {
        (count > 1 && self.m2 > 0.0).then(|| count as f64 * self.m4 / (self.m2 * self.m2) - 3.0)
    }
}

/// The shapes of the sizes and of the times between packets, of each direction.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// Of sizes, in octets.
    pub sizes: Both<Shape>,
    /// Of the times between packets of the direction, in nanoseconds.
    pub gaps: Both<Shape>,
    seen: Both<u32>,
}

impl Family for Moments {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let seen = self.seen.of_mut(step.direction);
        let before = u64::from(*seen);
        *seen = seen.saturating_add(1);
        self.sizes.of_mut(step.direction).add(f64::from(step.size), before);
        if let Some(gap) = step.own_gap {
            self.gaps.of_mut(step.direction).add(gap as f64, before - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_known_numbers() {
        let values = [2.0, 8.0, 0.0, 4.0, 1.0, 9.0, 9.0, 0.0];
        let mut shape = Shape::default();
        values.iter().enumerate().for_each(|(i, &value)| shape.add(value, i as u64));
        // By the definitions, summed over all numbers.
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |power| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n;
        let skewness = moment(3) / moment(2).powf(1.5);
        let kurtosis = moment(4) / moment(2).powi(2) - 3.0;
        assert!((shape.skewness(8).unwrap() - skewness).abs() < 1e-12);
        assert!((shape.kurtosis(8).unwrap() - kurtosis).abs() < 1e-12);
    }

    #[test]
    fn equal_numbers_have_no_shape() {
        let mut shape = Shape::default();
        (0..5).for_each(|i| shape.add(3.0, i));
        assert_eq!((shape.skewness(5), shape.kurtosis(5)), (None, None));
    }
}
