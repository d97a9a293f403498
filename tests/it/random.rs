//! Random numbers that a seed repeats.

use std::time::SystemTime;

/// A sequence of numbers that looks random (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Begins the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Gives a number from 0 on that is smaller than the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Gives the seed of this run: HERMES_S6_TEST_SEED, else another one each time. Tests print it.
pub fn seed() -> u64 {
    std::env::var("HERMES_S6_TEST_SEED").map_or_else(
        |_unset| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().as_micros() as u64
        },
        |text| text.parse().unwrap(),
    )
}

/// Tells whether all is to be tried, however long it takes: HERMES_S6_TEST_ALL is set.
pub fn all() -> bool {
    std::env::var_os("HERMES_S6_TEST_ALL").is_some()
}
