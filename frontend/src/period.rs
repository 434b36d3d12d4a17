//! Months, as the bill counts them: in UTC.

/// A time to ask about, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first second.
    pub from: u64,
    /// The second after its last.
    pub to: u64,
}

/// The month that is `back` months before the one of `now`. This month ends now.
pub fn month(now: u64, back: u32) -> Period {
    let (year, month) = year_and_month(now);
    let months = year * 12 + i64::from(month) - 1 - i64::from(back);
    let begin = |months: i64| first_second(months.div_euclid(12), months.rem_euclid(12));
    let to = if back == 0 { now } else { begin(months + 1) };
    Period { from: begin(months), to }
}

/// Its name, such as `November 2026`.
pub fn name(period: Period) -> String {
    let (year, month) = year_and_month(period.from);
    let names = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    format!("{} {year}", names[month as usize - 1])
}

const DAY: i64 = 86_400;

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Months are counted from 0.
fn first_second(year: i64, month: i64) -> u64 {
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: i64 = (0..month).map(|month| days_in(year, month)).sum();
    u64::try_from((years + months) * DAY).unwrap_or_default()
}

fn year_and_month(second: u64) -> (i64, u32) {
    let mut year = 1970;
    while first_second(year + 1, 0) <= second {
        year += 1;
    }
    let month = (0..12).rev().find(|month| first_second(year, *month) <= second).unwrap_or_default();
    (year, u32::try_from(month).unwrap_or_default() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_and_end_where_they_do() {
        // 22 November 2026, noon, UTC.
        let now = 1_795_348_800;
        assert_eq!(month(now, 0), Period { from: 1_793_491_200, to: now });
        assert_eq!(month(now, 1), Period { from: 1_790_812_800, to: 1_793_491_200 });
        assert_eq!(name(month(now, 0)), "November 2026");
        assert_eq!(name(month(now, 10)), "January 2026");
        assert_eq!(name(month(now, 11)), "December 2025");
        // February of a leap year.
        let leap = 1_709_208_000;
        assert_eq!(name(month(leap, 0)), "February 2024");
        assert_eq!(month(leap + 5 * 86_400, 1), Period { from: 1_706_745_600, to: 1_709_251_200 });
    }
}
