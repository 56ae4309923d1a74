//! One file-system watcher for all files that are looked after, and for each file a hint that it changed.
//!
//! Directories are watched, not files: a file replaced by rename is another file, and a watch on the
//! old one would never speak again. What the watcher's thread leaves behind is a flag for each file,
//! so that any number of events take no more room than one. A hint may be wrong or missing: it only
//! says when to look, never what is there.

mod signal;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use self::signal::{Matters, Signal, Stage};
use crate::limits;

/// The watcher, started with the first file.
#[derive(Clone, Default)]
pub(crate) struct FileWatch(Arc<Shared>);

/// A file for which hints are kept while this lives.
pub(crate) struct Watched {
    path: PathBuf,
    watch: FileWatch,
    signal: Arc<Signal>,
    /// Where events about the file can come from: see [`places`].
    directories: Mutex<HashSet<PathBuf>>,
}

#[derive(Default)]
struct Shared {
    /// Never taken on the watcher's own thread, which answers those who hold it.
    watcher: Mutex<Option<RecommendedWatcher>>,
    /// Never held while the watcher is called, since its thread takes it.
    directories: Mutex<HashMap<PathBuf, Directory>>,
}

/// Whom events in one directory concern. By name, so that an event costs the same among thousands of
/// files as among ten.
#[derive(Default)]
struct Directory {
    named: HashMap<OsString, Signals>,
    /// Those whom events under any name concern.
    any: Signals,
}

type Signals = HashMap<usize, Weak<Signal>>;

impl FileWatch {
    /// Prepares to watch `path`; [`Watched::refresh`] begins it.
    pub(crate) fn file(&self, path: PathBuf) -> Watched {
        self.watched(path, None)
    }

    /// The same for the file at `path`, or for all that `matters` in the folder at `path` and those below it.
    pub(crate) fn tree(&self, path: PathBuf, matters: Matters) -> Watched {
        self.watched(path, Some(matters))
    }

    fn watched(&self, path: PathBuf, tree: Option<Matters>) -> Watched {
        let name = path.file_name().unwrap_or_default().to_owned();
        let signal = Signal { name, tree, hint: Mutex::default(), changed: Notify::new() };
        Watched { path, watch: self.clone(), signal: Arc::new(signal), directories: Mutex::default() }
    }

    fn watch(&self, directory: &Path, signal: &Arc<Signal>, any_name: bool) -> notify::Result<()> {
        // Before the watcher speaks, so that nothing it says is lost.
        let mut directories = lock(&self.0.directories);
        let files = directories.entry(directory.to_owned()).or_default();
        // It may have become a link, or be one no more.
        files.remove(signal);
        let signals =
            if any_name { &mut files.any } else { files.named.entry(signal.name.clone()).or_default() };
        signals.insert(id(signal), Arc::downgrade(signal));
        drop(directories);
        let mut watcher = lock(&self.0.watcher);
        let watcher = match &mut *watcher {
            Some(watcher) => watcher,
            none => {
                let shared = Arc::downgrade(&self.0);
                none.insert(notify::recommended_watcher(move |event| {
                    if let Some(shared) = shared.upgrade() {
                        shared.spread(event);
                    }
                })?)
            }
        };
        // Also a directory that is watched already: it may have been replaced by another one since.
        watcher.watch(directory, RecursiveMode::NonRecursive)
    }

    fn unwatch(&self, directory: &Path, signal: &Arc<Signal>) {
        let mut watcher = lock(&self.0.watcher);
        let mut directories = lock(&self.0.directories);
        let Some(files) = directories.get_mut(directory) else { return };
        files.remove(signal);
        if !files.named.is_empty() || !files.any.is_empty() {
            return;
        }
        directories.remove(directory);
        drop(directories);
        if let Some(watcher) = &mut *watcher {
            // It fails when the directory is gone, and then there is nothing to undo.
            let _ = watcher.unwatch(directory);
        }
    }
}

impl Shared {
    /// Called on the watcher's thread.
    fn spread(&self, event: notify::Result<Event>) {
        let now = Instant::now();
        let directories = lock(&self.directories);
        let event = match event {
            // Otherwise the kernel's queue ran over: anything may have changed.
            Ok(event) if !event.need_rescan() => event,
            _ => {
                let all = directories.values().flat_map(|directory| {
                    directory.named.values().chain([&directory.any]).flat_map(HashMap::values)
                });
                return all
                    .filter_map(Weak::upgrade)
                    .for_each(|signal| signal.hint(Stage::Complete, None, now));
            }
        };
        let stage = match event.kind {
            EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write)) => Stage::Complete,
            // Reading a file is such an event, too: to act on it would be a loop.
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Data(_)) => Stage::Writing,
            _ => Stage::Unknown,
        };
        for path in &event.paths {
            let name = path.file_name().unwrap_or_default();
            let parent = path.parent().and_then(|parent| directories.get(parent));
            let named = parent.and_then(|parent| parent.named.get(name));
            // What happens to the directory itself concerns those, too, that look below it.
            let any = [directories.get(path), parent].into_iter().flatten().map(|directory| &directory.any);
            for signal in any.chain(named).flat_map(HashMap::values).filter_map(Weak::upgrade) {
                signal.hint(stage, Some(path), now);
            }
        }
    }
}

