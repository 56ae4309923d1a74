//! Endpoints from a file that is watched, whichever way it is replaced: by rename, by swapping a
//! symbolic link (as Kubernetes does for a ConfigMap), or in place.
//!
//! A file that is missing, half-written or invalid is a failure: what was last read stays in use.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::ParseEndpoints;
use super::resolver::Answer;
use super::source::{EndpointSpec, SourceError, Update};
use crate::file_watch::{FileWatch, Watched};
use crate::limits;

/// A watched file of endpoints.
pub(super) struct FileSource {
    path: PathBuf,
    parse: ParseEndpoints,
    watched: Arc<Watched>,
    last: Option<Arc<Reading>>,
}

/// What was read, and of which file.
struct Reading {
    stamp: Stamp,
    /// Another write since would show in the stamp.
    settled: bool,
    endpoints: Vec<EndpointSpec>,
}

/// Changes whenever the file is replaced or written, as far as the clock of the file system tells.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileSource {
    /// Nothing is read or watched before [`FileSource::ask`].
    pub(super) fn open(path: PathBuf, parse: ParseEndpoints, files: &FileWatch) -> Self {
        Self { watched: Arc::new(files.file(path.clone())), path, parse, last: None }
    }

    /// Reads the file.
    pub(super) async fn ask(&mut self) -> Answer {
        let (path, parse) = (self.path.clone(), self.parse);
        let (watched, last) = (self.watched.clone(), self.last.clone());
        // The control runtime is shared: no thread of it may hang on a slow disk.
        let done = spawn_blocking(move || {
            // Watched before it is read, so that no change falls in between.
            let watching = watched.refresh();
            if watched.is_being_written() {
                // The hint stays: it is read once it is closed.
                return (watching, Instant::now(), Err("it is being written".to_owned()));
            }
            let event = watched.take().unwrap_or_else(Instant::now);
            (watching, event, read(&path, parse, last))
        });
        let (watching, event, reading) = match done.await {
            Ok(done) => done,
            Err(panic) => match panic.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => (Ok(()), Instant::now(), Err("the process is stopping".to_owned())),
            },
        };
        let update = match reading {
            Ok(reading) => {
                let endpoints = reading.endpoints.clone();
                self.last = Some(reading);
                Update::Full(endpoints)
            }
            Err(error) => {
                self.last = None;
                Update::Failed(SourceError(format!("{}: {error}", self.path.display())))
            }
        };
        let warning = watching.err().map(|error| {
            let every = limits::FILE_RESYNC;
            format!("{} is not watched but read every {every:?}: {error}", self.path.display())
        });
        Answer { update, event, refresh: Some(limits::FILE_RESYNC), warning }
    }

    /// Resolves, with the time of the event, when the file is seen to have changed.
    pub(super) async fn changed(&mut self) -> Instant {
        self.watched.changed().await
    }
}

/// Reads the file unless it is the one that was read `last`.
fn read(path: &Path, parse: ParseEndpoints, last: Option<Arc<Reading>>) -> Result<Arc<Reading>, String> {
    let unchanged = |last: &Arc<Reading>| {
        // Asked by name: to open it would be an event for everybody who watches.
        let found = path.metadata().map(|data| Stamp::of(&data));
        last.settled && found.is_ok_and(|found| found == last.stamp)
    };
    if let Some(last) = last.filter(unchanged) {
        return Ok(last);
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let stamp = Stamp::of(&file.metadata().map_err(|error| error.to_string())?);
    if stamp.length > limits::FILE_BYTES {
        return Err(format!("larger than {} bytes", limits::FILE_BYTES));
    }
    let text = read_text(&file).map_err(|error| error.to_string())?;
    // Otherwise it was written while it was read, and what was read may never have been meant.
    let after = Stamp::of(&file.metadata().map_err(|error| error.to_string())?);
    if after != stamp || text.len() as u64 != stamp.length {
        return Err("changed while it was read".to_owned());
    }
    Ok(Arc::new(Reading { stamp, settled: stamp.settled(), endpoints: parse(&text)? }))
}

fn read_text(file: &File) -> io::Result<String> {
    let mut text = String::new();
    // A device or a pipe has no length: the bound must hold for what is read, too.
    file.take(limits::FILE_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether another write would have shown: file systems count time in ticks, and what happens
    /// twice within one looks like once.
    fn settled(&self) -> bool {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
        i64::try_from(now).is_ok_and(|now| now - self.changed.0 > 2)
    }
}

#[cfg(test)]
mod tests;
