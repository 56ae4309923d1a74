//! What of a configuration is not shown to people who may look at it.

use http::HeaderName;
use serde_json::Value;

/// What stands in for a value that is not shown.
const HIDDEN: &str = "(hidden)";

/// Whether values of this header field are credentials.
pub(super) fn is_sensitive(name: &HeaderName) -> bool {
    looks_sensitive(name.as_str())
}

/// Hides credentials among header fields and parameters of queries; all else that is secret is in
/// files that a configuration only names.
pub(super) fn hide(document: &mut Value) {
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                if let ("set" | "add" | "headers" | "query", Value::Object(fields)) =
                    (key.as_str(), &mut *value)
                {
                    for (_, field) in fields.iter_mut().filter(|(name, _)| looks_sensitive(name)) {
                        // A mapping is hidden by its parts, for it may be one of the four words itself.
                        hide_texts(field);
                    }
                }
                hide(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn hide_texts(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(hide_texts),
        Value::Array(items) => items.iter_mut().for_each(hide_texts),
        value => *value = HIDDEN.into(),
    }
}

fn looks_sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "token", "secret", "password", "api-key", "api_key", "apikey"]
        .iter()
        .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_nothing_else() {
        let mut document = serde_json::json!({
            "admin": { "token_file": "path" },
            "backends": { "token": { "dns": "a:80" } },
            "routes": [{
                "matches": [{ "headers": { "Authorization": "a", "x": "y" }, "query": { "api_key": { "exact": "b" } } }],
                "filters": { "request_headers": { "set": { "cookie": "c", "x-a": 1 }, "remove": ["cookie"] } },
            }],
        });
        hide(&mut document);
        let expected = serde_json::json!({
            "admin": { "token_file": "path" },
            "backends": { "token": { "dns": "a:80" } },
            "routes": [{
                "matches": [{
                    "headers": { "Authorization": "(hidden)", "x": "y" },
                    "query": { "api_key": { "exact": "(hidden)" } },
                }],
                "filters": { "request_headers": { "set": { "cookie": "(hidden)", "x-a": 1 }, "remove": ["cookie"] } },
            }],
        });
        assert_eq!(document, expected);
    }
}
