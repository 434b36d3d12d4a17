//! Whether a request that came to nothing at one endpoint is sent again. Pure.
//!
//! Nothing is sent twice that a client could see twice: once a part of an answer is
//! on its way, or a part of the body is gone, the request has failed.

use std::time::Duration;

use http::Method;
use pingora_error::{Error, ErrorSource, ErrorType};

/// Attempts at one request, whatever its route says.
pub const MOST_ATTEMPTS: usize = 16;
/// Of these, those that a route may ask for after the first.
pub const MOST_RETRIES: u32 = 10;

/// An answer that is not passed on because the request is sent again.
pub(crate) const RETRIED: &str = "Retried";

/// What a route says of requests that came to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// After which failures of a connection.
    pub on: Failures,
    /// After which statuses of a backend.
    pub codes: Vec<u16>,
    /// How often after the first attempt.
    pub attempts: u32,
    /// How long before each.
    pub backoff: Duration,
    /// Since the first attempt; later none begins. None: at any time.
    pub within: Option<Duration>,
    /// Also requests that may do something twice when they come twice.
    pub any_method: bool,
    /// Nothing else is sent again. Without it, who can't be reached is left for
    /// another, as where a route says nothing.
    pub only: bool,
}

/// Failures of a connection to a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// It could not be made, or broke before there was an answer's head.
    pub error: bool,
    /// One of the two took too long.
    pub timeout: bool,
    /// What came is no head of an answer.
    pub invalid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Error,
    Timeout,
    Invalid,
    Status(u16),
}

impl Failure {
    /// None: it is not the backend's.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        if let ErrorType::CustomCode(RETRIED, status) = error.etype() {
            return Some(Self::Status(*status));
        }
        if *error.esource() != ErrorSource::Upstream {
            return None;
        }
        match error.etype() {
            ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout => Some(Self::Timeout),
            ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => Some(Self::Invalid),
            ErrorType::HTTPStatus(_) => None,
            _ => Some(Self::Error),
        }
    }
}

/// An attempt that came to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub failure: Failure,
    pub method: &'a Method,
    /// A part of it may have reached the endpoint.
    pub sent: bool,
    /// All that was sent can be sent again.
    pub whole: bool,
    /// The client has a part of the answer.
    pub answered: bool,
    /// It went by a kept connection, which most likely was just closed.
    pub stale: bool,
    /// There is an endpoint that wasn't tried.
    pub another: bool,
    /// Attempts so far,
    pub made: usize,
    /// those among them that the route asked for,
    pub retries: u32,
    /// and the time since the first.
    pub since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Failed,
    Again,
    /// One of those for which the route asks.
    Counted,
}

impl Attempt<'_> {
    pub(crate) fn verdict(&self, retry: Option<&Retry>) -> Verdict {
        if self.answered || (self.sent && !self.whole) || self.made >= MOST_ATTEMPTS {
            return Verdict::Failed;
        }
        let wanted = retry.is_some_and(|retry| retry.wants(self));
        let free = match retry {
            // That it was kept is the gateway's doing, and no failure of the backend's.
            Some(retry) if retry.only => wanted && self.stale,
            _ if self.sent => self.stale && self.method.is_idempotent(),
            _ => self.another,
        };
        let left = retry.is_some_and(|retry| {
            self.retries < retry.attempts && retry.within.is_none_or(|within| self.since < within)
        });
        match (free, wanted && left) {
            (true, _) => Verdict::Again,
            (false, true) => Verdict::Counted,
            (false, false) => Verdict::Failed,
        }
    }
}

