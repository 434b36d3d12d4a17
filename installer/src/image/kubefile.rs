//! A Kubefile: the part of a Dockerfile's language that describes data.
//!
//! `FROM`, `ARG`, `LABEL`, `ENV` and `COPY`. A cluster image has no shell and
//! runs nothing, so `RUN` and its like are refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// A Kubefile that has been read, with its variables filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubefile {
    /// The image to begin with; `None` is `scratch`.
    pub from: Option<String>,
    /// In the order of the file, later ones win.
    pub labels: BTreeMap<String, String>,
    /// In the order of the file, later ones win.
    pub env: BTreeMap<String, String>,
    /// One layer each.
    pub copies: Vec<Copy>,
}

/// `COPY [--from=PART] [--chown=UID:GID] SOURCE... DESTINATION`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where in the file, for messages.
    pub line: usize,
    /// A built part; `None` is the Kubefile's own folder.
    pub from: Option<String>,
    /// Whose the files will be, where it is said.
    pub owner: Option<(u64, u64)>,
    /// Paths in the part or folder, relative to it.
    pub sources: Vec<PathBuf>,
    /// Where they go, relative to the image's root.
    pub dest: PathBuf,
    /// Whether the destination is a folder to put the sources in.
    pub into_folder: bool,
}

impl Kubefile {
    /// Reads a Kubefile. `args` are what its `ARG`s can take from outside;
    /// `file` is its name in messages.
    pub fn parse(text: &str, file: &Path, args: &BTreeMap<String, String>) -> Result<Self> {
        let mut kubefile = Self::default();
        let mut variables = BTreeMap::new();
        let mut began = false;
        for (line, text) in logical_lines(text) {
            let wrong = |why: String| Error::Kubefile { file: file.to_owned(), line, why };
            let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
            let instruction = word.to_ascii_uppercase();
            let words = words(rest, &variables).map_err(wrong)?;
            if !began && !matches!(instruction.as_str(), "FROM" | "ARG") {
                return Err(wrong("the first instruction must be FROM, for example FROM scratch".to_owned()));
            }
            match instruction.as_str() {
                "FROM" if began => {
                    return Err(wrong(
                        "a second FROM: a cluster image has one; COPY --from=PART takes a built part"
                            .to_owned(),
                    ));
                }
                "FROM" => {
                    let [image] = words.as_slice() else {
                        return Err(wrong("FROM takes one image, or scratch".to_owned()));
                    };
                    kubefile.from = (image != "scratch").then(|| image.clone());
                    began = true;
                }
                "ARG" => {
                    for word in &words {
                        let (name, default) = word.split_once('=').unwrap_or((word, ""));
                        let value = args.get(name).map_or(default, String::as_str);
                        variables.insert(name.to_owned(), value.to_owned());
                    }
                }
                "LABEL" => pairs(&words, &mut kubefile.labels).map_err(wrong)?,
                "ENV" => {
                    pairs(&words, &mut kubefile.env).map_err(wrong)?;
                    variables.extend(kubefile.env.clone());
                }
                "COPY" => kubefile.copies.push(copy(line, &words).map_err(wrong)?),
                "ADD" => {
                    return Err(wrong(
                        "ADD is not supported: write COPY, and unpack archives beforehand".to_owned(),
                    ));
                }
                "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" | "USER" | "WORKDIR" | "EXPOSE" | "VOLUME"
                | "HEALTHCHECK" | "STOPSIGNAL" | "ONBUILD" | "MAINTAINER" => {
                    return Err(wrong(format!(
                        "{instruction} means nothing in a cluster image, which is data and runs nothing: make the file beforehand and COPY it"
                    )));
                }
                _ => {
                    return Err(wrong(format!(
                        "unknown instruction {word:?}: a Kubefile has FROM, ARG, LABEL, ENV and COPY"
                    )));
                }
            }
        }
        if !began {
            return Err(Error::Kubefile {
                file: file.to_owned(),
                line: 1,
                why: "it is empty: begin with FROM, for example FROM scratch".to_owned(),
            });
        }
        Ok(kubefile)
    }

    /// The built parts that it copies from.
    pub fn parts(&self) -> Vec<&str> {
        let mut parts: Vec<_> = self.copies.iter().filter_map(|c| c.from.as_deref()).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }
}

/// Joins continued lines and drops comments; the number is the first line's.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (body, continued) = match trimmed.strip_suffix('\\') {
            Some(body) => (body.trim_end(), true),
            None => (trimmed, false),
        };
        let (_, collected) = open.get_or_insert_with(|| (number + 1, String::new()));
        if !collected.is_empty() {
            collected.push(' ');
        }
        collected.push_str(body);
        if !continued {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines.retain(|(_, text)| !text.trim().is_empty());
    lines
}

