//! The file that a backend's `file` names: its endpoints and nothing else.

use std::path::Path;

use super::compile;
use super::decode::{Decode, Report};
use super::document::Document;
use super::error::{Errors, Problem};
use super::raw::EndpointFile;
use crate::discovery::source::EndpointSpec;

/// Reads the text of an endpoint file, YAML or JSON; sockets' relative paths are relative to `base`,
/// the folder of the file.
///
/// A text that was cut off is an error and never a shorter list, as far as a text can show it: an
/// empty one, an open bracket or quote, a last line that does not end.
pub fn parse_endpoints(text: &str, base: &Path) -> Result<Vec<EndpointSpec>, Errors> {
    let document = Document::parse(text)?;
    if !text.ends_with('\n') && !text.trim_end().ends_with([']', '}']) {
        let message = "the last line does not end: the file may be half-written";
        let problem = Problem::new(message).hint("end it with a line break");
        return Err(Errors::one(problem.at(text.lines().count(), 1, String::new())));
    }
    let mut report = Report::new(&document);
    let file = EndpointFile::decode(Document::ROOT, &mut report);
    match file {
        Some(file) if report.errors.is_empty() => {
            Ok(file.endpoints.items.iter().map(|raw| compile::endpoint(raw, base)).collect())
        }
        _ => Err(report.errors.settled()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WHOLE: &str =
        "endpoints: [127.0.0.1:9001, { address: 127.0.0.1:9002, weight: 2, zone: a }, unix:s]";

    fn parse(text: &str) -> Result<Vec<EndpointSpec>, Errors> {
        parse_endpoints(text, Path::new("/etc/gate"))
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let json = "{\n\t\"endpoints\": [\n\t\t\"127.0.0.1:9001\",\n\t\t{\"address\": \"127.0.0.1:9002\", \
                    \"weight\": 2, \"zone\": \"a\"},\n\t\t\"unix:s\"\n\t]\n}";
        let block = "endpoints:\n  - 127.0.0.1:9001\n  - address: 127.0.0.1:9002\n    weight: 2\n    zone: a\n\
                     \x20 - unix:s\n";
        let specs = parse(WHOLE).unwrap();
        let shown: Vec<_> =
            specs.iter().map(|spec| (spec.address.to_string(), spec.weight, spec.zone.as_deref())).collect();
        let expected = [
            ("127.0.0.1:9001".to_owned(), 1, None),
            ("127.0.0.1:9002".to_owned(), 2, Some("a")),
            ("unix:/etc/gate/s".to_owned(), 1, None),
        ];
        assert_eq!(shown, expected);
        assert_eq!(parse(json).unwrap(), specs);
        assert_eq!(parse(block).unwrap(), specs);
    }

    #[test]
    fn no_beginning_of_a_file_is_taken_for_the_whole() {
        for length in 0..WHOLE.len() {
            let cut = WHOLE.get(..length).unwrap();
            assert!(parse(cut).is_err(), "{cut:?}");
        }
        assert!(parse("endpoints:\n  - 127.0.0.1:9001\n  - 127.0.0.1:90").is_err());
        assert!(parse("endpoints:\n").is_err());
    }

    #[test]
    fn an_empty_list_is_an_answer() {
        assert_eq!(parse("endpoints: []"), Ok(Vec::new()));
    }

    #[test]
    fn each_wrong_entry_is_told() {
        let text = "endpoints:\n- app:80\n- 127.0.0.1:9001\n- { adress: 127.0.0.1:9002 }\nmore: 1\n";
        let told = parse(text).unwrap_err().to_string();
        let places: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(places, ["2:3", "4:5", "5:1"], "{told}");
    }
}
