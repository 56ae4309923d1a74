//! Resources from YAML or JSON, in a file or in all files below a folder.
//!
//! A document that cannot be read is told with its place and costs nothing but itself. Who reads the same
//! place again keeps what was last good of a file until it can be read as a whole again. Kinds that do not
//! matter here (a Deployment beside its Service) are passed over.

mod object;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use self::object::Read;
pub use self::object::object;
use super::resources::{Key, Object, Resources};
use crate::config;
use crate::discovery::kubernetes::{Doubt, service_of};
use crate::limits;

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// All but endpoints.
    pub resources: Resources,
    /// Endpoints.
    pub slices: Vec<EndpointSlice>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// What is used and probably not meant: objects with fields that nobody knows, and objects that stand
    /// there twice.
    pub warnings: Vec<Problem>,
    /// Why endpoints may be out of date, if some are from a file that cannot be read any more, and which.
    pub doubt: Option<Doubt>,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Where each object stands that was read: file and line, by kind and name.
    places: HashMap<(String, Key), (Arc<Path>, usize)>,
}

/// A document that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: Arc<Path>,
    /// Where it begins in the file, from 1; 0 is the whole file.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(formatter, "{}:", self.line)?;
        }
        write!(formatter, " {}", self.message)
    }
}

/// What each file held when it was last read as a whole.
pub type LastGood = BTreeMap<PathBuf, Good>;

/// What a file held when it was read as a whole.
#[derive(Clone, Debug)]
pub struct Good {
    objects: Vec<Object>,
    read: Instant,
}

/// Reads the file at `path`, or every `.yaml`, `.yml` and `.json` file below the folder at `path`.
/// Blocks.
pub fn load(path: &Path) -> Manifests {
    load_again(path, &mut LastGood::new(), |_| false)
}

/// The same for who does so again and again: what a file held in `last` stays while something in it, or the
/// folder that it is in, cannot be read, or while it `is_being_written`: half of it may look like all of it.
/// What was read now counts more, wherever it stands. Blocks.
pub fn load_again(path: &Path, last: &mut LastGood, is_being_written: impl Fn(&Path) -> bool) -> Manifests {
    let now = Instant::now();
    let mut manifests = Manifests::default();
    manifests.find(path, 0);
    manifests.files.sort();
    let mut fresh = Vec::new();
    for file in manifests.files.clone() {
        let objects = match config::read_text(&file) {
            // Asked once it is read, so that a write that began meanwhile counts.
            Ok(_) if is_being_written(&file) => {
                manifests.problem(&file, 0, "it is being written");
                Vec::new()
            }
            Ok(text) => manifests.read(&file, &text),
            Err(error) => {
                manifests.problem(&file, 0, error);
                Vec::new()
            }
        };
        fresh.push((file, objects));
    }
    let broken: HashSet<_> = manifests.problems.iter().map(|problem| problem.file.clone()).collect();
    last.retain(|file, _| file.ancestors().any(|path| broken.contains(path)));
    last.values().flat_map(|good| &good.objects).for_each(|object| manifests.insert(object.clone()));
    manifests.doubt = doubt(last, &fresh, &manifests.problems);
    for (file, objects) in fresh {
        objects.iter().for_each(|object| manifests.insert(object.clone()));
        if !broken.contains(&*file) {
            last.insert(file, Good { objects, read: now });
        }
    }
    // As with the other kinds, the last one of a name is meant.
    let slices = manifests.slices.drain(..).map(|slice| (Key::of(&slice), slice));
    manifests.slices = slices.collect::<BTreeMap<_, _>>().into_values().collect();
    manifests
}

/// What is doubted of endpoints: those in `last` that are in none of the `fresh` files.
fn doubt(last: &LastGood, fresh: &[(PathBuf, Vec<Object>)], problems: &[Problem]) -> Option<Doubt> {
    let slices = |objects: &[Object]| {
        let slices = objects.iter().filter_map(|object| match object {
            Object::Slice(slice) => Some((Key::of(slice), service_of(slice))),
            _ => None,
        });
        slices.collect::<HashMap<_, _>>()
    };
    let known: HashSet<_> = fresh.iter().flat_map(|(_, objects)| slices(objects).into_keys()).collect();
    let mut doubted = None;
    let mut kept = HashMap::new();
    for (file, good) in last {
        let slices = slices(&good.objects);
        doubted = doubted.or(Some(file).filter(|_| !slices.is_empty()));
        let services = slices.into_iter().filter(|(slice, _)| !known.contains(slice));
        for service in services.filter_map(|(_, service)| service) {
            let since = kept.entry(service).or_insert(good.read);
            *since = good.read.min(*since);
        }
    }
    let problem = problems.iter().find(|one| doubted.is_some_and(|file| file.starts_with(&one.file)))?;
    Some(Doubt { why: format!("some endpoints may be out of date: {problem}"), kept })
}

