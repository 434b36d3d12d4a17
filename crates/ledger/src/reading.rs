//! What a cumulative reading adds to the one before it.

/// The last reading of a source that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its minute, since 1970.
    pub minute: u64,
    /// Its reading.
    pub reading: u64,
}

/// What to do with a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So much more was used.
    More(u64),
    /// It was counted already, or a later one was, which holds it.
    Known,
    /// It says less than the one before: a counter never does. It isn't counted.
    Backwards,
}

/// What a reading adds. A source's first one counts from zero, because readings
/// begin at zero with each life of their source.
pub fn step(before: Option<Counted>, minute: u64, reading: u64) -> Step {
    let Some(before) = before else { return Step::More(reading) };
    if minute <= before.minute {
        return Step::Known;
    }
    match reading.checked_sub(before.reading) {
        Some(more) => Step::More(more),
        None => Step::Backwards,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds readings one after the other; what was counted in all.
    fn total(readings: &[(u64, u64)]) -> u64 {
        let mut before = None;
        let mut sum = 0;
        for &(minute, reading) in readings {
            if let Step::More(more) = step(before, minute, reading) {
                sum += more;
                before = Some(Counted { minute, reading });
            }
        }
        sum
    }

    #[test]
    fn the_sum_is_the_last_reading_whatever_is_lost_or_repeated() {
        assert_eq!(total(&[(1, 10), (2, 30), (3, 60)]), 60);
        assert_eq!(total(&[(1, 10), (3, 60)]), 60);
        assert_eq!(total(&[(1, 10), (1, 10), (3, 60), (2, 30), (3, 60)]), 60);
        assert_eq!(total(&[(5, 60)]), 60);
    }

    #[test]
    fn what_runs_backwards_is_not_counted_and_spoils_nothing() {
        assert_eq!(step(Some(Counted { minute: 1, reading: 10 }), 2, 9), Step::Backwards);
        assert_eq!(total(&[(1, 10), (2, 9), (3, 12)]), 12);
    }
}
