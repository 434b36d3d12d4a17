//! What a quantity costs, and how charges are rounded.

use api::usage::Meter;

/// Attounits in a micro-unit: a charge is kept in 10^-18 of the currency's unit
/// and told in 10^-6.
const ATTO_IN_MICRO: i128 = 1_000_000_000_000;

/// The currency.
pub const CURRENCY: &str = "EUR";

/// What a meter costs from a minute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The meter.
    pub meter: Meter,
    /// The first minute for which it is so, since 1970.
    pub from_minute: u64,
    /// Attounits for each of the meter's units.
    pub atto: i64,
}

/// The first prices, from the beginning of time. An hour of a processor costs
/// 0.02, of a GiB of memory 0.003, of a GiB of storage 0.0001, a GiB to the
/// internet 0.01, by pods or by their addresses; what comes in and what stays inside costs nothing.
pub fn first() -> Vec<Price> {
    let hour = 3600;
    Meter::ALL
        .into_iter()
        .map(|meter| {
            let atto = match meter {
                Meter::CpuMicroseconds => 20_000_000_000_000_000 / (hour * 1_000_000),
                Meter::MemoryMebibyteSeconds => 3_000_000_000_000_000 / (hour * 1024),
                Meter::StorageMebibyteSeconds => 100_000_000_000_000 / (hour * 1024),
                // What an address sends goes to the internet, by the gateway.
                Meter::InternetSentBytes | Meter::GatewaySentBytes => 10_000_000_000_000_000 / (1 << 30),
                Meter::InternetReceivedBytes
                | Meter::ClusterSentBytes
                | Meter::ClusterReceivedBytes
                | Meter::GatewayRequests
                | Meter::GatewayReceivedBytes => 0,
            };
            Price { meter, from_minute: 0, atto }
        })
        .collect()
}

/// What a quantity costs in the minute it was used, in attounits.
pub fn charge(prices: &[Price], meter: Meter, minute: u64, quantity: u64) -> i128 {
    let valid = prices.iter().filter(|price| price.meter == meter && price.from_minute <= minute);
    let price = valid.max_by_key(|price| price.from_minute).map_or(0, |price| price.atto);
    i128::from(quantity) * i128::from(price)
}

/// A charge in micro-units, half to even.
pub fn round(atto: i128) -> i64 {
    let (whole, rest) = (atto.div_euclid(ATTO_IN_MICRO), atto.rem_euclid(ATTO_IN_MICRO));
    let up = match (rest * 2).cmp(&ATTO_IN_MICRO) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => whole.rem_euclid(2),
    };
    // 9 * 10^12 units are more than anybody is charged.
    i64::try_from(whole + up).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_a_processor_costs_what_it_says() {
        let micros = round(charge(&first(), Meter::CpuMicroseconds, 1, 3_600_000_000));
        assert!((19_999..=20_000).contains(&micros), "{micros}");
        let gib_hour = round(charge(&first(), Meter::MemoryMebibyteSeconds, 1, 1024 * 3600));
        assert!((2_999..=3_000).contains(&gib_hour), "{gib_hour}");
    }

    #[test]
    fn a_price_holds_from_its_minute_on() {
        let price = |from_minute, atto| Price { meter: Meter::InternetSentBytes, from_minute, atto };
        let prices = [price(0, 1), price(10, 5)];
        let at = |minute| charge(&prices, Meter::InternetSentBytes, minute, 2);
        assert_eq!([at(9), at(10), at(11)], [2, 10, 10]);
        assert_eq!(charge(&prices, Meter::CpuMicroseconds, 9, 2), 0);
    }

    #[test]
    fn rounding_favours_nobody() {
        let half = ATTO_IN_MICRO / 2;
        assert_eq!([round(half), round(half + 1), round(3 * half), round(5 * half)], [0, 1, 2, 2]);
        assert_eq!(round(-half), 0);
        assert_eq!(round(-half - 1), -1);
    }
}
