use std::path::PathBuf;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or mount.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done, such as `reading`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel half can't be loaded.
    #[error(
        "loading the network program {}: {why}; it needs Linux 6.6 or newer, and the rights CAP_SYS_ADMIN and CAP_NET_ADMIN",
        path.display()
    )]
    Load {
        /// The object.
        path: PathBuf,
        /// The first line of what the kernel said.
        why: String,
    },
    /// A map in the kernel.
    #[error("the network's map {name:?}: {why}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// A program can't be attached to a pod's link.
    #[error("attaching the network program to {interface}: {why}")]
    Attach {
        /// The node's side of the link.
        interface: String,
        /// What the kernel said.
        why: String,
    },
    /// The programs of a pod aren't where they should be.
    #[error("pod {pod}: {why}; delete the pod to have it made anew")]
    Unprotected {
        /// `namespace/name`.
        pod: String,
        /// What is missing.
        why: String,
    },
    /// What the container runtime said can't be used.
    #[error("{what} {why}")]
    Request {
        /// The variable or field.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Adds to a system's error what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::File { doing, path: path.into(), source: source.into() })
    }
}

/// An error and its causes in one line. Of the verifier's log, which has hundreds
/// of lines, that is the one that says why; all of it is left to `debug`.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_end_matches(':').to_owned();
    let statistics = ["processed ", "stack depth ", "verification time "];
    match lines.rfind(|line| !statistics.iter().any(|start| line.starts_with(start))) {
        None => first,
        Some(last) => {
            tracing::debug!(text, "the kernel's whole answer");
            eprintln!("{text}");
            format!("{first} ... {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str);

    #[test]
    fn of_a_long_answer_the_reason_is_kept() {
        assert_eq!(one_line(&Said("no such thing")), "no such thing");
        let log = "refused: 0: R1=ctx()\n1: r0 = 0\nR2 invalid access\nprocessed 2 insns\n";
        assert_eq!(one_line(&Said(log)), "refused: 0: R1=ctx() ... R2 invalid access");
    }
}
