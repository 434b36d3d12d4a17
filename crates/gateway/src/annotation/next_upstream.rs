//! `proxy-next-upstream` and what belongs to it: when a request is sent to another
//! endpoint.

use super::{Reader, value};
use crate::retry::{MOST_RETRIES, Retry};

/// Attempts where their number isn't said, and so the first among them.
const TRIES: u64 = 3;
const CODES: [u16; 7] = [403, 404, 429, 500, 502, 503, 504];

/// None: none of the annotations says anything.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Retry> {
    let when = when(reader);
    let tries = reader.count("proxy-next-upstream-tries");
    let time = "a time, such as 10 or 10s, or 0 for none";
    let within = reader.parsed("proxy-next-upstream-timeout", time, value::time);
    if when.is_none() && tries.is_none() && within.is_none() {
        return None;
    }
    let mut retry = when.unwrap_or_else(usual);
    let most = u64::from(MOST_RETRIES) + 1;
    if let Some(tries) = tries.filter(|tries| *tries > most) {
        reader.note("proxy-next-upstream-tries", format!("{tries} are more than {most}, which are made"));
    }
    // As in nginx, zero is no limit of theirs.
    let tries = tries.map_or(TRIES, |tries| if tries == 0 { most } else { tries.min(most) });
    retry.attempts = u32::try_from(tries.saturating_sub(1)).unwrap_or(MOST_RETRIES);
    retry.within = within.filter(|within| !within.is_zero());
    Some(retry)
}

fn usual() -> Retry {
    let mut retry = Retry { only: true, ..Retry::default() };
    (retry.on.error, retry.on.timeout) = (true, true);
    retry
}

/// After which failures; None: nothing that could be read is said.
fn when(reader: &mut Reader<'_>) -> Option<Retry> {
    let text = reader.filled("proxy-next-upstream")?;
    let mut retry = Retry { only: true, ..Retry::default() };
    let (mut known, mut off) = (false, false);
    for word in text.split_whitespace() {
        let code = word.strip_prefix("http_").and_then(|code| code.parse().ok());
        match (word, code.filter(|code| CODES.contains(code))) {
            (_, Some(code)) => retry.codes.push(code),
            ("error", _) => retry.on.error = true,
            ("timeout", _) => retry.on.timeout = true,
            ("invalid_header", _) => retry.on.invalid = true,
            ("non_idempotent", _) => retry.any_method = true,
            ("off", _) => off = true,
            _ => {
                let wanted = "is not error, timeout, invalid_header, http_500 or the like, non_idempotent or off; it is ignored";
                reader.note("proxy-next-upstream", format!("{word:?} {wanted}"));
                continue;
            }
        }
        known = true;
    }
    if off {
        retry = Retry { only: true, ..Retry::default() };
    }
    known.then_some(retry)
}
