//! Who owns how many workspaces, and which of them are too many.
//!
//! Pure. The order in which workspaces came decides, so two that are made at the
//! same moment can't both be the last that fits.

use std::collections::BTreeMap;

/// A workspace, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its name.
    pub name: String,
    /// The account that owns it.
    pub owner: String,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// Whether it has a namespace: what is there is not taken away.
    pub is_there: bool,
}

/// How many workspaces each account owns.
pub fn count(all: &[Owned]) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for owned in all {
        *counts.entry(owned.owner.as_str()).or_default() += 1;
    }
    counts
}

/// Whether `name` may have a namespace: what is there already counts first, then
/// the older, then the one whose name comes first.
pub fn fits(name: &str, all: &[Owned], limit: u32) -> bool {
    let Some(own) = all.iter().find(|owned| owned.name == name) else { return false };
    let place = |owned: &Owned| (!owned.is_there, owned.made, owned.name.clone());
    let before = all.iter().filter(|other| other.owner == own.owner && place(other) < place(own));
    own.is_there || u32::try_from(before.count()).is_ok_and(|before| before < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name@made`, with `!` for one that is there, all of the same owner.
    fn check(all: &str, limit: u32, fitting: &str) {
        let owned: Vec<Owned> = all
            .split(' ')
            .map(|text| {
                let (name, made) = text.trim_end_matches('!').split_once('@').unwrap();
                Owned {
                    name: name.into(),
                    owner: "ada".into(),
                    made: made.parse().unwrap(),
                    is_there: text.ends_with('!'),
                }
            })
            .collect();
        let fit: Vec<&str> =
            owned.iter().map(|one| one.name.as_str()).filter(|name| fits(name, &owned, limit)).collect();
        assert_eq!(fit.join(" "), fitting, "{all}");
    }

    #[test]
    fn the_oldest_fit() {
        check("a@1 b@2 c@3", 2, "a b");
        check("c@1 b@1 a@1", 2, "b a");
        check("a@1 b@2", 0, "");
    }

    #[test]
    fn what_is_there_stays_and_counts_first() {
        check("a@1 b@2! c@3!", 2, "b c");
        check("a@1! b@2! c@3!", 1, "a b c");
        check("a@1 b@2!", 2, "a b");
    }

    #[test]
    fn others_dont_count() {
        let one = |name: &str, owner: &str| Owned {
            name: name.into(),
            owner: owner.into(),
            made: 1,
            is_there: false,
        };
        let all = [one("a", "ada"), one("b", "bob")];
        assert!(fits("a", &all, 1) && fits("b", &all, 1));
        assert_eq!(count(&all), BTreeMap::from([("ada", 1), ("bob", 1)]));
    }
}
