//! Text of outside, made safe to be shown: names in recipes, reasons in outcomes, host names, what brokers and stores
//! answer.
//!
//! On a terminal, control characters move the cursor, clear the screen and paint whatever they like; a line break in a
//! name pretends to be a line of the program; marks of writing direction change the order of what is read. All three
//! are shown as `\u{1b}`, `\n` and the like. And passwords in addresses of brokers are left out, wherever such an
//! address has got into a text: one that was written into the wrong setting is repeated by an error that looks for a
//! file of that name.
//!
//! This happens where text leaves the program, and nowhere before: [`line`] for a notice, a line of the log, or a name
//! within a table; [`page`] for text that has lines of its own; [`json`] and [`data`] for
//! what is JSON already and stays it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::path::Path;

/// What is shown in the place of a password.
const HIDDEN: &str = "***";

/// One line: everything unsafe is escaped, line breaks too.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, char::is_whitespace), is_unsafe, escape)
}

/// Several lines, whose breaks stay. Only for text that the program has put together itself: what of it comes from
/// outside goes through [`line`] first.
pub fn page(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, char::is_whitespace), is_unsafe_in_page, escape)
}

/// A file as messages about a setting name it. A name alone that leads to nothing may be a secret that was written in
/// the place of the file which should hold it: it is not repeated.
#[derive(Debug, Clone, Copy)]
pub struct NamedFile<'a>(pub &'a Path);

impl fmt::Display for NamedFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_path = self.0.is_absolute() || self.0.starts_with(".") || self.0.starts_with("..");
        if is_path || self.0.exists() {
            write!(f, "{}", self.0.display())
        } else {
            f.write_str("its file, whose name is not shown, as it may be a secret in the wrong place")
        }
    }
}

/// The beginning of a text, for messages that name what they refuse: control characters are escaped here already.
pub fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The same value as JSON, without passwords, and without the unsafe characters that JSON permits within its texts.
/// Line breaks between its values stay.
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, |c| c == '"' || c.is_whitespace()), is_unsafe_in_page, escape_json)
}

/// The same for JSON that is read by programs, such as a task list: the value stays what it is, down to the last
/// character.
pub fn data(text: &str) -> Cow<'_, str> {
    escaped(text.into(), is_unsafe_in_page, escape_json)
}

/// Whether a character does something to a terminal, or to the order of what is read, instead of being read.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        // breaks of lines and paragraphs
        || matches!(c, '\u{2028}' | '\u{2029}')
        // marks, embeddings, overrides and isolates of writing direction, and old format characters beside them
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
        // tags, which are invisible
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

fn is_unsafe_in_page(c: char) -> bool {
    c != '\n' && is_unsafe(c)
}

fn escape(c: char, into: &mut String) {
    into.extend(c.escape_default());
}

fn escape_json(c: char, into: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(into, "\\u{unit:04x}"); // a text takes it all
    }
}

/// A text without what is unsafe.
fn escaped(text: Cow<'_, str>, is_unsafe: fn(char) -> bool, escape: fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { escape(c, &mut safe) } else { safe.push(c) }
    }
    safe.into()
}

