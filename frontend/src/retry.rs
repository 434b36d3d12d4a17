//! How long to wait before connecting again.

/// Milliseconds before the next attempt, after so many failed ones: from a
/// second, doubling to half a minute, less up to a quarter by `random` (from 0
/// to 1), so that pages don't come back all at once.
pub fn delay(failed: u32, random: f64) -> u32 {
    let longest = 1000_u32 << failed.min(5);
    let longest = f64::from(longest.min(30_000));
    (longest * (1.0 - 0.25 * random.clamp(0.0, 1.0))) as u32
}

#[cfg(test)]
mod tests {
    use super::delay;

    #[test]
    fn waits_grow_to_half_a_minute() {
        let waits: Vec<_> = (0..7).map(|failed| delay(failed, 0.0)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(delay(u32::MAX, 1.0), 22_500);
    }
}
