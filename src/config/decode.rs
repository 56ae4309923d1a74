//! From a [`Document`] to the raw types: every error is told, none is invented.
//!
//! Not serde, because serde ends at the first error: here a value that cannot be read is reported
//! and left out, and reading goes on with its neighbours. [`record!`] declares the keys of a mapping
//! once; they are read, checked and described (JSON Schema) by that declaration alone.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::document::{At, Document, Kind};
use super::error::{Errors, Problem};

/// Something that can stand in a configuration.
pub(super) trait Decode: Sized {
    /// Reads the node at `at`; `None` after a report of why it cannot be read.
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self>;

    /// What it means that it is not there; `None` if it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// What has been found wrong so far.
pub(super) struct Report<'document> {
    pub(super) document: &'document Document,
    pub(super) errors: Errors,
    pub(super) warnings: Errors,
}

impl<'document> Report<'document> {
    pub(super) fn new(document: &'document Document) -> Self {
        Self { document, errors: Errors::default(), warnings: Errors::default() }
    }

    pub(super) fn error(&mut self, at: At, problem: Problem) {
        self.errors.push(self.document.error(at, problem));
    }

    pub(super) fn warn(&mut self, at: At, problem: Problem) {
        self.warnings.push(self.document.error(at, problem));
    }

    fn unexpected(&mut self, at: At, expected: &str, hint: Option<String>) {
        let found = match self.document.kind(at) {
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
            Kind::Scalar { .. } if self.document.is_null(at) => "nothing".to_owned(),
            Kind::Scalar { text, .. } => format!("{text:?}"),
        };
        self.error(at, Problem { message: format!("expected {expected}, found {found}"), hint });
    }
}

/// A value that is written as one text.
pub(super) trait Scalar: Sized {
    /// What it is, with its article, for messages.
    const EXPECTED: &'static str;
    /// Whether quotes make it something else, as with numbers.
    const UNQUOTED: bool = false;

    /// What `text` means.
    fn parse(text: &str) -> Result<Self, Problem>;

    /// Its JSON Schema.
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: At,
}

impl<T: Scalar> Decode for Located<T> {
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self> {
        match report.document.kind(at) {
            Kind::Scalar { text, plain } if !report.document.is_null(at) => {
                if T::UNQUOTED && !plain {
                    let problem = Problem::new(format!("expected {}, found a text", T::EXPECTED));
                    report.error(at, problem.hint("remove the quotes"));
                    return None;
                }
                match T::parse(text) {
                    Ok(value) => return Some(Self { value, at }),
                    Err(problem) => report.error(at, problem),
                }
            }
            _ => report.unexpected(at, T::EXPECTED, None),
        }
        None
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self> {
        T::decode(at, report).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A list; what cannot be read of it is left out of `items`.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    pub(super) at: At,
    /// How many there are in the document.
    pub(super) length: usize,
}

impl<T: Decode> Decode for List<T> {
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self> {
        let Kind::Sequence(items) = report.document.kind(at) else {
            match report.document.text(at) {
                text if !text.is_empty() && !report.document.is_null(at) => {
                    let problem = Problem::new(format!("expected a list, found {text:?}"));
                    report.error(at, problem.hint(format!("write [{text:?}]")));
                }
                _ => report.unexpected(at, "a list", None),
            }
            return None;
        };
        let length = items.len();
        let items = items.iter().filter_map(|item| T::decode(*item, report)).collect();
        Some(Self { items, at, length })
    }
}

/// A mapping with keys of the user's choice, in order; `None` for what cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(pub(super) Vec<(Located<String>, Option<T>)>);

impl<T: Decode> Decode for Table<T> {
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self> {
        let Kind::Mapping(entries) = report.document.kind(at) else {
            report.unexpected(at, "a mapping", None);
            return None;
        };
        let entries = entries.iter().map(|(key, value)| {
            let name = Located { value: report.document.text(*key).to_owned(), at: *key };
            (name, T::decode(*value, report))
        });
        Some(Self(entries.collect()))
    }
}

/// A word or a mapping, where the two do not mean the same.
#[derive(Clone, Debug)]
pub(super) enum WordOr<W, M> {
    Word(W),
    Mapping(M),
}

impl<W: Decode, M: Decode> Decode for WordOr<W, M> {
    fn decode(at: At, report: &mut Report<'_>) -> Option<Self> {
        match report.document.kind(at) {
            Kind::Mapping(_) => M::decode(at, report).map(Self::Mapping),
            _ => W::decode(at, report).map(Self::Word),
        }
    }
}

/// Which of the keys of a record were written, whether or not their values can be read.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) at: At,
    keys: Vec<(&'static str, At)>,
    typos: Vec<&'static str>,
}

impl Given {
    /// Where `key` stands, if it was written.
    pub(super) fn key(&self, key: &str) -> Option<At> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, at)| *at)
    }

    /// Whether `key` was written, or something that was probably meant to be it: then an error has
    /// been told, and that the key is missing would be one too many.
    pub(super) fn intended(&self, key: &str) -> bool {
        self.key(key).is_some() || self.typos.contains(&key)
    }
}

