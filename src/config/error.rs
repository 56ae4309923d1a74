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

/// Everything that is wrong, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl Errors {
    /// An error about a flag or the file as a whole.
    pub(super) fn one(error: ConfigError) -> Self {
        Self { errors: vec![error], omitted: 0 }
    }

    /// Adds one. Of more than [`limits::CONFIG_ERRORS`] those that stand first are kept.
    pub(super) fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
        if self.errors.len() >= 2 * limits::CONFIG_ERRORS {
            self.settle();
        }
    }

    /// Brings them into order once all are there.
    pub(super) fn settled(mut self) -> Self {
        self.settle();
        self
    }

    fn settle(&mut self) {
        self.errors.sort_by_key(|error| (error.line, error.column));
        self.omitted += self.errors.len().saturating_sub(limits::CONFIG_ERRORS);
        self.errors.truncate(limits::CONFIG_ERRORS);
    }

    pub(super) fn into_vec(self) -> Vec<ConfigError> {
        self.errors
    }

    /// Whether there are more than will be shown.
    pub(super) fn is_full(&self) -> bool {
        self.total() > limits::CONFIG_ERRORS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Says of each which file it is in.
    pub(super) fn in_file(mut self, file: &str) -> Self {
        let file: Arc<str> = file.into();
        for error in &mut self.errors {
            error.file = Some(file.clone());
        }
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

    /// As an error about the text as a whole.
    pub(super) fn whole(self) -> ConfigError {
        self.at(0, 0, String::new())
    }

    pub(super) fn at(self, line: usize, column: usize, path: String) -> ConfigError {
        ConfigError { file: None, line, column, path, message: self.message, hint: self.hint }
    }
}