/// Splits into words as a shell would: quotes, backslashes, `$NAME`, `${NAME}`.
fn words(text: &str, variables: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            '\\' if quote != Some('\'') => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("it ends in a backslash".to_owned()),
            },
            '$' if quote != Some('\'') => {
                let braces = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(next) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(next);
                }
                if braces && chars.next() != Some('}') {
                    return Err(format!("${{{name} is not closed: only $NAME and ${{NAME}} are supported"));
                }
                let value = variables
                    .get(&name)
                    .ok_or_else(|| format!("${name} has no value: declare it before with ARG {name}"))?;
                word.get_or_insert_default().push_str(value);
            }
            c if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

fn pairs(words: &[String], into: &mut BTreeMap<String, String>) -> Result<(), String> {
    if words.is_empty() {
        return Err("it names nothing: write NAME=value".to_owned());
    }
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(format!("{word:?} has no value: write {word}=value"));
        };
        if name.is_empty() {
            return Err(format!("{word:?} has no name"));
        }
        into.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

fn copy(line: usize, words: &[String]) -> Result<Copy, String> {
    let mut from = None;
    let mut owner = None;
    let mut paths = Vec::new();
    for word in words {
        if let Some(part) = word.strip_prefix("--from=") {
            from = Some(part.to_owned());
        } else if let Some(text) = word.strip_prefix("--chown=") {
            let numbers = text.split_once(':').unwrap_or((text, text));
            match (numbers.0.parse(), numbers.1.parse()) {
                (Ok(uid), Ok(gid)) => owner = Some((uid, gid)),
                _ => return Err(format!("--chown={text}: give numbers, as in --chown=0:0")),
            }
        } else if word.starts_with("--") {
            return Err(format!("COPY doesn't know {word}: it has --from=PART and --chown=UID:GID"));
        } else {
            paths.push(word.as_str());
        }
    }
    let Some((dest, sources)) = paths.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err("COPY takes at least one source and the destination".to_owned());
    };
    let relative = |text: &str| {
        super::layer::inside(Path::new(text))
            .ok_or_else(|| format!("{text:?} leaves its place: don't write .."))
    };
    let into_folder = dest.ends_with('/') || sources.len() > 1;
    if sources.len() > 1 && !dest.ends_with('/') {
        return Err(format!("with several sources the destination must end in a slash: {dest}/"));
    }
    Ok(Copy {
        line,
        from,
        owner,
        sources: sources.iter().map(|s| relative(s)).collect::<Result<_, _>>()?,
        dest: relative(dest)?,
        into_folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Kubefile> {
        let args = BTreeMap::from([("VERSION".to_owned(), "v1.34.10".to_owned())]);
        Kubefile::parse(text, Path::new("Kubefile"), &args)
    }

    #[test]
    fn reads_labels_variables_and_copies() {
        let kubefile = parse(
            "# comment\nFROM scratch\nARG VERSION\nARG OTHER=x\nLABEL a=1 \\\n      b=\"two words\" c=${VERSION}\n\
             ENV E=$OTHER\nCOPY --from=kubernetes . /node/\nCOPY a b /manifests/\n",
        )
        .unwrap();
        assert_eq!(kubefile.from, None);
        assert_eq!(kubefile.labels["b"], "two words");
        assert_eq!(kubefile.labels["c"], "v1.34.10");
        assert_eq!(kubefile.env["E"], "x");
        assert_eq!(kubefile.parts(), ["kubernetes"]);
        assert_eq!(kubefile.copies[0].dest, Path::new("node"));
        assert_eq!(kubefile.copies[1].sources, [Path::new("a"), Path::new("b")]);
        assert_eq!(kubefile.copies[1].line, 9);
    }

    #[test]
    fn what_a_kubefile_cannot_say_is_refused_by_line() {
        for (text, line, why) in [
            ("", 1, "empty"),
            ("LABEL a=b", 1, "FROM"),
            ("FROM scratch\nRUN make", 2, "runs nothing"),
            ("FROM scratch\nFROM other", 2, "second FROM"),
            ("FROM a b c", 1, "one image"),
            ("FROM scratch\nLABEL a", 2, "no value"),
            ("FROM scratch\nLABEL a=$NOPE", 2, "ARG NOPE"),
            ("FROM scratch\nLABEL a=\"b", 2, "not closed"),
            ("FROM scratch\nCOPY a", 2, "destination"),
            ("FROM scratch\nCOPY ../../etc /node/", 2, "leaves its place"),
            ("FROM scratch\nCOPY a b /c", 2, "slash"),
            ("FROM scratch\nCOPY --link a /c", 2, "--link"),
            ("FROM scratch\nCOPY --chown=root a /c", 2, "numbers"),
            ("FROM scratch\n\nNOPE x", 3, "unknown"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Kubefile:{line}: ")), "{text:?}: {error}");
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
