//! The front end of the configuration: a file or the command line becomes a [`Plan`].
//!
//! *text → `document` (a tree with places) → `raw` (typed, one error at a time told and passed
//! over) → `compile` (references, conflicts, defaults) → plan.* Everything that is wrong is told at
//! once, with its place and a hint. Nothing here starts anything or touches the network.
//!
//! To add a key: a line in `raw` with its type and comment, and its meaning in `compile`; the
//! JSON Schema and the list of allowed keys follow.

mod address;
mod compile;
mod decode;
mod document;
mod endpoint_file;
mod error;
mod flags;
mod http_values;
mod raw;
mod secrets;
mod units;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::limits;
use crate::plan::{Fraction, Plan};
use decode::{Decode, Report, Scalar};
use document::Document;
use error::Problem;
use units::Percent;

pub(crate) use compile::{new_listener, new_route};
pub use endpoint_file::parse_endpoints;
pub use error::{ConfigError, Errors};
pub use flags::from_flags;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What it means.
    pub plan: Plan,
    /// It as it was written, for people; credentials among header values are hidden, and other
    /// secrets are in files that it names.
    pub document: Value,
    /// What is allowed and probably not meant.
    pub warnings: Vec<ConfigError>,
}

/// Reads the configuration file at `path`; relative paths in it are relative to its folder.
pub fn load(path: &Path) -> Result<Configuration, Errors> {
    load_text(&text_of(path)?, path)
}

/// The text of the configuration file at `path`.
pub(crate) fn text_of(path: &Path) -> Result<String, Errors> {
    read(path).map_err(|errors| errors.in_file(&path.display().to_string()))
}

/// What the file at `path` means, whose text is `text`.
pub(crate) fn load_text(text: &str, path: &Path) -> Result<Configuration, Errors> {
    let file = path.display().to_string();
    let base = path.parent().unwrap_or(Path::new(""));
    match parse(text, base) {
        Ok(mut configuration) => {
            for warning in &mut configuration.warnings {
                warning.file = Some(file.as_str().into());
            }
            Ok(configuration)
        }
        Err(errors) => Err(errors.in_file(&file)),
    }
}

/// Reads a file that stands beside Kubernetes resources: everything but listeners and routes, which
/// need not be there and do not count.
pub(crate) fn load_base(text: &str, path: &Path) -> Result<Configuration, Errors> {
    let listeners = "listeners:";
    let mut configuration = match text.lines().any(|line| line.starts_with(listeners)) {
        true => load_text(text, path),
        // The parser wants one; nothing ever binds it.
        false => load_text(&format!("{text}\n{listeners} [127.0.0.1:0]\n"), path),
    }?;
    configuration.plan.listeners.clear();
    configuration.plan.routes.clear();
    configuration.plan.backends.clear();
    Ok(configuration)
}

/// The defaults, with the admin API at `admin` (an address or `off`).
pub fn default_base(admin: Option<&str>) -> Result<Configuration, Errors> {
    let mut configuration =
        from_flags(&["127.0.0.1:0".to_owned()], &["http://127.0.0.1:1".to_owned()], &[], None, admin)?;
    configuration.plan.listeners.clear();
    configuration.plan.routes.clear();
    configuration.plan.backends.clear();
    Ok(configuration)
}

/// Reads a configuration whose relative paths are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Configuration, Errors> {
    let document = Document::parse(text)?;
    let mut report = Report::new(&document);
    let plan =
        raw::File::decode(Document::ROOT, &mut report).map(|file| compile::plan(&file, base, &mut report));
    let Report { errors, warnings, .. } = report;
    match plan {
        Some(plan) if errors.is_empty() => {
            let warnings = warnings.settled().into_vec();
            let mut document = document.to_json(Document::ROOT);
            secrets::hide(&mut document);
            Ok(Configuration { plan, document, warnings })
        }
        _ => Err(errors.settled()),
    }
}

/// The YAML documents of `text` as JSON, each with the line that it begins in, or why it cannot be read.
pub(crate) fn documents(text: &str) -> Vec<(usize, Result<Value, String>)> {
    let mut documents = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    let mut begins = 1;
    let mut finish = |begins: usize, lines: &mut Vec<&str>| {
        let blank = lines.iter().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if !blank {
            let read = Document::parse(&lines.join("\n")).map(|document| document.to_json(Document::ROOT));
            documents.push((begins, read.map_err(|errors| errors.to_string())));
        }
        lines.clear();
    };
    for (index, line) in text.lines().enumerate() {
        // At the beginning of a line it is always a marker (YAML 1.2, 9.1.2), even inside of a scalar.
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
            finish(begins, &mut lines);
            begins = index + 2;
        } else {
            lines.push(line);
        }
    }
    finish(begins, &mut lines);
    documents
}

/// The text of the file at `path`; the error is for people.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    read(path).map_err(|errors| errors.to_string())
}

/// Reads `250ms`, `5s`, `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    <Duration as Scalar>::parse(text).map_err(|problem| problem.hint.unwrap_or(problem.message))
}

/// A share as it is written for `percent`, 0 to 100.
///
/// # Errors
/// What is wrong with it, for people.
pub fn percent(text: &str) -> Result<Fraction, String> {
    Percent::parse(text).map(|percent| percent.0).map_err(|problem| problem.message)
}

/// The JSON Schema of the configuration file.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::File);
    schema.insert("title".into(), "mirrorgate".into());
    schema.to_value()
}

/// The text of a file, if it is one and no longer than [`limits::FILE_BYTES`].
fn read(path: &Path) -> Result<String, Errors> {
    let refused = |message: String| Errors::one(Problem::new(message).whole());
    let failed = |error: std::io::Error| refused(format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits::FILE_BYTES {
        return Err(refused(format!("longer than {} bytes", limits::FILE_BYTES)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + valid.filter(|byte| **byte == b'\n').count();
        Errors::one(Problem::new("not UTF-8").at(line, 1, String::new()))
    })
}