/// Leaves the passwords of addresses out; `ends` says which characters an address cannot have. In addresses of brokers
/// a password may have characters that it should not have without being encoded, so that all up to the last `@` counts;
/// in others it ends with the host.
fn without_passwords(text: &str, ends: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !(text.contains("://") && text.contains('@')) {
        return text.into();
    }
    let (mut safe, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        safe += before;
        let before = &before[..at];
        let scheme = before.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(before, |end| {
            let length = before[end..].chars().next().map_or(1, char::len_utf8);
            &before[end + length..]
        });
        let address = &after[..after.find(&ends).unwrap_or(after.len())];
        let user = match scheme.to_ascii_lowercase().as_str() {
            "amqp" | "amqps" => address.rsplit_once('@'),
            "http" | "https" => address.split(['/', '?', '#']).next().and_then(|host| host.rsplit_once('@')),
            _ => None,
        };
        rest = after;
        if let Some((user, _)) = user
            && let Some((name, _)) = user.split_once(':')
        {
            safe += name;
            safe.push(':');
            safe += HIDDEN;
            rest = &after[user.len()..];
        }
    }
    safe += rest;
    safe.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_unsafe_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("SSH: 2 °C, Ærø, 氷, \\n 'x' \"y\"", "SSH: 2 °C, Ærø, 氷, \\n 'x' \"y\""),
            ("\u{1b}]0;pwned\u{7}\u{1b}[2J", "\\u{1b}]0;pwned\\u{7}\\u{1b}[2J"),
            ("a\r\n24 made\tof 24\0", "a\\r\\n24 made\\tof 24\\u{0}"),
            ("\u{9b}2J\u{7f}\u{85}", "\\u{9b}2J\\u{7f}\\u{85}"),
            ("\u{202e}cn.\u{2066}x\u{2069}\u{200f}\u{2028}", "\\u{202e}cn.\\u{2066}x\\u{2069}\\u{200f}\\u{2028}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(page(&format!("{text}\n")), format!("{}\n", shown.replace("\\r\\n", "\\r\n")));
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({
            "a": "\u{1b}[2J\n\u{9b}\u{7f}\u{202e}\u{2028}\u{e0041} \"x\" \\",
            "amqp://h": ["x@y", "amqp://u@h/v"],
        });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let safe = json(&text);
            assert_eq!(safe, data(&text));
            assert!(!safe.contains(|c| c != '\n' && is_unsafe(c)), "{safe}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }

    #[test]
    fn passwords_of_addresses_are_left_out() {
        for (text, shown) in [
            ("amqp://u:s3cret@h:5672/v: no such file", "amqp://u:***@h:5672/v: no such file"),
            ("'AMQPS://u:s3@c/r'et@h' x@y", "'AMQPS://u:***@h' x@y"),
            ("amqp://:s3cret@h amqp://u:s3cret@g", "amqp://:***@h amqp://u:***@g"),
            ("https://u:s3cret@h/a:b@c", "https://u:***@h/a:b@c"),
            ("http://h:9000/a@b and s3://b/a:c@d", "http://h:9000/a@b and s3://b/a:c@d"),
            ("amqp://u@h:5672/ and x://a:b@c", "amqp://u@h:5672/ and x://a:b@c"),
            ("é://amqp://u:s3cret@h", "é://amqp://u:***@h"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(page(text), shown);
        }
        let value = serde_json::json!({"a": "amqp://u:s3cret@h/v", "b": "amqp://h:1/v", "c": "x@y"});
        let expected = serde_json::json!({"a": "amqp://u:***@h/v", "b": "amqp://h:1/v", "c": "x@y"});
        assert_eq!(json(&value.to_string()), expected.to_string());
        assert_eq!(data(&value.to_string()), value.to_string());
    }

    #[test]
    fn files_are_named_unless_they_may_be_secrets() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["/nowhere/password", "./password", "../s3cret"] {
            assert_eq!(NamedFile(Path::new(path)).to_string(), path);
        }
        assert_eq!(NamedFile(directory.path()).to_string(), directory.path().display().to_string());
        for path in ["s3cret", "amqp://u:s3cret@h/v", "-----BEGIN PRIVATE KEY-----\ns3cret"] {
            assert!(!NamedFile(Path::new(path)).to_string().contains("s3cret"), "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_comes_through(text in ".*", more in "[\u{0}-\u{ff}\u{2000}-\u{2070}a-z:/@]{0,40}") {
            for text in [&text, &more] {
                prop_assert!(!line(text).contains(is_unsafe));
                prop_assert!(!page(text).contains(|c| c != '\n' && is_unsafe(c)));
                let value = serde_json::Value::String(text.clone());
                let safe = json(&value.to_string()).into_owned();
                prop_assert!(!safe.contains(is_unsafe));
                let back: String = serde_json::from_str(&safe).unwrap();
                prop_assert!(back == *text || text.contains("://"));
            }
        }

        #[test]
        fn no_password_comes_through(password in "[!-~]{1,20}", before in "[ -~]{0,9}", after in "[a-z/]{0,9}") {
            let hidden = "pass-phrase".to_owned() + &password;
            let text = format!("{before} amqp://user:{hidden}@host{after}");
            prop_assert!(!line(&text).contains(&hidden), "{}", line(&text));
        }
    }
}
