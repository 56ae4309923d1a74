//! The files of a configuration: the one that is named and those that it includes, as one tree.

use std::path::{Path, PathBuf};

use super::syntax::{self, Directive, Place};
use crate::config;
use crate::limits;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Names, by the number that stands in a [`Place`].
    pub(super) names: Vec<String>,
    /// The directives of all, those of an included file in the place of its `include`.
    pub(super) directives: Vec<Directive>,
    /// What could not be included.
    pub(super) problems: Vec<(Place, String)>,
}

impl Files {
    /// Reads the file at `path`, and what it includes. Blocks.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let mut files = Self::default();
        let directives = files.file(path)?;
        // Whatever includes it, a relative path begins at the folder of the first.
        let folder = path.parent().unwrap_or(Path::new(""));
        files.directives = files.included(directives, folder, 0);
        Ok(files)
    }

    fn file(&mut self, path: &Path) -> Result<Vec<Directive>, String> {
        if self.names.len() >= limits::MANIFEST_FILES {
            return Err(format!("there are more than {} files", limits::MANIFEST_FILES));
        }
        let text = config::read_text(path)?;
        let number = self.names.len();
        self.names.push(path.display().to_string());
        syntax::parse(&text, number)
    }

    /// `directives` with files in the place of each `include`.
    fn included(&mut self, directives: Vec<Directive>, folder: &Path, depth: usize) -> Vec<Directive> {
        let mut all = Vec::new();
        for mut directive in directives {
            if directive.name() != "include" {
                directive.block = self.included(directive.block, folder, depth);
                all.push(directive);
                continue;
            }
            let (at, pattern) = (directive.at, directive.argument(0).to_owned());
            let found = match depth >= limits::CONFIG_DEPTH {
                true => Err(format!("files include each other more than {} times", limits::CONFIG_DEPTH)),
                false => matching(&folder.join(&pattern)),
            };
            let paths = found.unwrap_or_else(|why| {
                self.problems.push((at, format!("include {pattern} is not carried over: {why}")));
                Vec::new()
            });
            for path in paths {
                match self.file(&path) {
                    Ok(directives) => all.extend(self.included(directives, folder, depth + 1)),
                    Err(why) => {
                        let message =
                            format!("include {pattern} is not carried over: {}: {why}", path.display());
                        self.problems.push((at, message));
                    }
                }
            }
        }
        all
    }
}

/// The files that `pattern` means, in order. `*` may stand in a file's name.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = pattern.parent().unwrap_or(Path::new(""));
    let wild = |text: &str| text.contains(['*', '?', '[']);
    if !wild(&pattern.display().to_string()) {
        return Ok(vec![pattern.to_owned()]);
    }
    if wild(&folder.display().to_string()) || name.contains(['?', '[']) {
        return Err("of patterns only * in the name of a file is known".to_owned());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|one| fits(name, one)))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err("there is no such file".to_owned());
    }
    Ok(paths)
}

/// Whether `name` is what `pattern` with `*` stands for; what begins with a dot has to be named.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let Some((first, others)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = others.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*", "site", true),
            ("*", ".hidden", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "ac", false),
            ("*a", "a", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
