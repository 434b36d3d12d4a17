//! What is to be done about a workspace that is to go. Pure.

/// A workspace just below one that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The account that owns it.
    pub owner: String,
    /// Its name.
    pub name: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it stays.
    Stay,
    /// Nothing for so many seconds.
    Wait(u64),
    /// Nothing while these of the same owner are below it.
    Hold(Vec<String>),
    /// Others' workspaces below it are let go: these are left accepted.
    Release(Vec<String>),
    /// It goes.
    Delete,
}

/// The next step for a workspace of `owner`, which goes at `goes` if at all, and accepts
/// these of others below it. Times are in seconds since 1970.
pub fn step(goes: Option<i64>, now: i64, owner: &str, accepted: &[String], below: &[Child]) -> Step {
    let Some(goes) = goes else { return Step::Stay };
    if let Ok(left @ 1..) = u64::try_from(goes.saturating_sub(now)) {
        return Step::Wait(left);
    }
    let own: Vec<String> =
        below.iter().filter(|child| child.owner == owner).map(|child| child.name.clone()).collect();
    if !own.is_empty() {
        return Step::Hold(own);
    }
    if below.is_empty() {
        return Step::Delete;
    }
    let is_below = |one: &String| below.iter().any(|child| format!("{}/{}", child.owner, child.name) == *one);
    Step::Release(accepted.iter().filter(|one| !is_below(one)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_when_its_time_has_come_and_nothing_of_the_owners_is_below() {
        let child = |owner: &str, name: &str| Child { owner: owner.into(), name: name.into() };
        let accepted = ["bob/leaf".to_owned(), "bob/later".to_owned()];
        let check = |goes, now, below: &[Child], wanted: Step| {
            assert_eq!(step(goes, now, "ada", &accepted, below), wanted, "{goes:?} {now} {below:?}");
        };
        check(None, 100, &[], Step::Stay);
        check(Some(100), 40, &[], Step::Wait(60));
        check(Some(100), 99, &[child("ada", "own")], Step::Wait(1));
        check(Some(100), 100, &[], Step::Delete);
        check(Some(i64::MIN), i64::MAX / 2, &[], Step::Delete);
        let both = [child("ada", "own"), child("bob", "leaf")];
        check(Some(100), 101, &both, Step::Hold(vec!["own".into()]));
        check(Some(100), 101, &both[1..], Step::Release(vec!["bob/later".into()]));
    }
}
