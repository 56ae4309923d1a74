//! What is known of one watched file, or of one tree: that something happened, and whether it is over.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::Notify;

use super::lock;
use crate::limits;

/// Whether a path in a tree is part of what is read.
pub(crate) type Matters = fn(&Path) -> bool;

/// What the watcher's thread may touch: dropping it must do nothing.
pub(super) struct Signal {
    pub(super) name: OsString,
    /// If it is everything below a folder, which may be a file: whether an entry is part of it.
    pub(super) tree: Option<Matters>,
    pub(super) hint: Mutex<Hint>,
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct Hint {
    pub(super) since: Option<Instant>,
    pub(super) complete: bool,
    /// Files that somebody has been writing to since then and has not closed: the file itself, or those of the
    /// tree.
    pub(super) writing: HashMap<PathBuf, Instant>,
}

/// What an event says of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was replaced, or whoever wrote to it is done.
    Complete,
    /// It was written to, and there may be more to come.
    Writing,
    /// Anything else.
    Unknown,
}

impl Signal {
    /// Something happened: to what is at `path`, if that is known.
    pub(super) fn hint(&self, stage: Stage, path: Option<&Path>, now: Instant) {
        let mut hint = lock(&self.hint);
        hint.since.get_or_insert(now);
        match (stage, path) {
            // Of a tree only that file is done.
            (Stage::Complete, Some(path)) if self.tree.is_some() => {
                hint.complete = true;
                hint.writing.remove(path);
            }
            (Stage::Complete, _) => {
                hint.complete = true;
                hint.writing.clear();
            }
            (Stage::Writing, Some(path)) if self.is_held_up_by(path) => {
                hint.complete = false;
                // One that keeps it open for ever is given its time anew.
                hint.writing.retain(|_, since| now.saturating_duration_since(*since) <= limits::FILE_WRITING);
                if hint.writing.len() < limits::MANIFEST_FILES {
                    hint.writing.entry(path.to_owned()).or_insert(now);
                }
            }
            _ => {}
        }
        drop(hint);
        self.changed.notify_one();
    }

    /// Whether it is read in vain while somebody writes to the file at `path`.
    fn is_held_up_by(&self, path: &Path) -> bool {
        let is_it = path.file_name() == Some(&self.name);
        is_it || self.tree.is_some_and(|matters| matters(path))
    }
}

impl Hint {
    /// When something was first seen, and when it is to be acted on if that is not now.
    pub(super) fn due(&self) -> (Option<Instant>, Option<Instant>) {
        let settled = self.since.map(|since| since + limits::FILE_SETTLE).filter(|_| !self.complete);
        let written = self.writing.values().filter(|since| since.elapsed() < limits::FILE_WRITING);
        let last = written.max().map(|since| *since + limits::FILE_WRITING);
        // Where files are written all the time, one after the other, each change has its turn.
        let patience = self.since.map(|since| since + 2 * limits::FILE_WRITING);
        (self.since, last.into_iter().chain(patience.filter(|_| last.is_some())).min().or(settled))
    }
}
