//! Skewness and kurtosis: the third and fourth central moments, kept up to date packet by packet (Pébay,
//! "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
//! moments", Sandia report SAND2008-6212, equations for one new value).

use super::{Gaps, Sizes, Step, Summary};
use crate::flow::Both;

/// The shape of a distribution; the mean and the second moment are its summary's, how many numbers it is
/// of its owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    m3: f64,
    m4: f64,
}

impl Shape {
    /// Takes in a number, after so many others with this summary.
    #[inline]
    pub fn add(&mut self, value: u64, others: &Summary, before: u64) {
        let (Some(mean), Some(m2)) = (others.mean(before), others.m2(before)) else { return };
        let (one, n) = (before as f64, before as f64 + 1.0);
        let delta = value as f64 - mean;
        let part = delta / n;
        let square = part * part;
        let term = delta * part * one;
        self.m4 +=
            term * square * (n * n - 3.0 * n + 3.0) + 6.0 * square * m2 - 4.0 * part * self.m3;
        self.m3 += term * part * (n - 2.0) - 3.0 * part * m2;
    }

    /// The population skewness of so many numbers with this summary, g1; none of fewer than two, or if all
    /// are equal.
    #[must_use]
    pub fn skewness(&self, all: &Summary, count: u64) -> Option<f64> {
        let m2 = all.m2(count).filter(|&m2| count > 1 && m2 > 0.0)?;
        Some((count as f64).sqrt() * self.m3 / m2.powf(1.5))
    }

    /// The population excess kurtosis of so many numbers with this summary, g2: 0 for a normal
    /// distribution; none of fewer than two, or if all are equal.
    #[must_use]
    pub fn kurtosis(&self, all: &Summary, count: u64) -> Option<f64> {
        let m2 = all.m2(count).filter(|&m2| count > 1 && m2 > 0.0)?;
        Some(count as f64 * self.m4 / (m2 * m2) - 3.0)
    }
}

/// The shapes of the sizes and of the times between packets, of each direction.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// Of sizes, in octets.
    pub sizes: Both<Shape>,
    /// Of the times between packets of the direction, in nanoseconds.
    pub gaps: Both<Shape>,
}

impl Moments {
    /// Sees a packet, before these have.
    #[inline]
    pub(super) fn see(&mut self, step: &Step<'_>, sizes: &Sizes, gaps: &Gaps) {
        let (direction, before) = (step.direction, step.own_before);
        let sizes = sizes.0.of(direction);
        self.sizes.of_mut(direction).add(step.size.into(), sizes, before);
        if let Some(gap) = step.own_gap {
            let gaps = gaps.own.of(direction);
            self.gaps.of_mut(direction).add(gap, gaps, before.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_known_numbers() {
        let values = [2, 8, 0, 4, 1, 9, 9, 0];
        let (mut shape, mut all) = (Shape::default(), Summary::default());
        for (before, value) in values.into_iter().enumerate() {
            shape.add(value, &all, before as u64);
            all.add(value);
        }
        let values = values.map(|value| value as f64);
        // By the definitions, summed over all numbers.
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |power| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n;
        let skewness = moment(3) / moment(2).powf(1.5);
        let kurtosis = moment(4) / moment(2).powi(2) - 3.0;
        assert!((shape.skewness(&all, 8).unwrap() - skewness).abs() < 1e-12);
        assert!((shape.kurtosis(&all, 8).unwrap() - kurtosis).abs() < 1e-12);
    }

    #[test]
    fn equal_numbers_have_no_shape() {
        let (mut shape, mut all) = (Shape::default(), Summary::default());
        for before in 0..5 {
            shape.add(3, &all, before);
            all.add(3);
        }
        assert_eq!((shape.skewness(&all, 5), shape.kurtosis(&all, 5)), (None, None));
    }
}
