//! YAML for people: blocks, in the order in which things were put in.

use serde_json::Value;

/// `value` as a YAML document that ends with a line.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&word(name));
                text.push(':');
                below(value, indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str("- ");
                write(item, indent + 2, text);
            }
        }
        Value::String(string) => {
            text.push_str(&word(string));
            text.push('\n');
        }
        // What is empty or simple is the same in JSON.
        other => text.push_str(&format!("{other}\n")),
    }
}

fn below(value: &Value, indent: usize, text: &mut String) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    match nested {
        true => {
            text.push('\n');
            text.push_str(&" ".repeat(indent + 2));
            write(value, indent + 2, text);
        }
        false => {
            text.push(' ');
            write(value, indent, text);
        }
    }
}

/// `text` as it is if nothing else can be read in it, else quoted as in JSON.
fn word(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.chars().all(|one| one.is_ascii_alphanumeric() || "/._-@".contains(one));
    let means_something = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|one| text.eq_ignore_ascii_case(one));
    if plain && !means_something { text.to_owned() } else { Value::from(text).to_string() }
}
