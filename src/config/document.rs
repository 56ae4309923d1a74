//! A YAML text as a tree that knows where everything stands.
//!
//! Strict on purpose: anchors, aliases, tags, merge keys and several documents are refused, so that
//! what a reader sees is what is meant, and no text grows when it is read. Scalars stay texts; what
//! they mean is up to the key that they belong to, so that `off` and `no` are never booleans by
//! surprise.

use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use super::error::{ConfigError, Errors, Problem};
use crate::limits;

/// A parsed text. Nodes refer to each other by [`At`].
#[derive(Debug, Default)]
pub(super) struct Document {
    nodes: Vec<Node>,
}

/// A node of a document: a value, or the key of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(u32);

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A text, and whether it was written without quotes.
    Scalar {
        text: Box<str>,
        plain: bool,
    },
    Sequence(Vec<At>),
    /// Keys, each once, with their values.
    Mapping(Vec<(At, At)>),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// The sequence or mapping that it is in; for a value in a mapping, its key.
    parent: Option<At>,
    /// Position in a sequence.
    index: u32,
    line: u32,
    column: u32,
}

/// What stands in for a node that cannot be found; ids come from the document itself, so none is.
static NOTHING: Kind = Kind::Sequence(Vec::new());

impl Document {
    /// The first node.
    pub(super) const ROOT: At = At(0);

    /// Reads `text`. Syntax errors end it at once; duplicate keys and refused features do not.
    pub(super) fn parse(text: &str) -> Result<Self, Errors> {
        let mut reader = Reader {
            // A byte order mark is no content, and the parser would take it for some.
            events: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
            lines: text.lines().count(),
            document: Self::default(),
            errors: Errors::default(),
        };
        if let Err(fatal) = reader.stream() {
            reader.errors.push(fatal);
        }
        if reader.errors.is_empty() { Ok(reader.document) } else { Err(reader.errors.settled()) }
    }

    pub(super) fn kind(&self, at: At) -> &Kind {
        self.nodes.get(at.0 as usize).map_or(&NOTHING, |node| &node.kind)
    }

    /// The text of a scalar; empty for anything else.
    pub(super) fn text(&self, at: At) -> &str {
        match self.kind(at) {
            Kind::Scalar { text, .. } => text,
            Kind::Sequence(_) | Kind::Mapping(_) => "",
        }
    }

    /// Whether a value was left out: `key:` or `key: null`.
    pub(super) fn is_null(&self, at: At) -> bool {
        matches!(self.kind(at), Kind::Scalar { text, plain: true } if is_null(text))
    }

    /// The error that `problem` is at this place.
    pub(super) fn error(&self, at: At, problem: Problem) -> ConfigError {
        let (line, column) = self.nodes.get(at.0 as usize).map_or((0, 0), |node| (node.line, node.column));
        problem.at(line as usize, column as usize, self.path(at))
    }

    /// `routes[2].mirrors[0].backend`; empty for the root.
    pub(super) fn path(&self, at: At) -> String {
        let mut segments = Vec::new();
        let mut place = Some(at);
        while let Some(node) = place.and_then(|at| self.nodes.get(at.0 as usize)) {
            match node.parent.map(|parent| self.kind(parent)) {
                Some(Kind::Sequence(_)) => segments.push(format!("[{}]", node.index)),
                Some(Kind::Mapping(_)) => {
                    segments.push(key_segment(place.map_or("", |at| self.text(at))));
                }
                Some(Kind::Scalar { .. }) | None => {}
            }
            place = node.parent;
        }
        let path: String = segments.into_iter().rev().collect();
        path.strip_prefix('.').unwrap_or(&path).to_owned()
    }

