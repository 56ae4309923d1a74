//! Everything but listeners and routes, for a gateway that gets those from Kubernetes resources: a
//! configuration file's, or the defaults. The feed reads it again with the resources. A file that became
//! unusable keeps neither them nor itself from being served: what was last good of it stays, and that is
//! told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Unusable, unusable};
use crate::config::{self, Configuration};
use crate::file_watch::{FileWatch, Watched};

pub(super) struct Base {
    file: Option<PathBuf>,
    watched: Option<Arc<Watched>>,
    state: Mutex<State>,
}

struct State {
    good: Configuration,
    /// The file's text as it was last looked at; `None` when it could not be read.
    text: Option<String>,
    /// What is wrong with that.
    problem: Option<String>,
}

impl Base {
    /// The configuration in `file`, or the defaults with `admin` (an address or `off`).
    pub(super) fn new(file: Option<PathBuf>, admin: Option<&str>) -> Result<Self, Unusable> {
        let text = file.as_deref().map(config::text_of).transpose().map_err(unusable)?;
        let good = match (&file, &text) {
            (Some(file), Some(text)) => config::load_base(text, file),
            _ => config::default_base(admin),
        };
        let good = good.map_err(unusable)?;
        let watched = file.clone().map(|file| Arc::new(FileWatch::default().file(file)));
        Ok(Self { file, watched, state: Mutex::new(State { good, text, problem: None }) })
    }

    /// What is good of it at present. Blocks.
    pub(super) fn load(&self) -> Configuration {
        let mut state = self.state();
        let Some(file) = &self.file else { return state.good.clone() };
        // Whatever it is that is loaded now, half of this file may look like all of it. It is loaded again
        // once the file is closed.
        if self.watched.as_ref().is_some_and(|watched| watched.is_being_written()) {
            return state.good.clone();
        }
        let read = config::text_of(file);
        let text = read.as_ref().ok().cloned();
        // The same text is looked at again and again; it is read and told of once.
        if text.is_none() || text != state.text {
            match read.and_then(|text| config::load_base(&text, file)) {
                Ok(good) => (state.good, state.problem) = (good, None),
                Err(errors) => {
                    let problem = Some(errors.to_string());
                    if state.problem != problem {
                        tracing::error!(
                            "the configuration is unusable, what was good of it stays:\n{errors}"
                        );
                    }
                    state.problem = problem;
                }
            }
            state.text = text;
        }
        state.good.clone()
    }

    /// Whether the file says something else than when it was last loaded. Blocks.
    #[cfg(any(test, feature = "kubernetes"))]
    pub(super) fn is_outdated(&self) -> bool {
        self.file.as_deref().is_some_and(|file| config::text_of(file).ok() != self.state().text)
    }

    /// What is wrong with the file at present.
    pub(super) fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Tells of the file's changes, if there is one.
    pub(super) fn watched(&self) -> Option<Arc<Watched>> {
        self.watched.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_broken_keeps_what_was_good_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("base.yaml");
        let body = |base: &Base| base.load().plan.limits.body;
        std::fs::write(&file, "limits: { body: 1KiB }").unwrap();
        let base = Base::new(Some(file.clone()), None).unwrap();
        assert_eq!((body(&base), base.problem(), base.is_outdated()), (Some(1024), None, false));

        std::fs::write(&file, "limits: { body: 2KiB }").unwrap();
        assert!(base.is_outdated());
        assert_eq!((body(&base), base.problem(), base.is_outdated()), (Some(2048), None, false));

        std::fs::write(&file, "limits: { bodies: 3KiB }").unwrap();
        assert_eq!(body(&base), Some(2048));
        let problem = base.problem().unwrap();
        assert!(problem.contains("base.yaml:1:11 limits.bodies"), "{problem}");
        assert!(!base.is_outdated());

        std::fs::remove_file(&file).unwrap();
        assert_eq!(body(&base), Some(2048));
        let problem = base.problem().unwrap();
        assert!(problem.contains("base.yaml") && !problem.contains("bodies"), "{problem}");

        std::fs::write(&file, "limits: { body: 4KiB }").unwrap();
        assert_eq!((body(&base), base.problem()), (Some(4096), None));
    }

    #[test]
    fn without_a_file_it_is_the_defaults() {
        let base = Base::new(None, Some("off")).unwrap();
        assert_eq!((base.load().plan.admin, base.problem(), base.is_outdated()), (None, None, false));
        assert!(base.watched().is_none());
        let missing = Base::new(Some("no such file".into()), None).err().unwrap();
        assert!(missing.0.contains("no such file"), "{}", missing.0);
    }
}
