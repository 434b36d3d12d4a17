//! `workspaces/{workspace}/usage` and `bill`.

use api::http::Problem;
use api::usage::{Bill, UsageLine};
use axum::extract::{Query, State as Shared};
use axum::{Extension, Json};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::Deserialize;

use crate::State;
use crate::backend::Period;
use crate::error::Error;
use crate::guard::Membership;

/// The longest time that is asked about at once.
const LONGEST: u64 = 400 * 24 * 3600;

#[derive(Deserialize)]
pub(super) struct Asked {
    from: Option<String>,
    to: Option<String>,
}

/// What a workspace used, by object and meter
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/usage",
    params(("workspace" = String, Path), ("from" = Option<u64>, Query), ("to" = Option<u64>, Query)), responses(
    (status = OK, body = Vec<UsageLine>), (status = UNAUTHORIZED, body = Problem), (status = NOT_FOUND, body = Problem)
))]
pub(super) async fn usage(
    Shared(state): Shared<State>,
    Extension(member): Extension<Membership>,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<UsageLine>>, Error> {
    let period = period(&asked, state.now())?;
    state.backends.money.usage(&member.workspace, period).await.map(Json)
}

/// What it costs, by meter
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/bill",
    params(("workspace" = String, Path), ("from" = Option<u64>, Query), ("to" = Option<u64>, Query)), responses(
    (status = OK, body = Bill), (status = UNAUTHORIZED, body = Problem), (status = NOT_FOUND, body = Problem)
))]
pub(super) async fn bill(
    Shared(state): Shared<State>,
    Extension(member): Extension<Membership>,
    Query(asked): Query<Asked>,
) -> Result<Json<Bill>, Error> {
    let period = period(&asked, state.now())?;
    state.backends.money.bill(&member.workspace, period).await.map(Json)
}

fn period(asked: &Asked, now: u64) -> Result<Period, Error> {
    let second = |field: &str, value: &Option<String>, default: u64| match value {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| Error::Invalid {
            field: Some(field.to_owned()),
            detail: format!("{field} is no number of seconds since 1970; write one such as {now}"),
        }),
    };
    let to = second("to", &asked.to, now)?;
    let from = second("from", &asked.from, month_begin(to))?;
    let wrong = |detail: &str| Error::Invalid { field: Some("from".to_owned()), detail: detail.to_owned() };
    if from >= to {
        return Err(wrong("from is not before to; exchange them"));
    }
    if to - from > LONGEST {
        return Err(wrong("from is more than 400 days before to; ask for less"));
    }
    Ok(Period { from, to })
}

/// The first second of the month, UTC.
fn month_begin(second: u64) -> u64 {
    i64::try_from(second)
        .ok()
        .and_then(|second| DateTime::<Utc>::from_timestamp(second, 0))
        .and_then(|time| NaiveDate::from_ymd_opt(time.year(), time.month(), 1))
        .and_then(|first| u64::try_from(first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_what_is_asked_or_this_month() {
        // 22 November 2026, noon.
        let now = 1_795_348_800;
        let of = |from: Option<&str>, to: Option<&str>| {
            period(&Asked { from: from.map(str::to_owned), to: to.map(str::to_owned) }, now)
        };
        assert_eq!(of(None, None), Ok(Period { from: 1_793_491_200, to: now }));
        assert_eq!(of(Some("5"), Some("10")), Ok(Period { from: 5, to: 10 }));
        for (from, to) in [("10", "10"), ("11", "10"), ("x", "10"), ("1", "-1"), ("0", "99999999999")] {
            assert!(
                matches!(of(Some(from), Some(to)), Err(Error::Invalid { field: Some(_), .. })),
                "{from} {to}"
            );
        }
    }
}
