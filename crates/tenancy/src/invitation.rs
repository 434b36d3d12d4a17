//! What becomes of an acceptance. Pure.

use api::Role;

/// An invitation, as far as it matters to somebody who accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// What is offered.
    pub role: Role,
    /// Until when, in seconds since 1970.
    pub expires: i64,
    /// To whom, if to one account alone.
    pub to: Option<&'a str>,
    /// The uid of the acceptance that took it already.
    pub taken_by: Option<&'a str>,
}

/// Who accepts, and what they are in the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptor<'a> {
    /// The account.
    pub account: &'a str,
    /// The uid of its acceptance.
    pub acceptance: &'a str,
    /// What it is there already.
    pub role: Option<Role>,
    /// Whether it may own one workspace more.
    pub may_own_more: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Make them a member, with this role.
    Join(Role),
    /// Make them the owner; who was it becomes a manager.
    TakeOver,
    /// Nothing: it was done already.
    Done,
}

/// Why an acceptance changes nothing. Who has no invitation learns nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none, or it isn't for them, or somebody else took it.
    #[error("there is no such invitation, or it was used or revoked: ask for another")]
    Unknown,
    /// It came too late.
    #[error("the invitation has expired: ask for another")]
    Expired,
    /// They are more than that already.
    #[error("you have that role or a higher one already")]
    HaveMore,
    /// They own as many as they may.
    #[error("you own as many workspaces as you may: delete one, or ask an operator")]
    TooMany,
}

/// What becomes of an acceptance at `now`, in seconds since 1970.
///
/// # Errors
/// Why nothing.
pub fn accept(offer: Option<&Offer<'_>>, by: &Acceptor<'_>, now: i64) -> Result<Outcome, Refused> {
    let offer = offer.ok_or(Refused::Unknown)?;
    if offer.to.is_some_and(|to| to != by.account) {
        return Err(Refused::Unknown);
    }
    match offer.taken_by {
        // An earlier life of the controller noted this very acceptance and then ended.
        Some(taken) if taken == by.acceptance => {
            return match (offer.role, by.role) {
                (Role::Owner, Some(Role::Owner)) => Ok(Outcome::Done),
                (role, Some(has)) if has >= role => Ok(Outcome::Done),
                (Role::Owner, _) => Ok(Outcome::TakeOver),
                (role, _) => Ok(Outcome::Join(role)),
            };
        }
        Some(_) => return Err(Refused::Unknown),
        None => {}
    }
    if now >= offer.expires {
        return Err(Refused::Expired);
    }
    if by.role.is_some_and(|has| has >= offer.role) {
        return Err(Refused::HaveMore);
    }
    match offer.role {
        Role::Owner if !by.may_own_more => Err(Refused::TooMany),
        Role::Owner => Ok(Outcome::TakeOver),
        role => Ok(Outcome::Join(role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer<'static> = Offer { role: Role::Developer, expires: 100, to: None, taken_by: None };
    const BOB: Acceptor<'static> =
        Acceptor { account: "bob", acceptance: "u-1", role: None, may_own_more: true };

    #[test]
    fn an_invitation_is_good_once_and_in_time() {
        let check = |offer: Option<Offer<'_>>, now, wanted| {
            assert_eq!(accept(offer.as_ref(), &BOB, now), wanted, "{offer:?} at {now}");
        };
        check(Some(OFFER), 99, Ok(Outcome::Join(Role::Developer)));
        check(Some(OFFER), 100, Err(Refused::Expired));
        check(None, 1, Err(Refused::Unknown));
        // Also by bob himself, who may have been removed since.
        check(Some(Offer { taken_by: Some("u-2"), ..OFFER }), 1, Err(Refused::Unknown));
        check(Some(Offer { to: Some("eve"), ..OFFER }), 1, Err(Refused::Unknown));
        check(Some(Offer { to: Some("bob"), ..OFFER }), 1, Ok(Outcome::Join(Role::Developer)));
        // Noted, but not done: a crash between the two changes nothing, not even
        // when it has expired since.
        check(Some(Offer { taken_by: Some("u-1"), ..OFFER }), 200, Ok(Outcome::Join(Role::Developer)));
    }

    #[test]
    fn nobody_is_made_less_than_they_are() {
        let has = |role| Acceptor { role: Some(role), ..BOB };
        assert_eq!(accept(Some(&OFFER), &has(Role::Viewer), 1), Ok(Outcome::Join(Role::Developer)));
        assert_eq!(accept(Some(&OFFER), &has(Role::Developer), 1), Err(Refused::HaveMore));
        assert_eq!(accept(Some(&OFFER), &has(Role::Owner), 1), Err(Refused::HaveMore));
        let taken = Offer { taken_by: Some("u-1"), ..OFFER };
        assert_eq!(accept(Some(&taken), &has(Role::Developer), 1), Ok(Outcome::Done));
    }

    #[test]
    fn who_takes_a_workspace_over_may_own_one_more() {
        let offer = Offer { role: Role::Owner, ..OFFER };
        assert_eq!(accept(Some(&offer), &BOB, 1), Ok(Outcome::TakeOver));
        let full = Acceptor { may_own_more: false, ..BOB };
        assert_eq!(accept(Some(&offer), &full, 1), Err(Refused::TooMany));
    }
}
