//! nginx's configuration as a tree of directives. Knows how they are written and not what they mean.

/// A line of one of the files that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: usize,
}

/// A directive, with a block if it has one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directive {
    /// Where it stands.
    pub(super) at: Place,
    /// Its name and arguments, at least one word.
    pub(super) words: Vec<String>,
    /// What stands between its braces.
    pub(super) block: Vec<Directive>,
}

impl Directive {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// One of its arguments, from 0.
    pub(super) fn argument(&self, index: usize) -> &str {
        self.words.get(index + 1).map_or("", String::as_str)
    }

    /// The directives called `name` in its block.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.block.iter().filter(move |directive| directive.name() == name)
    }

    /// The last directive called `name` in its block.
    pub(super) fn last<'a>(&'a self, name: &'a str) -> Option<&'a Directive> {
        self.all(name).last()
    }
}

/// Blocks within blocks, at most.
const DEPTH: usize = 32;

/// Reads `text`, that of the file with this number; the error says where it is wrong.
pub(super) fn parse(text: &str, file: usize) -> Result<Vec<Directive>, String> {
    let tokens = tokens(text)?.into_iter();
    let mut words = tokens.map(|(line, token)| (Place { file, line }, token));
    let directives = block(&mut words, 0, false)?;
    Ok(directives)
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn block(
    tokens: &mut impl Iterator<Item = (Place, Token)>,
    depth: usize,
    inside: bool,
) -> Result<Vec<Directive>, String> {
    let mut directives = Vec::new();
    let mut current = Directive { at: Place::default(), words: Vec::new(), block: Vec::new() };
    let mut last = 1;
    while let Some((at, token)) = tokens.next() {
        let line = at.line;
        last = line;
        match token {
            Token::Word(word) => {
                if current.words.is_empty() {
                    current.at = at;
                }
                current.words.push(word);
                continue;
            }
            Token::Close if inside && current.words.is_empty() => return Ok(directives),
            Token::Close => return Err(format!("line {line}: unexpected }}")),
            Token::End | Token::Open if current.words.is_empty() => {
                return Err(format!("line {line}: a directive without a name"));
            }
            Token::Open if depth >= DEPTH => {
                return Err(format!("line {line}: blocks are nested too deeply"));
            }
            Token::Open => current.block = block(tokens, depth + 1, true)?,
            Token::End => {}
        }
        let next = Directive { at: Place::default(), words: Vec::new(), block: Vec::new() };
        directives.push(std::mem::replace(&mut current, next));
    }
    match inside || !current.words.is_empty() {
        true => Err(format!("line {last}: the file ends within a directive")),
        false => Ok(directives),
    }
}

/// The words and signs of `text`, each with its line.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '\n' => line += 1,
            _ if first.is_whitespace() => {}
            '#' => while rest.next_if(|next| *next != '\n').is_some() {},
            ';' => tokens.push((line, Token::End)),
            '{' => tokens.push((line, Token::Open)),
            '}' => tokens.push((line, Token::Close)),
            quote @ ('"' | '\'') => {
                let (begun, mut word) = (line, String::new());
                loop {
                    match rest.next() {
                        None => return Err(format!("line {begun}: a quotation without an end")),
                        Some(next) if next == quote => break,
                        Some('\\') => word.extend(rest.next()),
                        Some(next) => {
                            line += usize::from(next == '\n');
                            word.push(next);
                        }
                    }
                }
                tokens.push((begun, Token::Word(word)));
            }
            _ => {
                let mut word = String::from(first);
                // `${name}` is part of a word; a brace else ends it.
                while let Some(next) = rest.next_if(|next| {
                    let braced = word.ends_with('$') && *next == '{' || word.contains("${") && *next == '}';
                    braced || !(next.is_whitespace() || matches!(next, ';' | '{' | '}'))
                }) {
                    word.push(next);
                }
                tokens.push((line, Token::Word(word)));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn directives_and_blocks() {
        let read = parse("a b 'c; d';\nhttp { # { no\n  x \"q\\\"\" ${y}z;\n  empty {}\n}\n", 0).unwrap();
        let words = |directive: &Directive| directive.words.join("|");
        assert_eq!(words(&read[0]), "a|b|c; d");
        assert_eq!((words(&read[1]), read[1].at.line), ("http".to_owned(), 2));
        assert_eq!((words(&read[1].block[0]), read[1].block[0].at.line), ("x|q\"|${y}z".to_owned(), 3));
        assert_eq!(read[1].block[1].block, []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line) in
            [("a", 1), ("a {\n b;", 2), ("}", 1), ("a;\n;", 2), ("a \"b\n", 1), ("a { b }", 1)]
        {
            let error = parse(text, 0).unwrap_err();
            assert!(error.starts_with(&format!("line {line}:")), "{text:?}: {error}");
        }
        assert!(parse(&"a {".repeat(10_000), 0).is_err(), "no stack is deep enough");
    }
}