impl Directory {
    fn remove(&mut self, signal: &Arc<Signal>) {
        self.any.remove(&id(signal));
        if let Some(signals) = self.named.get_mut(&signal.name) {
            signals.remove(&id(signal));
            if signals.is_empty() {
                self.named.remove(&signal.name);
            }
        }
    }
}

impl Watched {
    /// Watches wherever events about the file can come from at present. Blocks.
    ///
    /// # Errors
    /// Why a directory cannot be watched. What could be watched is.
    pub(crate) fn refresh(&self) -> notify::Result<()> {
        let (mut wanted, linked) = places(&self.path);
        if self.is_tree() {
            folders(&self.path, 0, &mut wanted);
        }
        let mut directories = lock(&self.directories);
        for left in directories.difference(&wanted) {
            self.watch.unwatch(left, &self.signal);
        }
        let results: Vec<_> = wanted
            .iter()
            .map(|directory| self.watch.watch(directory, &self.signal, linked || self.is_tree()))
            .collect();
        *directories = wanted;
        if results.is_empty() {
            return Err(notify::Error::path_not_found());
        }
        results.into_iter().collect()
    }

    /// Whether somebody is about to write it, who may have come no further than half of it.
    pub(crate) fn is_being_written(&self) -> bool {
        lock(&self.signal.hint).writing.values().any(|since| since.elapsed() < limits::FILE_WRITING)
    }

    /// The same of one file of a tree.
    pub(crate) fn is_being_written_at(&self, file: &Path) -> bool {
        // Events name files by their real paths.
        let real = file.canonicalize();
        let begun = real.ok().and_then(|real| lock(&self.signal.hint).writing.get(&real).copied());
        begun.is_some_and(|since| since.elapsed() < limits::FILE_WRITING)
    }

    fn is_tree(&self) -> bool {
        self.signal.tree.is_some()
    }

    /// Forgets what was seen so far, since the file is about to be read; when the first of it was.
    pub(crate) fn take(&self) -> Option<Instant> {
        let mut hint = lock(&self.signal.hint);
        hint.complete = false;
        hint.since.take()
    }

    /// Somebody says that it has changed, which may be before it is whole and before the watcher saw a thing.
    pub(crate) fn suspect(&self) {
        self.signal.hint(Stage::Unknown, None, Instant::now());
    }

    /// Resolves when the file is seen to have changed, with the time of it. A change that may not be
    /// complete is given a little time to become so. May be dropped at any time.
    pub(crate) async fn changed(&self) -> Instant {
        loop {
            let changed = self.signal.changed.notified();
            let (since, complete_at) = lock(&self.signal.hint).due();
            match (since, complete_at) {
                (None, _) => changed.await,
                (Some(since), None) => return since,
                (Some(since), Some(at)) => {
                    if tokio::time::timeout_at(at.into(), changed).await.is_err() {
                        return since;
                    }
                }
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let directories = std::mem::take(&mut *lock(&self.directories));
        for directory in directories {
            self.watch.unwatch(&directory, &self.signal);
        }
    }
}

/// The directories whose events can concern `path`: its own, its target's, and those of every
/// symbolic link that it leads through; and whether there is such a link. Real paths, so that one
/// directory has one name.
fn places(path: &Path) -> (HashSet<PathBuf>, bool) {
    let linked = |path: &&Path| path.symlink_metadata().is_ok_and(|data| data.file_type().is_symlink());
    let links: Vec<&Path> = path.ancestors().filter(linked).collect();
    let target = path.canonicalize().ok();
    let named = std::iter::once(path).chain(links.iter().copied()).chain(target.as_deref());
    let directories = named.filter_map(|path| match path.parent()? {
        empty if empty.as_os_str().is_empty() => Path::new(".").canonicalize().ok(),
        parent => parent.canonicalize().ok(),
    });
    (directories.collect(), !links.is_empty())
}

/// A number that no other signal has while this one lives.
fn id(signal: &Arc<Signal>) -> usize {
    Arc::as_ptr(signal).addr()
}

/// Adds the folder at `path` and those below it, by their real paths.
fn folders(path: &Path, depth: usize, found: &mut HashSet<PathBuf>) {
    let Ok(entries) = path.read_dir() else { return };
    if depth > limits::CONFIG_DEPTH || found.len() >= limits::MANIFEST_FILES {
        return;
    }
    found.extend(path.canonicalize());
    for entry in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        folders(&entry, depth + 1, found);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
