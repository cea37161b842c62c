//! Latencies of one run and their percentiles: every single one kept, in microseconds, nothing bucketed.

/// Latencies in microseconds, ascending.
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Takes latencies in microseconds, in any order.
    pub fn new(mut microseconds: Vec<u32>) -> Self {
        microseconds.sort_unstable();
        Self(microseconds)
    }

    /// All of them, in order.
    pub fn into_microseconds(self) -> Vec<u32> {
        self.0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest latency in milliseconds that `per_mille` of a thousand requests did not exceed (nearest rank: one
    /// that was measured, nothing interpolated); 1000 is the largest. Zero when there are none.
    pub fn milliseconds_at(&self, per_mille: usize) -> f64 {
        let rank = (self.0.len() * per_mille).div_ceil(1000).max(1);
        f64::from(self.0.get(rank - 1).copied().unwrap_or(0)) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_measurement_at_its_nearest_rank() {
        let check = |microseconds: &[u32], per_mille, expected| {
            let found = Latencies::new(microseconds.to_vec()).milliseconds_at(per_mille);
            assert_eq!(found, expected, "{per_mille} of {microseconds:?}");
        };
        let hundred: Vec<u32> = (1..=100).rev().map(|n| n * 1000).collect();
        check(&hundred, 500, 50.0);
        check(&hundred, 900, 90.0);
        check(&hundred, 990, 99.0);
        check(&hundred, 991, 100.0);
        check(&hundred, 1000, 100.0);
        check(&hundred, 0, 1.0);
        check(&[250, 750], 500, 0.25);
        check(&[250, 750], 501, 0.75);
        check(&[7], 990, 0.007);
        check(&[], 500, 0.0);
    }
}