    /// The text as JSON, by the core schema of YAML 1.2.
    pub(super) fn to_json(&self, at: At) -> Value {
        match self.kind(at) {
            Kind::Scalar { text, plain: true } => plain_value(text),
            Kind::Scalar { text, plain: false } => Value::String(text.to_string()),
            Kind::Sequence(items) => items.iter().map(|item| self.to_json(*item)).collect(),
            Kind::Mapping(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (self.text(*key).to_owned(), self.to_json(*value)))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn plain_value(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text if is_null(text) => Value::Null,
        // JSON has no `nan` and no `.5`; what it does not take for a number stays a text.
        text => serde_json::from_str::<serde_json::Number>(text)
            .map_or_else(|_| Value::String(text.to_owned()), Value::Number),
    }
}

fn key_segment(key: &str) -> String {
    let simple = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if simple { format!(".{key}") } else { format!("[{key:?}]") }
}

/// Turns the parser's events into nodes.
struct Reader<'input> {
    events: Parser<'input, StrInput<'input>>,
    lines: usize,
    document: Document,
    errors: Errors,
}

impl<'input> Reader<'input> {
    fn stream(&mut self) -> Result<(), ConfigError> {
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if documents > 0 => {
                    return Err(self
                        .unplaced("a second document".into(), span.start)
                        .hint("a file holds one configuration: remove `---` and what follows"));
                }
                event => {
                    documents += 1;
                    self.node(event, span, None, 0, 0)?;
                }
            }
        }
        if self.document.is_null(Document::ROOT) || self.document.nodes.is_empty() {
            return Err(Problem::new("there is nothing in it").at(1, 1, String::new()));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'input>, Span), ConfigError> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self
                .unplaced(error.info().to_owned(), *error.marker())
                .hint("look for an open bracket or quote, or a wrong indentation, here or above")),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Adds the node that begins with `event` and all below it.
    fn node(
        &mut self,
        event: Event<'input>,
        span: Span,
        parent: Option<At>,
        index: usize,
        depth: usize,
    ) -> Result<At, ConfigError> {
        if depth > limits::CONFIG_DEPTH {
            return Err(self.unplaced(format!("nested deeper than {}", limits::CONFIG_DEPTH), span.start));
        }
        if self.document.nodes.len() >= limits::CONFIG_NODES {
            return Err(self.unplaced(format!("more than {} values", limits::CONFIG_NODES), span.start));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let at = self.push(Kind::Scalar { text: text.into(), plain }, span, parent, index);
                self.refuse(at, anchor, tag.is_some());
                Ok(at)
            }
            Event::SequenceStart(anchor, tag) => {
                let at = self.push(Kind::Sequence(Vec::new()), span, parent, index);
                self.refuse(at, anchor, tag.is_some());
                self.sequence(at, depth)?;
                Ok(at)
            }
            Event::MappingStart(anchor, tag) => {
                let at = self.push(Kind::Mapping(Vec::new()), span, parent, index);
                self.refuse(at, anchor, tag.is_some());
                self.mapping(at, depth)?;
                Ok(at)
            }
            Event::Alias(_) => {
                let kind = Kind::Scalar { text: "".into(), plain: true };
                let at = self.push(kind, span, parent, index);
                self.refuse(at, 1, false);
                Ok(at)
            }
            _ => Err(self.unplaced("the text ends in the middle of a value".into(), span.start)),
        }
    }

    fn sequence(&mut self, at: At, depth: usize) -> Result<(), ConfigError> {
        for index in 0.. {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            let item = self.node(event, span, Some(at), index, depth + 1)?;
            if let Some(Node { kind: Kind::Sequence(items), .. }) = self.document.nodes.get_mut(at.0 as usize)
            {
                items.push(item);
            }
        }
        Ok(())
    }

    fn mapping(&mut self, at: At, depth: usize) -> Result<(), ConfigError> {
        let mut seen: HashSet<Box<str>> = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(());
            }
            let Event::Scalar(text, ..) = &event else {
                return Err(self.unplaced("a key must be a text".into(), span.start));
            };
            let text: Box<str> = text.as_ref().into();
            let key = self.node(event, span, Some(at), 0, depth + 1)?;
            if &*text == "<<" {
                self.error(key, Problem::new("merge keys are not supported").hint("write the keys out"));
            }
            let repeated = !seen.insert(text.clone());
            if repeated {
                self.error(key, Problem::new(format!("the key {text:?} is here twice")));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, Some(key), 0, depth + 1)?;
            if let Some(Node { kind: Kind::Mapping(entries), .. }) =
                self.document.nodes.get_mut(at.0 as usize)
                && !repeated
            {
                entries.push((key, value));
            }
        }
    }

    fn push(&mut self, kind: Kind, span: Span, parent: Option<At>, index: usize) -> At {
        // Lossless: limits::CONFIG_NODES and limits::FILE_BYTES are far below u32::MAX.
        let at = At(self.document.nodes.len() as u32);
        self.document.nodes.push(Node {
            kind,
            parent,
            index: index as u32,
            line: self.line(span.start) as u32,
            column: span.start.col() as u32 + 1,
        });
        at
    }

    fn refuse(&mut self, at: At, anchor: usize, tag: bool) {
        if anchor > 0 {
            let problem = Problem::new("anchors and aliases are not supported");
            self.error(at, problem.hint("write the value out where it is used"));
        }
        if tag {
            self.error(at, Problem::new("tags are not supported").hint("remove the `!…`"));
        }
    }

    fn error(&mut self, at: At, problem: Problem) {
        self.errors.push(self.document.error(at, problem));
    }

    fn unplaced(&self, message: String, marker: Marker) -> ConfigError {
        Problem::new(message).at(self.line(marker), marker.col() + 1, String::new())
    }

    /// Within the text: after some malformed scalars the parser counts lines twice.
    fn line(&self, marker: Marker) -> usize {
        marker.line().min(self.lines + 1)
    }
}

impl ConfigError {
    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}