impl Retry {
    fn wants(&self, attempt: &Attempt<'_>) -> bool {
        if !attempt.sent && !self.only {
            return true;
        }
        // As nginx counts them.
        let twice = attempt.sent
            && (*attempt.method == Method::POST
                || *attempt.method == Method::PATCH
                || attempt.method.as_str() == "LOCK");
        (self.any_method || !twice)
            && match attempt.failure {
                Failure::Error => self.on.error,
                Failure::Timeout => self.on.timeout,
                Failure::Invalid => self.on.invalid,
                Failure::Status(status) => self.codes.contains(&status),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Attempt<'static> = Attempt {
        failure: Failure::Error,
        method: &Method::GET,
        sent: true,
        whole: true,
        answered: false,
        stale: false,
        another: false,
        made: 1,
        retries: 0,
        since: Duration::ZERO,
    };

    fn ingress() -> Retry {
        let on = Failures { error: true, timeout: true, invalid: false };
        Retry { on, codes: vec![503], attempts: 2, only: true, ..Retry::default() }
    }

    fn check(attempt: Attempt<'_>, retry: Option<&Retry>, wanted: Verdict) {
        assert_eq!(attempt.verdict(retry), wanted, "{attempt:?} {retry:?}");
    }

    #[test]
    fn where_nothing_is_said_another_endpoint_is_tried_and_a_stale_connection_made_anew() {
        let unreached = Attempt { sent: false, ..GET };
        check(unreached, None, Verdict::Failed);
        check(Attempt { another: true, ..unreached }, None, Verdict::Again);
        check(Attempt { another: true, method: &Method::POST, ..unreached }, None, Verdict::Again);
        check(GET, None, Verdict::Failed);
        check(Attempt { another: true, ..GET }, None, Verdict::Failed);
        check(Attempt { stale: true, ..GET }, None, Verdict::Again);
        check(Attempt { stale: true, method: &Method::POST, ..GET }, None, Verdict::Failed);
        check(Attempt { another: true, made: MOST_ATTEMPTS, ..unreached }, None, Verdict::Failed);
    }

    #[test]
    fn an_ingress_says_after_what_and_how_often() {
        let retry = ingress();
        for (failure, wanted) in [
            (Failure::Error, Verdict::Counted),
            (Failure::Timeout, Verdict::Counted),
            (Failure::Invalid, Verdict::Failed),
            (Failure::Status(503), Verdict::Counted),
            (Failure::Status(500), Verdict::Failed),
        ] {
            check(Attempt { failure, ..GET }, Some(&retry), wanted);
        }
        check(Attempt { retries: 1, ..GET }, Some(&retry), Verdict::Counted);
        check(Attempt { retries: 2, ..GET }, Some(&retry), Verdict::Failed);
        // It asks for what it says, and for nothing else.
        let unreached = Attempt { sent: false, another: true, ..GET };
        check(unreached, Some(&retry), Verdict::Counted);
        check(Attempt { retries: 2, ..unreached }, Some(&retry), Verdict::Failed);
        let off = Retry { only: true, ..Retry::default() };
        for attempt in [GET, unreached, Attempt { stale: true, ..GET }] {
            check(attempt, Some(&off), Verdict::Failed);
        }
        check(Attempt { stale: true, retries: 2, ..GET }, Some(&retry), Verdict::Again);
    }

    #[test]
    fn after_its_time_no_attempt_begins() {
        let retry = Retry { within: Some(Duration::from_secs(2)), ..ingress() };
        check(Attempt { since: Duration::from_millis(1999), ..GET }, Some(&retry), Verdict::Counted);
        check(Attempt { since: Duration::from_secs(2), ..GET }, Some(&retry), Verdict::Failed);
    }

    #[test]
    fn what_may_be_done_twice_is_not_sent_twice_unless_it_is_asked_for() {
        let lock = Method::from_bytes(b"LOCK").unwrap();
        let propfind = Method::from_bytes(b"PROPFIND").unwrap();
        let any = Retry { any_method: true, ..ingress() };
        for (method, wanted) in [
            (&Method::POST, Verdict::Failed),
            (&Method::PATCH, Verdict::Failed),
            (&lock, Verdict::Failed),
            (&Method::PUT, Verdict::Counted),
            (&propfind, Verdict::Counted),
        ] {
            check(Attempt { method, ..GET }, Some(&ingress()), wanted);
            check(Attempt { method, failure: Failure::Status(503), ..GET }, Some(&ingress()), wanted);
            check(Attempt { method, ..GET }, Some(&any), Verdict::Counted);
            // No endpoint has seen any of it.
            check(Attempt { method, sent: false, ..GET }, Some(&ingress()), Verdict::Counted);
        }
    }

    #[test]
    fn nothing_is_sent_again_that_is_half_answered_or_half_gone() {
        let any = Retry { any_method: true, ..ingress() };
        let route = Retry { only: false, ..any.clone() };
        for retry in [None, Some(&any), Some(&route)] {
            for stale in [false, true] {
                check(Attempt { answered: true, stale, ..GET }, retry, Verdict::Failed);
                check(Attempt { whole: false, stale, ..GET }, retry, Verdict::Failed);
            }
        }
        check(Attempt { sent: false, whole: false, ..GET }, Some(&any), Verdict::Counted);
    }

    #[test]
    fn a_route_asks_for_more_besides_what_is_usual() {
        let on = Failures { timeout: true, ..Failures::default() };
        let route = Retry { on, codes: vec![503], attempts: 1, any_method: true, ..Retry::default() };
        let unreached = Attempt { sent: false, ..GET };
        check(Attempt { another: true, ..unreached }, Some(&route), Verdict::Again);
        check(unreached, Some(&route), Verdict::Counted);
        check(Attempt { retries: 1, ..unreached }, Some(&route), Verdict::Failed);
        check(
            Attempt { failure: Failure::Timeout, method: &Method::POST, ..GET },
            Some(&route),
            Verdict::Counted,
        );
        check(GET, Some(&route), Verdict::Failed);
        check(Attempt { stale: true, retries: 1, ..GET }, Some(&route), Verdict::Again);
    }

    #[test]
    fn a_failure_is_the_backend_s_or_it_is_none() {
        let error = |kind: ErrorType, source: ErrorSource| Error::create(kind, source, None, None);
        let up = |kind: ErrorType| Failure::of(&error(kind, ErrorSource::Upstream));
        assert_eq!(up(ErrorType::ConnectRefused), Some(Failure::Error));
        assert_eq!(up(ErrorType::ConnectionClosed), Some(Failure::Error));
        assert_eq!(up(ErrorType::ReadTimedout), Some(Failure::Timeout));
        assert_eq!(up(ErrorType::InvalidHTTPHeader), Some(Failure::Invalid));
        assert_eq!(up(ErrorType::HTTPStatus(504)), None);
        for source in [ErrorSource::Downstream, ErrorSource::Internal, ErrorSource::Unset] {
            assert_eq!(Failure::of(&error(ErrorType::ReadTimedout, source.clone())), None);
            let retried = error(ErrorType::CustomCode(RETRIED, 503), source);
            assert_eq!(Failure::of(&retried), Some(Failure::Status(503)));
        }
    }
}
