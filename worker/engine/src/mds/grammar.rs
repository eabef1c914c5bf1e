//! The grammar of `.meta` files: items `key = [ values ];` or `key = { strings };`.

use super::error::MdsError;
use std::borrow::Cow;

/// One item `key = [ values ];`.
#[derive(Debug)]
pub(super) struct Item {
    key: String,
    line: usize,
    pub(super) values: Vec<String>,
}

impl Item {
    pub(super) fn error(&self, file: &str, expected: String) -> MdsError {
        let mut value = self.values.join(", ");
        if value.chars().count() > 80 {
            value = value.chars().take(80).collect::<String>() + " ...";
        }
        MdsError::Value { file: file.into(), line: self.line, key: self.key.clone(), value, expected }
    }

    pub(super) fn numbers(&self, file: &str, range: std::ops::RangeInclusive<usize>) -> Result<Vec<usize>, MdsError> {
        let parse = |text: &String| text.parse::<usize>().ok().filter(|number| range.contains(number));
        let numbers: Option<Vec<usize>> = self.values.iter().map(parse).collect();
        numbers.ok_or_else(|| match *range.end() {
            usize::MAX => self.error(file, format!("integers of at least {}", range.start())),
            end => self.error(file, format!("integers from {} to {end}", range.start())),
        })
    }

    pub(super) fn number(&self, file: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, MdsError> {
        match self.numbers(file, range)?[..] {
            [number] => Ok(number),
            _ => Err(self.error(file, "one integer".into())),
        }
    }
}

/// All items of a file.
#[derive(Debug)]
pub(super) struct Items<'a> {
    file: &'a str,
    items: Vec<Item>,
}

impl<'a> Items<'a> {
    /// Parses a text; `file` appears in errors.
    pub(super) fn read(file: &'a str, text: &[u8]) -> Result<Items<'a>, MdsError> {
        let text = without_mark(text);
        let items = Reader { file, text: &text, at: 0, line: 1 }.items()?;
        Ok(Items { file, items })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.key == key)
    }

    pub(super) fn required(&self, key: &'static str) -> Result<&Item, MdsError> {
        self.get(key).ok_or_else(|| MdsError::MissingKey { file: self.file.into(), key })
    }

    /// Returns numbers on which nothing depends. They are empty if any of them is unreadable (`****` of Fortran).
    pub(super) fn reals(&self, key: &str) -> Vec<f64> {
        let parse = |text: &String| text.replace(['D', 'd'], "E").parse().ok();
        self.get(key).and_then(|item| item.values.iter().map(parse).collect()).unwrap_or_default()
    }
}

/// Keys that may occur only once, since it would matter which value holds.
const SINGLE: [&str; 8] =
    ["nDims", "dimList", "map2glob", "dataprec", "format", "nrecords", "fldList", "timeStepNumber"];

/// Further keys that are read. The values of all others are skipped whatever they are: MITgcm writes the title of a run
/// between apostrophes as it is, including apostrophes.
const READ: [&str; 3] = ["nFlds", "timeInterval", "missingValue"];

#[derive(Debug, PartialEq)]
enum Token {
    Mark(u8),
    Word(String),
    Quoted(String),
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Mark(mark) => write!(f, "'{}'", char::from(*mark)),
            Token::Word(word) | Token::Quoted(word) => write!(f, "'{}'", word.chars().take(40).collect::<String>()),
            Token::End => f.write_str("the end of the file"),
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn items(mut self) -> Result<Vec<Item>, MdsError> {
        let mut items: Vec<Item> = Vec::new();
        loop {
            let (key, line) = match self.token()? {
                Token::End => return Ok(items),
                Token::Word(key) => (key, self.line),
                other => return Err(self.error("a key", &other)),
            };
            if SINGLE.contains(&key.as_str()) && items.iter().any(|item| item.key == key) {
                return Err(MdsError::RepeatedKey { file: self.file.into(), line, key });
            }
            self.mark(b'=', "'=' after the key")?;
            if !SINGLE.contains(&key.as_str()) && !READ.contains(&key.as_str()) {
                self.pass_over()?;
                continue;
            }
            let close = match self.token()? {
                Token::Mark(b'[') => b']',
                Token::Mark(b'{') => b'}',
                other => return Err(self.error("'[' or '{' after '='", &other)),
            };
            let mut values = Vec::new();
            loop {
                match self.token()? {
                    Token::Word(value) | Token::Quoted(value) => values.push(value),
                    Token::Mark(b',') => {}
                    Token::Mark(mark) if mark == close => break,
                    other => return Err(self.error("a value or the closing bracket", &other)),
                }
            }
            self.mark(b';', "';' after the closing bracket")?;
            items.push(Item { key, line, values });
        }
    }

