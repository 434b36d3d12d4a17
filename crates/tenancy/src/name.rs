//! The names of workspaces' namespaces.

use rand::Rng;

/// How many random letters a namespace's name ends with.
const LETTERS: usize = 6;

/// A name for a workspace's namespace. The random letters keep it from telling
/// who else is there: a plain name that is taken would.
pub fn namespace(workspace: &str, random: &mut impl Rng) -> String {
    // No vowels and nothing that looks like something else.
    const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz";
    let letters: String =
        (0..LETTERS).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
    format!("{workspace}-{letters}")
}

/// Whether a namespace may be a workspace's by its name: another workspace's may look the
/// same.
pub fn is_for(workspace: &str, namespace: &str) -> bool {
    let letters = namespace.strip_prefix(workspace).and_then(|rest| rest.strip_prefix('-'));
    letters.is_some_and(|letters| letters.len() == LETTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_label_that_nobody_guesses() {
        let mut random = rand::rng();
        let longest = "a".repeat(api::names::WORKSPACE_NAME_LENGTH);
        let name = namespace(&longest, &mut random);
        assert!(name.len() <= 63 && name.starts_with(&longest));
        assert_ne!(namespace("a", &mut random), namespace("a", &mut random));
        assert!(is_for(&longest, &name) && !is_for("a", &name));
        assert!(is_for("a", "a-bcdfgh") && is_for("a", &namespace("a", &mut random)));
        assert!(!is_for("a", "a-b-cdfghj") && !is_for("a", "abcdfgh") && !is_for("a", "a"));
    }
}
