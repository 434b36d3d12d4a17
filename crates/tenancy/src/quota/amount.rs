//! Amounts of resources, and Kubernetes' way of writing them.
//!
//! The format is that of `resource.Quantity`: a decimal number with a suffix of ten
//! (`n u m k M G T P E`), of two (`Ki Mi Gi Ti Pi Ei`) or an exponent (`e3`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by the resource's name, in thousandths.
pub type Amounts = BTreeMap<String, i128>;

/// Thousandths in one.
pub const ONE: i128 = 1000;

/// More than anybody has: what is written larger counts as this.
const MOST: i128 = i64::MAX as i128 * ONE;

/// A quantity in thousandths, rounded up as Kubernetes rounds; nothing for what is
/// none.
pub fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits_end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    // As a fraction: how often the thousandths are to be multiplied and divided.
    let (times, parts): (i128, i128) = match suffix {
        "" => (ONE, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (ONE * 1000, 1),
        "M" => (ONE * 1_000_000, 1),
        "G" => (ONE * 1_000_000_000, 1),
        "T" => (ONE * 1_000_000_000_000, 1),
        "P" => (ONE * 1_000_000_000_000_000, 1),
        "E" => (ONE * 1_000_000_000_000_000_000, 1),
        "Ki" => (ONE << 10, 1),
        "Mi" => (ONE << 20, 1),
        "Gi" => (ONE << 30, 1),
        "Ti" => (ONE << 40, 1),
        "Pi" => (ONE << 50, 1),
        "Ei" => (ONE << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10i128.checked_pow(power.unsigned_abs().min(18))?;
            if power < 0 { (ONE, ten) } else { (ONE.checked_mul(ten)?, 1) }
        }
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = if whole.trim_start_matches('0').len() > 30 { "1000000000000000000000" } else { whole };
    // Beyond twelve places nothing is left of a thousandth of anything.
    let fraction = &fraction[..fraction.len().min(12)];
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let rest: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let number = whole.min(MOST).checked_mul(scale)?.checked_add(rest)?;
    let thousandths = match number.checked_mul(times) {
        Some(product) => {
            let divisor = scale * parts;
            (product + divisor - 1) / divisor
        }
        None => MOST,
    };
    let thousandths = thousandths.min(MOST);
    Some(if negative { -thousandths } else { thousandths })
}

/// As Kubernetes writes it.
pub fn write(thousandths: i128) -> Quantity {
    Quantity(if thousandths % ONE == 0 { (thousandths / ONE).to_string() } else { format!("{thousandths}m") })
}

/// All that can be read; a limit that can't is nothing, so that nothing is granted.
pub fn read_all(quantities: &BTreeMap<String, Quantity>) -> Amounts {
    quantities.iter().map(|(name, quantity)| (name.clone(), parse(&quantity.0).unwrap_or_default())).collect()
}

/// As [`write`] writes each.
pub fn write_all(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| (name.clone(), write(*amount))).collect()
}

/// Adds, resource by resource.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_default() += amount;
    }
}

/// Takes away, resource by resource; what is left at nothing is not kept.
pub fn subtract(from: &mut Amounts, less: &Amounts) {
    for (name, amount) in less {
        if let Some(left) = from.get_mut(name) {
            *left -= amount;
        }
    }
    from.retain(|_, left| *left != 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, thousandths) in [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2k", 2_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("12E", MOST),
            ("1e-3", 1),
            ("100n", 1),
            ("1u", 1),
            ("1001u", 2),
            ("-1", -1000),
            ("+1", 1000),
            ("9999999999999999999999999999999999", MOST),
        ] {
            assert_eq!(parse(text), Some(thousandths), "{text}");
        }
        for text in ["", "m", "x", "1x", "1.2.3", "1ki", "--1", "1e", "1 Gi"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_written_so_that_they_are_read_again() {
        for thousandths in [0, 1, 999, 1000, 1500, 1_610_612_736_000, -2500] {
            assert_eq!(parse(&write(thousandths).0), Some(thousandths));
        }
        assert_eq!(write(2000).0, "2");
        assert_eq!(write(1500).0, "1500m");
    }
}
