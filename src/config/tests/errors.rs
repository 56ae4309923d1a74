//! What is said about wrong configurations: `errors.txt` holds them, each with all that is said.

use std::path::Path;

use crate::config::parse;

/// Cases: `=== title`, the configuration, `---`, the errors one a line.
const CASES: &str = include_str!("errors.txt");

#[test]
fn every_error_is_told_once_with_its_place_and_a_hint() {
    let mut wrong = String::new();
    let mut count = 0;
    for case in CASES.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("\n---\n").unwrap();
        let told = match parse(text, Path::new("")) {
            Ok(_) => "nothing".to_owned(),
            Err(errors) => errors.to_string(),
        };
        if told != expected.trim_end() {
            wrong.push_str(&format!("=== {title}\n{text}\n---\n{told}\n\n"));
        }
        count += 1;
    }
    assert!(count >= 25, "{count} cases found");
    assert!(wrong.is_empty(), "told otherwise:\n{wrong}");
}