/// The values of a record while it is read; used by [`record!`].
pub(super) struct Fields {
    pub(super) given: Given,
    values: Vec<(&'static str, At)>,
}

impl Fields {
    /// The entries of the mapping at `at` that have one of the `known` keys; the others are told.
    /// With a `shorthand`, anything but a mapping is the value of that key.
    pub(super) fn read(
        at: At,
        known: &'static [&'static str],
        shorthand: Option<&'static str>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let mut fields =
            Self { given: Given { at, keys: Vec::new(), typos: Vec::new() }, values: Vec::new() };
        let document = report.document;
        match (document.kind(at), shorthand) {
            (Kind::Mapping(entries), _) => {
                for (key, value) in entries {
                    fields.entry(*key, *value, known, report);
                }
            }
            (Kind::Scalar { .. }, Some(shorthand)) if !document.is_null(at) => {
                fields.given.keys.push((shorthand, at));
                fields.values.push((shorthand, at));
            }
            (_, shorthand) => {
                let expected = if shorthand.is_some() { "a text or a mapping" } else { "a mapping" };
                report.unexpected(at, expected, Some(format!("its keys are {}", known.join(", "))));
                return None;
            }
        }
        Some(fields)
    }

    fn entry(&mut self, key: At, value: At, known: &'static [&'static str], report: &mut Report<'_>) {
        let text = report.document.text(key);
        if let Some(name) = known.iter().find(|name| **name == text) {
            self.given.keys.push((name, key));
            self.values.push((name, value));
            return;
        }
        let allowed = format!("allowed here: {}", known.join(", "));
        let meant = suggest(text, known.iter().copied());
        let hint = match meant {
            Some(meant) => format!("did you mean {meant:?}? {allowed}"),
            None => allowed,
        };
        self.given.typos.extend(meant);
        report.error(key, Problem::new(format!("unknown key {text:?}")).hint(hint));
    }

    /// The value of `key`, or what its absence means.
    pub(super) fn decode<T: Decode>(&self, key: &'static str, report: &mut Report<'_>) -> Option<T> {
        if let Some((_, at)) = self.values.iter().find(|(name, _)| *name == key) {
            return T::decode(*at, report).or_else(T::absent);
        }
        let absent = T::absent();
        if absent.is_none() && !self.given.intended(key) {
            report.error(self.given.at, Problem::new(format!("`{key}` is missing")));
        }
        absent
    }
}

/// The candidate that `word` is a slip of the finger away from.
pub(super) fn suggest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Distances cost the product of the lengths; no sensible word is longer.
    const LONGEST: usize = 128;
    if word.len() > LONGEST {
        return None;
    }
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Declares a mapping: its keys, their types and what they mean. `shorthand key` lets a text stand
/// for the mapping that has just this key.
macro_rules! record {
    (@shorthand) => { None };
    (@shorthand $key:ident) => { Some(stringify!($key)) };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Name:ident $(shorthand $shorthand:ident)? {
            $($(#[$field_attribute:meta])* $field:ident: $Type:ty,)*
        }
    ) => {
        #[derive(Clone, Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields $(, transform = |schema: &mut schemars::Schema| {
            $crate::config::decode::or_text(schema, stringify!($shorthand));
        })?)]
        $(#[$attribute])*
        $visibility struct $Name {
            // Not every mapping has rules about which of its keys may stand together.
            #[allow(dead_code)]
            #[schemars(skip)]
            $visibility given: $crate::config::decode::Given,
            $($(#[$field_attribute])* $visibility $field: $Type,)*
        }

        impl $crate::config::decode::Decode for $Name {
            fn decode(
                at: $crate::config::document::At,
                report: &mut $crate::config::decode::Report<'_>,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($field)),*];
                let shorthand = record!(@shorthand $($shorthand)?);
                let fields = $crate::config::decode::Fields::read(at, KEYS, shorthand, report)?;
                // All of them before the first `?`: each has its own errors to tell.
                $(let $field = fields.decode::<$Type>(stringify!($field), report);)*
                Some(Self { $($field: $field?,)* given: fields.given })
            }
        }
    };
}
pub(super) use record;

/// Lets what stands for `key` stand for the whole mapping.
pub(super) fn or_text(schema: &mut Schema, key: &str) {
    let mapping = std::mem::take(schema.ensure_object());
    let text = mapping.get("properties").and_then(|keys| keys.get(key)).cloned().unwrap_or(Value::Bool(true));
    let description = mapping.get("description").cloned().unwrap_or(Value::Null);
    *schema = schemars::json_schema!({ "description": description, "anyOf": [text, mapping] });
}

impl<T: Scalar> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(T::schema()).unwrap_or_default()
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Table_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

impl<W: JsonSchema, M: JsonSchema> JsonSchema for WordOr<W, M> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_{}", W::schema_name(), M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "anyOf": [generator.subschema_for::<W>(), generator.subschema_for::<M>()] })
    }
}
