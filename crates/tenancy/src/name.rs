//! The names of accounts and workspaces, and of workspaces' namespaces.

use rand::Rng;

/// The longest name of an account or a workspace: with the random letters it is
/// still a DNS label.
pub const LONGEST: usize = 48;
/// How many random letters a namespace's name ends with.
const LETTERS: usize = 6;

/// Why a name can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` can't be a name: use 1 to {LONGEST} lower-case letters, digits and dashes, beginning with a letter \
     and ending with a letter or digit"
)]
pub struct BadName(String);

/// Checks a name that somebody chose for an account or a workspace.
pub fn check(name: &str) -> Result<(), BadName> {
    let good = name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good { Ok(()) } else { Err(BadName(name.into())) }
}

/// A name for a workspace's namespace. The random letters keep it from telling
/// who else is there: a plain name that is taken would.
pub fn namespace(workspace: &str, random: &mut impl Rng) -> String {
    // No vowels and nothing that looks like something else.
    const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz";
    let letters: String =
        (0..LETTERS).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
    format!("{workspace}-{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        let longest = "a".repeat(LONGEST);
        for good in ["a", "team-1", "x9", &longest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(LONGEST + 1);
        for bad in ["", "A", "1a", "-a", "a-", "a_b", "a.b", "ä", "a b", "system:admin", &too_long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_a_label_that_nobody_guesses() {
        let mut random = rand::rng();
        let longest = "a".repeat(LONGEST);
        let name = namespace(&longest, &mut random);
        assert!(name.len() <= 63 && name.starts_with(&longest));
        assert_ne!(namespace("a", &mut random), namespace("a", &mut random));
    }
}
