//! Quantities and money as people read them.

use api::usage::Meter;

/// What a meter is called.
pub fn meter_name(meter: Meter) -> &'static str {
    match meter {
        Meter::CpuMicroseconds => "Processor",
        Meter::MemoryMebibyteSeconds => "Memory",
        Meter::InternetSentBytes => "Sent to the internet",
        Meter::InternetReceivedBytes => "Received from the internet",
        Meter::ClusterSentBytes => "Sent within the cluster",
        Meter::ClusterReceivedBytes => "Received within the cluster",
        Meter::StorageMebibyteSeconds => "Storage",
        Meter::GatewayRequests => "Requests to addresses",
        Meter::GatewaySentBytes => "Sent by addresses",
        Meter::GatewayReceivedBytes => "Received by addresses",
    }
}

/// How much of a meter, with a unit that suits it.
pub fn quantity(meter: Meter, value: u64) -> String {
    match meter {
        Meter::CpuMicroseconds => {
            let seconds = value as f64 / 1e6;
            match seconds {
                s if s < 60.0 => format!("{} core-seconds", short(s)),
                s if s < 3600.0 => format!("{} core-minutes", short(s / 60.0)),
                s => format!("{} core-hours", short(s / 3600.0)),
            }
        }
        Meter::MemoryMebibyteSeconds | Meter::StorageMebibyteSeconds => {
            let hours = value as f64 / 3600.0;
            if hours < 1024.0 {
                format!("{} MiB-hours", short(hours))
            } else {
                format!("{} GiB-hours", short(hours / 1024.0))
            }
        }
        Meter::GatewayRequests => format!("{value} requests"),
        _ => bytes(value),
    }
}

fn bytes(value: u64) -> String {
    let mut amount = value as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return format!("{} {unit}", short(amount));
        }
        amount /= 1024.0;
    }
    format!("{} TiB", short(amount))
}

/// Three digits that matter, no zeros at the end.
fn short(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// An amount in millionths of the currency's unit. Two decimals, or as many as
/// a small amount needs to be told from nothing.
pub fn money(micros: i64, currency: &str) -> String {
    let sign = if micros < 0 { "−" } else { "" };
    let micros = micros.unsigned_abs();
    let text = if micros == 0 || micros >= 10_000 {
        let cents = (micros + 5_000) / 10_000;
        format!("{}.{:02}", cents / 100, cents % 100)
    } else {
        let text = format!("0.{micros:06}");
        text.trim_end_matches('0').to_owned()
    };
    format!("{sign}{text} {currency}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units_that_suit_them() {
        for (meter, value, text) in [
            (Meter::CpuMicroseconds, 0, "0 core-seconds"),
            (Meter::CpuMicroseconds, 1_500_000, "1.5 core-seconds"),
            (Meter::CpuMicroseconds, 90_000_000, "1.5 core-minutes"),
            (Meter::CpuMicroseconds, 36_000_000_000, "10 core-hours"),
            (Meter::MemoryMebibyteSeconds, 3600 * 512, "512 MiB-hours"),
            (Meter::StorageMebibyteSeconds, 3600 * 1024 * 24, "24 GiB-hours"),
            (Meter::InternetSentBytes, 1023, "1023 B"),
            (Meter::InternetSentBytes, 1536, "1.5 KiB"),
            (Meter::ClusterSentBytes, 5 << 40, "5 TiB"),
        ] {
            assert_eq!(quantity(meter, value), text);
        }
    }

    #[test]
    fn money_is_never_rounded_to_nothing() {
        for (micros, text) in [
            (0, "0.00 EUR"),
            (1, "0.000001 EUR"),
            (1_200, "0.0012 EUR"),
            (10_000, "0.01 EUR"),
            (1_234_567, "1.23 EUR"),
            (1_235_000, "1.24 EUR"),
            (-2_500_000, "−2.50 EUR"),
            (i64::MIN, "−9223372036854.78 EUR"),
        ] {
            assert_eq!(money(micros, "EUR"), text);
        }
        assert_eq!(money(1_000_000, ""), "1.00");
    }
}
