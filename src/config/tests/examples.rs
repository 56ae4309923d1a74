//! The files in config/ are what they claim to be.

use std::path::{Path, PathBuf};

use crate::config::document::Document;
use crate::config::{load, parse, parse_endpoints, schema};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_example_loads_without_a_warning_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for path in files(&folder()) {
        let configuration = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(configuration.warnings, []);
        let errors: Vec<String> = validator
            .iter_errors(&configuration.document)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

#[test]
fn every_endpoint_file_loads() {
    for path in files(&folder().join("endpoints")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let endpoints = parse_endpoints(&text, &folder()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(endpoints.len(), 2, "{}", path.display());
    }
}

/// Whatever the schema has a name for is in complete.yaml, so that it stays complete.
#[test]
fn the_complete_example_uses_every_key() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                map.values().for_each(|value| keys(value, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(folder().join("complete.yaml")).unwrap();
    let mut known = Vec::new();
    keys(&schema(), &mut known);
    assert!(known.len() > 50, "{known:?}");
    for key in known {
        assert!(text.contains(&format!("{key}:")), "{key} is not in complete.yaml");
    }
}

/// What an editor would refuse must be refused here too, and what is refused here for its shape
/// should be there.
#[test]
fn the_schema_refuses_what_is_refused() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for text in [
        "listeners: []\nmore: 1",
        "routes: []",
        "listeners: [8080]",
        "listeners: ['127.0.0.1:80']\nworkers: 0",
        "listeners: ['127.0.0.1:80']\nroutes: [{ backend: http://a, timeouts: { request: 5 } }]",
        "listeners: ['127.0.0.1:80']\nroutes: [{ backend: http://a, mirrors: [{ backend: b, percent: 101 }] }]",
        "listeners: ['127.0.0.1:80']\nroutes: [{ backend: http://a, matches: [{ path: { prefix: api } }] }]",
        "listeners: ['127.0.0.1:80']\nroutes: [{ backend: http://a, matches: [{ path: { prefix: /a, exact: /a } }] }]",
        "listeners: ['127.0.0.1:80']\nbackends: { a: { dns: a:80, srv: _a._b.c } }",
        "listeners: ['127.0.0.1:80']\nbackends: { a: { protocol: h2c } }",
        "listeners: ['127.0.0.1:80']\nadmin: { token: x }",
        "listeners: ['127.0.0.1:80']\naccess_log: stderr",
    ] {
        assert!(parse(text, Path::new("")).is_err(), "{text}");
        let document = Document::parse(text).unwrap().to_json(Document::ROOT);
        assert!(!validator.is_valid(&document), "the schema takes {text}");
    }
}

#[test]
fn files_that_cannot_be_read_say_so_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let told = load(&missing).unwrap_err().to_string();
    assert!(told.starts_with(&format!("{}: cannot be read: ", missing.display())), "{told}");

    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, b"listeners: []\nvia: \xff\n").unwrap();
    assert_eq!(load(&binary).unwrap_err().to_string(), format!("{}:2:1 not UTF-8", binary.display()));

    let wrong = folder.path().join("wrong.yaml");
    std::fs::write(&wrong, "listeners: [127.0.0.1:80]\nvia: a b\n").unwrap();
    let told = load(&wrong).unwrap_err().to_string();
    assert!(told.starts_with(&format!("{}:2:6 via: ", wrong.display())), "{told}");
}
