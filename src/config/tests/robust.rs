//! No text brings the parser down, and none is taken for what it is not.

use std::path::Path;

use proptest::prelude::*;

use crate::config::{parse, parse_endpoints};
use crate::limits;

const COMPLETE: &str = include_str!("../../../config/complete.yaml");

/// Pieces that mean something to YAML or to the configuration.
const PIECES: [&str; 24] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "? ",
    "<<: ",
    "null",
    "-1",
    "99999999999999999999",
    "\u{feff}",
    "\t",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = parse(&text, Path::new(""));
        let _ = parse_endpoints(&text, Path::new(""));
    }

    #[test]
    fn any_pieces_are_read_or_refused(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let _ = parse(&text, Path::new(""));
        let _ = parse_endpoints(&text, Path::new(""));
    }

    #[test]
    fn a_damaged_configuration_is_read_or_refused_with_places(
        start in 0..COMPLETE.len(),
        length in 0..40_usize,
        piece in 0..PIECES.len(),
    ) {
        let characters: Vec<char> = COMPLETE.chars().collect();
        let start = start.min(characters.len());
        let end = (start + length).min(characters.len());
        let text: String =
            characters[..start].iter().copied().chain(PIECES[piece].chars()).chain(characters[end..].iter().copied()).collect();
        if let Err(errors) = parse(&text, Path::new("")) {
            prop_assert!(errors.total() > 0);
            let lines = text.lines().count();
            for error in errors.iter() {
                prop_assert!(error.line <= lines + 1, "{error}");
                prop_assert!(error.line > 0, "{error}");
            }
        }
    }
}

#[test]
fn errors_are_bounded() {
    let wrong = limits::CONFIG_ERRORS * 3;
    let text = format!("listeners: [127.0.0.1:80]\nroutes:\n{}", "- { backend: 1.2.3.4:5 }\n".repeat(wrong));
    let errors = parse(&text, Path::new("")).unwrap_err();
    assert_eq!(errors.iter().count(), limits::CONFIG_ERRORS);
    assert_eq!(errors.total(), wrong);
    assert!(errors.to_string().ends_with(&format!("\nand {} more", wrong - limits::CONFIG_ERRORS)));
}

#[test]
fn depth_and_growth_are_bounded() {
    for open in ["[", "{a: ", "- ", "? "] {
        assert!(parse(&open.repeat(100_000), Path::new("")).is_err());
    }
    let deep = "- ".repeat(limits::CONFIG_DEPTH + 2);
    assert!(parse(&deep, Path::new("")).unwrap_err().to_string().contains("nested deeper"));
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    assert!(parse(laughs, Path::new("")).unwrap_err().to_string().contains("anchors and aliases"));
}
