//! Seeded randomness: one independent stream per purpose, so that changing one leaves the others as they were.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream of random numbers is for. The numbers are part of every seed's meaning: never change or reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The salt that makes prompts unique.
    Salt = 0,
    /// The moments at which requests are due.
    Arrivals = 1,
    /// The simulated server's jitter and lengths.
    Simulator = 2,
    /// The simulated server's faults.
    Faults = 3,
    /// How long workers pause that cannot reach the server.
    Backoff = 4,
    /// When the self-test stops the client.
    Stops = 5,
}

/// The generator of item number `item` for `purpose` under `seed`: the same three always give the same numbers,
/// on every machine and in every version (ChaCha8, by name).
pub fn stream(seed: u64, purpose: Purpose, item: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(item);
    generator
}

/// Numbers of that stream, evenly spread from 0 to below 1.
pub fn shares(seed: u64, purpose: Purpose, item: u64) -> impl Iterator<Item = f64> {
    let mut generator = stream(seed, purpose, item);
    // as many digits as a double holds
    std::iter::repeat_with(move || (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// A seed nobody chose. Recorded in every report, so that the run can be made again.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // below 2^53, so that JSON readers with floating numbers keep it
    RandomState::new().build_hasher().finish() >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_for_ever() {
        assert_eq!(stream(7, Purpose::Salt, 3).next_u64(), 12_228_748_295_295_190_366);
        assert_eq!(stream(7, Purpose::Simulator, 3).next_u64(), 8_373_608_932_866_545_840);
    }

    #[test]
    fn shares_are_below_one() {
        let shares: Vec<_> = shares(7, Purpose::Backoff, 3).take(1_000).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!((0.45..0.55).contains(&(shares.iter().sum::<f64>() / 1_000.0)));
    }

    #[test]
    fn streams_of_other_seeds_purposes_and_items_differ() {
        let base = stream(7, Purpose::Salt, 3).next_u64();
        assert_ne!(base, stream(8, Purpose::Salt, 3).next_u64());
        assert_ne!(base, stream(7, Purpose::Simulator, 3).next_u64());
        assert_ne!(base, stream(7, Purpose::Salt, 4).next_u64());
    }
}
