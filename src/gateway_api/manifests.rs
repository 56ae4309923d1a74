//! Resources from YAML or JSON, in a file or in all files below a folder.
//!
//! A document that cannot be read is told with its place and costs nothing but itself. Kinds that do
//! not matter here (a Deployment beside its Service) are passed over.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::resources::{Object, Resources};
use crate::config;
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
    /// The files.
    pub files: Vec<PathBuf>,
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

/// Reads the file at `path`, or every `.yaml`, `.yml` and `.json` file below the folder at `path`.
/// Blocks.
pub fn load(path: &Path) -> Manifests {
    let mut manifests = Manifests::default();
    let mut files = Vec::new();
    if let Err(error) = find(path, 0, &mut files) {
        manifests.problem(path, 0, error);
    }
    files.sort();
    for file in files {
        match config::read_text(&file) {
            Ok(text) => manifests.add(&file, &text),
            Err(error) => manifests.problem(&file, 0, error),
        }
        manifests.files.push(file);
    }
    manifests
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
        for (line, document) in config::documents(text) {
            match document {
                Ok(document) => self.document(file, line, document),
                Err(error) => self.problem(file, line, error),
            }
        }
    }

    fn document(&mut self, file: &Path, line: usize, document: Value) {
        let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        if let (true, Some(items)) = (is_list, document.get("items").and_then(Value::as_array)) {
            for item in items.clone() {
                self.document(file, line, item);
            }
            return;
        }
        match object(document) {
            Ok(Some(object)) => self.slices.extend(self.resources.insert(object)),
            Ok(None) => {}
            Err(error) => self.problem(file, line, error),
        }
    }

    fn problem(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), line, message: message.into() });
    }
}

/// Reads one object; `None` if its kind does not matter here.
pub fn object(mut document: Value) -> Result<Option<Object>, String> {
    fn read<K: DeserializeOwned>(document: Value, name: &str) -> Result<K, String> {
        serde_json::from_value(document).map_err(|error| format!("{name}: {error}"))
    }
    let text = |key| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.is_empty() || kind.is_empty() {
        return Err("it has no apiVersion or no kind".to_owned());
    }
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(format!("{kind}: it has no metadata.name"));
    }
    let name = format!("{kind} {name}");
    let everywhere = matches!(kind.as_str(), "GatewayClass" | "Namespace");
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
        && !everywhere
    {
        metadata.entry("namespace").or_insert_with(|| "default".into());
    }
    // What a cluster said of it once is not part of what is asked for.
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
    }
    Ok(Some(match (group.as_str(), kind.as_str()) {
        (super::GROUP, "GatewayClass") => Object::Class(read(document, &name)?),
        (super::GROUP, "Gateway") => Object::Gateway(read(document, &name)?),
        (super::GROUP, "ListenerSet") => Object::ListenerSet(read(document, &name)?),
        (super::GROUP, "HTTPRoute") => Object::HttpRoute(read(document, &name)?),
        (super::GROUP, "GRPCRoute") => Object::GrpcRoute(read(document, &name)?),
        (super::GROUP, "TLSRoute") => Object::TlsRoute(read(document, &name)?),
        (super::GROUP, "ReferenceGrant") => Object::Grant(read(document, &name)?),
        (super::GROUP, "BackendTLSPolicy") => Object::TlsPolicy(read(document, &name)?),
        ("mirrorgate.dev", "MirrorPolicy") => Object::MirrorPolicy(read(document, &name)?),
        ("", "Service") => Object::Service(read(document, &name)?),
        ("", "Secret") => Object::Secret(read(document, &name)?),
        ("", "ConfigMap") => Object::ConfigMap(read(document, &name)?),
        ("", "Namespace") => Object::Namespace(read(document, &name)?),
        ("discovery.k8s.io", "EndpointSlice") => Object::Slice(read(document, &name)?),
        _ => return Ok(None),
    }))
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}");
    if path.metadata().map_err(told)?.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > limits::CONFIG_DEPTH {
        return Err(format!("folders are nested deeper than {}", limits::CONFIG_DEPTH));
    }
    for entry in path.read_dir().map_err(told)? {
        let entry = entry.map_err(told)?.path();
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = matches!(entry.extension().and_then(|end| end.to_str()), Some("yaml" | "yml" | "json"));
        if hidden || !(entry.is_dir() || known) {
            continue;
        }
        if files.len() >= limits::MANIFEST_FILES {
            return Err(format!("there are more than {} files", limits::MANIFEST_FILES));
        }
        find(&entry, depth + 1, files)?;
    }
    Ok(())
}
