//! The Python literals that EDP's files use: lists, tuples, dictionaries with texts as keys, integers, texts,
//! comments. Job files consist of them, and some copies of the groupings hold dictionaries in text.

use serde_json::Value;
use std::fmt;

/// A parsed value. Tuples become lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A whole number of 64 bits.
    Integer(i64),
    /// A text in single or double quotes.
    Text(String),
    /// A list or a tuple.
    List(Vec<Literal>),
    /// A dictionary, in the order of the text.
    Dictionary(Vec<(String, Literal)>),
}

impl Literal {
    /// Converts a text or a dictionary of such values to JSON. Returns `None` if it contains another value.
    pub(crate) fn into_json(self) -> Option<Value> {
        match self {
            Literal::Text(text) => Some(Value::String(text)),
            Literal::Dictionary(entries) => {
                let entries = entries.into_iter().map(|(key, value)| Some((key, value.into_json()?)));
                entries.collect::<Option<_>>().map(Value::Object)
            }
            Literal::Integer(_) | Literal::List(_) => None,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Integer(number) => write!(f, "{number}"),
            Literal::Text(text) => write!(f, "'{text}'"),
            Literal::List(elements) => {
                f.write_str("[")?;
                for (i, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Literal::Dictionary(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}'{key}': {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// The reason why a text is not a literal.
#[derive(Debug, PartialEq, Eq)]
pub struct NoLiteral {
    /// Number of the character where the problem is, from 1.
    pub column: usize,
    /// Description of the problem.
    pub why: String,
}

/// Parses the literal of a line or of another short text. Returns `None` if it is blank or a comment.
///
/// # Errors
/// Returns an error if it is not a literal, or one of another kind.
pub fn parse(text: &str) -> Result<Option<Literal>, NoLiteral> {
    let mut literals = Literals { text, at: 0 };
    literals.line().map_err(|why| {
        let column = text.get(..literals.at).map_or(0, |before| before.chars().count()) + 1;
        NoLiteral { column, why }
    })
}

/// Parses one text. `at` is the current position in bytes, always at the start of a character.
struct Literals<'a> {
    text: &'a str,
    at: usize,
}

impl Literals<'_> {
    /// Largest depth of brackets. EDP's literals nest twice; the limit keeps a line of brackets from using up the stack.
    const DEPTH: usize = 8;

    /// Parses the whole text. A tuple may be written without parentheses, as in Python.
    fn line(&mut self) -> Result<Option<Literal>, String> {
        self.blanks();
        if self.peek().is_none() {
            return Ok(None);
        }
        let first = self.literal(0)?;
        self.blanks();
        if self.peek() != Some(',') {
            self.end()?;
            return Ok(Some(first));
        }
        let mut elements = vec![first];
        while self.skip(',') {
            if self.peek().is_none() {
                break;
            }
            elements.push(self.literal(0)?);
            self.blanks();
        }
        self.end()?;
        Ok(Some(Literal::List(elements)))
    }

    fn end(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(extra) => Err(format!("unexpected '{extra}'")),
        }
    }

    /// Returns the next character. A comment is the end of the text.
    fn peek(&self) -> Option<char> {
        self.rest().chars().next().filter(|&c| c != '#')
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Skips `wanted` and the blanks around it, if it is next. Returns true if it was.
    fn skip(&mut self, wanted: char) -> bool {
        self.blanks();
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
            self.blanks();
        }
        found
    }

    fn literal(&mut self, depth: usize) -> Result<Literal, String> {
        self.blanks();
        match self.peek() {
            None => Err("the line ends where a value should be".into()),
            Some('[') => Ok(Literal::List(self.elements(']', depth)?.0)),
            Some('(') => {
                let (mut elements, comma) = self.elements(')', depth)?;
                // (x) is x, (x,) is a tuple
                match elements.pop() {
                    Some(only) if elements.is_empty() && !comma => Ok(only),
                    last => {
                        elements.extend(last);
                        Ok(Literal::List(elements))
                    }
                }
            }
            Some('{') => self.dictionary(depth),
            Some(quote @ ('\'' | '"')) => self.quoted(quote).map(Literal::Text),
            Some('0'..='9' | '-' | '+') => self.integer(),
            Some(_) => {
                let word: String = self.rest().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                Err(if word.is_empty() {
                    format!("unexpected '{}'", self.peek().unwrap_or(' '))
                } else {
                    format!("'{word}' is neither a number nor a text in quotes")
                })
            }
        }
    }

    /// Parses the elements up to `close`. Also returns true if a comma follows the last one.
    fn elements(&mut self, close: char, depth: usize) -> Result<(Vec<Literal>, bool), String> {
        if depth == Self::DEPTH {
            return Err("too many brackets".into());
        }
        self.at += 1; // the opening bracket
        let (mut elements, mut comma) = (Vec::new(), true);
        loop {
            if self.skip(close) {
                return Ok((elements, comma));
            }
            match self.peek() {
                None => return Err(format!("'{close}' is missing")),
                Some(found) if !comma => return Err(format!("',' or '{close}' is missing before '{found}'")),
                Some(',') => return Err("a value is missing before ','".into()),
                Some(_) => {}
            }
            elements.push(self.literal(depth + 1)?);
            comma = self.skip(',');
        }
    }

    /// Parses the entries up to the closing brace.
    fn dictionary(&mut self, depth: usize) -> Result<Literal, String> {
        if depth == Self::DEPTH {
            return Err("too many brackets".into());
        }
        self.at += 1; // the opening brace
        let (mut entries, mut comma) = (Vec::new(), true);
        while !self.skip('}') {
            let quote = match self.peek() {
                Some(quote @ ('\'' | '"')) if comma => quote,
                Some(found) if !comma => return Err(format!("',' or '}}' is missing before '{found}'")),
                Some(found) => return Err(format!("a text in quotes is missing before '{found}'")),
                None => return Err("'}' is missing".into()),
            };
            let key = self.quoted(quote)?;
            if !self.skip(':') {
                return Err(format!("':' is missing behind '{key}'"));
            }
            entries.push((key, self.literal(depth + 1)?));
            comma = self.skip(',');
        }
        Ok(Literal::Dictionary(entries))
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                _ if c == quote => {
                    self.at += at + quote.len_utf8();
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                    _ => return Err("a backslash that stands for nothing".into()),
                },
                '\n' => break,
                _ => text.push(c),
            }
        }
        Err(format!("the closing {quote} is missing"))
    }

    fn integer(&mut self) -> Result<Literal, String> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['-', '+']));
        let length = rest.bytes().skip(sign).take_while(|b| b.is_ascii_alphanumeric() || b"_.".contains(b)).count();
        let text = &rest[..sign + length]; // ASCII so far
        let digits = &text[sign..];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("'{text}' is not an integer"));
        }
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(format!("'{text}' has leading zeros; write the number without them"));
        }
        let number = text.parse().map_err(|_| format!("{text} is too large a number"))?;
        self.at += text.len();
        Ok(Literal::Integer(number))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use Literal::{Integer, List, Text};
    use serde_json::json;

    #[test]
    fn values_are_read_as_python_does() {
        for (text, want) in [
            ("", None),
            ("   # 1", None),
            ("-12 # x", Some(Integer(-12))),
            ("'a\"#\\''", Some(Text("a\"#'".into()))),
            ("\"\"", Some(Text(String::new()))),
            ("[]", Some(List(vec![]))),
            ("()", Some(List(vec![]))),
            ("(1)", Some(Integer(1))),
            ("(1,)", Some(List(vec![Integer(1)]))),
            ("1,", Some(List(vec![Integer(1)]))),
            ("[1, [2,], ('b')]", Some(List(vec![Integer(1), List(vec![Integer(2)]), Text("b".into())]))),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn trouble_is_where_it_is() {
        for (text, column) in [("[1,,", 4), ("'ä' x", 5), ("[1 # ]", 4), ("[1, 0x1]", 5), ("[,1]", 2), ("-", 1)] {
            assert_eq!(parse(text).unwrap_err().column, column, "{text}");
        }
    }
    #[test]
    fn dictionaries_of_strings() {
        let text = r#" {'EXFtaue': {'x': "EXFtaux", 'y': 'EXFtauy', }, 'it\'s' : {}} "#;
        let found = parse(text).unwrap().unwrap();
        assert_eq!(found.to_string(), "{'EXFtaue': {'x': 'EXFtaux', 'y': 'EXFtauy'}, 'it's': {}}");
        let json = json!({"EXFtaue": {"x": "EXFtaux", "y": "EXFtauy"}, "it's": {}});
        assert_eq!(found.into_json(), Some(json));
        for text in ["{'a': 1}", "{'a': {'b': ['c']}}", "['a']", "1"] {
            assert_eq!(parse(text).unwrap().unwrap().into_json(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for text in
            ["{", "{'a'}", "{'a': 'b'} x", "{'a': 'b", "{,}", "{'a': 'b' 'c': 'd'}", "{'a': '\\x41'}", "{'a': 'b\n'}"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"{'a': ".repeat(100_000)).is_err());
    }
}