    /// Skips the value of a key that is not used, whatever it contains: up to the first ';' that follows the closing
    /// bracket of the value (if it has brackets) and precedes another key or the end of the file.
    fn pass_over(&mut self) -> Result<(), MdsError> {
        self.skip_blanks();
        let close = match self.text.get(self.at) {
            Some(b'[') => Some(b']'),
            Some(b'{') => Some(b'}'),
            _ => None,
        };
        let (begin, line) = (self.at, self.line);
        while let Some(length) = self.text[self.at..].iter().position(|&c| c == b';') {
            let value = self.text[begin..self.at + length].trim_ascii_end();
            self.line += self.text[self.at..=self.at + length].iter().filter(|&&c| c == b'\n').count();
            self.at += length + 1;
            let closed = close.is_none_or(|close| value.len() > 1 && value.last() == Some(&close));
            if closed && self.is_before_an_item() {
                return Ok(());
            }
        }
        (self.at, self.line) = (self.text.len(), line);
        Err(self.error("';' after the value of this key", &Token::End))
    }

    /// Returns true if a key and '=' follow, or the end of the file.
    fn is_before_an_item(&self) -> bool {
        let mut ahead = Reader { file: self.file, text: self.text, at: self.at, line: self.line };
        match ahead.token() {
            Ok(Token::End) => true,
            Ok(Token::Word(_)) => matches!(ahead.token(), Ok(Token::Mark(b'='))),
            _ => false,
        }
    }

    fn mark(&mut self, mark: u8, expected: &'static str) -> Result<(), MdsError> {
        match self.token()? {
            Token::Mark(found) if found == mark => Ok(()),
            other => Err(self.error(expected, &other)),
        }
    }

    fn error(&self, expected: &'static str, found: &Token) -> MdsError {
        MdsError::Syntax { file: self.file.into(), line: self.line, expected, found: found.to_string() }
    }

    fn token(&mut self) -> Result<Token, MdsError> {
        self.skip_blanks();
        let Some(&first) = self.text.get(self.at) else { return Ok(Token::End) };
        if is_mark(first) {
            self.at += 1;
            return Ok(Token::Mark(first));
        }
        let rest = &self.text[self.at..];
        if matches!(first, b'\'' | b'"') {
            let inside = rest[1..].iter().take_while(|&&c| c != first && c != b'\n').count();
            if rest.get(1 + inside) != Some(&first) {
                return Err(self.error("a closing quote on the same line", &Token::Quoted(lossy(&rest[1..=inside]))));
            }
            self.at += inside + 2;
            return Ok(Token::Quoted(lossy(&rest[1..=inside])));
        }
        let word = rest.iter().take_while(|&&c| !is_mark(c) && !c.is_ascii_whitespace() && c != b'\'' && c != b'"');
        let word = &rest[..word.count()];
        self.at += word.len();
        Ok(Token::Word(lossy(word)))
    }

    /// Skips white space and the comments that MITgcm can write around its title lines.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let skip = match rest {
                [c, ..] if c.is_ascii_whitespace() || *c == 0x0b => 1,
                [b'/', b'/', ..] => rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len()),
                [b'/', b'*', ..] => rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 2),
                _ => return,
            };
            self.line += rest[..skip].iter().filter(|&&c| c == b'\n').count();
            self.at += skip;
        }
    }
}

/// Returns the text without the byte order mark that some editors put before it. A text in UTF-16 is converted to
/// UTF-8.
fn without_mark(text: &[u8]) -> Cow<'_, [u8]> {
    let wide = |text: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = text.as_chunks().0.iter().map(|bytes| unit(*bytes));
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Cow::Owned(text.into_bytes())
    };
    match text {
        [0xef, 0xbb, 0xbf, text @ ..] => Cow::Borrowed(text),
        [0xff, 0xfe, text @ ..] => wide(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => wide(text, u16::from_be_bytes),
        text => Cow::Borrowed(text),
    }
}

fn is_mark(c: u8) -> bool {
    matches!(c, b'=' | b'[' | b']' | b'{' | b'}' | b';' | b',')
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