/// Whether what is at `path` is manifests rather than a configuration of ours.
pub fn are_at(path: &Path) -> bool {
    path.is_dir()
        || config::read_text(path).is_ok_and(|text| {
            text.lines().any(|line| {
                let line = line.trim_start_matches(['{', ' ', '\t', '"']);
                line.strip_prefix("apiVersion")
                    .is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(':'))
            })
        })
}

impl Manifests {
    /// Adds what `text`, the content of `file`, holds.
    pub fn add(&mut self, file: &Path, text: &str) {
        self.read(file, text).into_iter().for_each(|object| self.insert(object));
    }

    fn insert(&mut self, object: Object) {
        self.slices.extend(self.resources.insert(object));
    }

    /// The objects in `text`, the content of `file`.
    fn read(&mut self, file: &Path, text: &str) -> Vec<Object> {
        let mut objects = Vec::new();
        let file: Arc<Path> = file.into();
        for (line, document) in config::documents(text) {
            match document {
                Ok(document) => self.document(&file, line, document, &mut objects),
                Err(error) => self.problem(&file, line, error),
            }
        }
        objects
    }

    fn document(&mut self, file: &Arc<Path>, line: usize, document: Value, objects: &mut Vec<Object>) {
        let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        if let (true, Some(items)) = (is_list, document.get("items").and_then(Value::as_array)) {
            for item in items.clone() {
                self.document(file, line, item, objects);
            }
            return;
        }
        match object::read(document) {
            Ok(Some(Read { object, kind, key, unknown })) => {
                objects.push(object);
                let warning = |message| Problem { file: file.clone(), line, message };
                self.warnings.extend(unknown.into_iter().map(warning));
                let place = (file.clone(), line);
                if let Some((other, at)) = self.places.insert((kind.clone(), key.clone()), place) {
                    let other = format!("{}:{at}", other.display());
                    self.warnings.push(warning(format!(
                        "{kind} {key} stands in {other} as well, and this one is used; hint: keep one of them"
                    )));
                }
            }
            Ok(None) => {}
            Err(error) => self.problem(file, line, error),
        }
    }

    /// Finds the files at `path`, which may be a folder; whether there may be more.
    fn find(&mut self, path: &Path, depth: usize) -> bool {
        let told = |error: std::io::Error| format!("cannot be read: {error}");
        let entries = match path.metadata() {
            Ok(found) if found.is_file() => {
                self.files.push(path.to_owned());
                return true;
            }
            Ok(_) => path.read_dir(),
            // It went while the folder was looked through.
            Err(error) if depth > 0 && error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
                return true;
            }
            Err(error) => Err(error),
        };
        let entries = match entries {
            _ if depth > limits::CONFIG_DEPTH => {
                Err(format!("folders are nested deeper than {}", limits::CONFIG_DEPTH))
            }
            entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(told),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(path, 0, error);
                return true;
            }
        };
        for entry in entries.into_iter().map(|entry| entry.path()) {
            if !matters(&entry) {
                continue;
            }
            if self.files.len() >= limits::MANIFEST_FILES {
                self.problem(path, 0, format!("there are more than {} files", limits::MANIFEST_FILES));
                return false;
            }
            if !self.find(&entry, depth + 1) {
                return false;
            }
        }
        true
    }

    fn problem(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), line, message: message.into() });
    }
}

/// Whether an entry of a folder is looked at: a folder, or a file of a known name. What is hidden is not,
/// such as the folders behind the links of a mounted ConfigMap.
pub fn matters(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = matches!(path.extension().and_then(|end| end.to_str()), Some("yaml" | "yml" | "json"));
    !hidden && (known || path.is_dir())
}

#[cfg(test)]
mod tests;
