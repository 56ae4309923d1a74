//! What is wrong with a configuration, as data: where, what, and what to write instead.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// One thing that is wrong, or, as a warning, suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if there is one.
    pub file: Option<Arc<str>>,
    /// Line, from 1; 0 if it concerns no place in a text.
    pub line: usize,
    /// Column in characters, from 1; 0 as for `line`.
    pub column: usize,
    /// The key that it is about, as `routes[2].mirrors[0].backend`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => write!(formatter, "{file}: ")?,
            (Some(file), line) => write!(formatter, "{file}:{line}:{} ", self.column)?,
            (None, 0) => {}
            (None, line) => write!(formatter, "{line}:{} ", self.column)?,
        }
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, by line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl Errors {
    /// Sorts them by place and keeps the first [`limits::CONFIG_ERRORS`].
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| (error.line, error.column));
        let omitted = errors.len().saturating_sub(limits::CONFIG_ERRORS);
        errors.truncate(limits::CONFIG_ERRORS);
        Self { errors, omitted }
    }

    /// An error about the file as a whole.
    pub(super) fn whole(message: String) -> Self {
        Self::new(vec![Problem::new(message).at(0, 0, String::new())])
    }

    /// Says of each which file it is in.
    pub(super) fn in_file(mut self, file: &str) -> Self {
        name_file(&mut self.errors, file);
        self
    }

    /// The errors in order of their place, at most [`limits::CONFIG_ERRORS`].
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many there are, with those that are not kept.
    pub fn total(&self) -> usize {
        self.errors.len() + self.omitted
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            error.fmt(formatter)?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(formatter, "\nand {omitted} more"),
        }
    }
}

impl std::error::Error for Errors {}

pub(super) fn name_file(errors: &mut [ConfigError], file: &str) {
    let file: Arc<str> = file.into();
    for error in errors {
        error.file = Some(file.clone());
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(self, line: usize, column: usize, path: String) -> ConfigError {
        ConfigError { file: None, line, column, path, message: self.message, hint: self.hint }
    }
}
