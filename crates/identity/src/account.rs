//! What an account may be called.

/// Whether `name` can be an account's: a DNS label. No name of Kubernetes' own
/// users is one, for those have colons.
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_a_dns_label() {
        let long = "a".repeat(63);
        for good in ["ada", "a", "ada-2", "9", &long] {
            assert!(is_name(good), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "Ada", "system:masters", "a.b", "-a", "a-", "a b", "ä", "a\n", &too_long] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
