//! Text from outside, made safe to show: names in recipes, reasons in outcomes, host names, answers of brokers and
//! stores.
//!
//! On a terminal, control characters move the cursor, clear the screen and write anything anywhere; a line break in a
//! name imitates a line of the program; marks of writing direction change the order in which text is read. All of these
//! are shown as `\u{1b}`, `\n` and so on. Passwords in addresses of brokers are left out wherever such an address may
//! have got into a text: if an address was written into the wrong setting, an error may repeat it as the name of a
//! file.
//!
//! Text is made safe where it leaves the program, and nowhere before: by [`line()`] for a notice, a line of the log, or a
//! name within a table; by [`page`] for text that has lines of its own; by [`json`] and [`data`] for text that is JSON
//! already and remains JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::path::Path;

/// The text that replaces a password.
const HIDDEN: &str = "***";

/// Returns a text as one line: every unsafe character is escaped, including line breaks.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, char::is_whitespace), is_unsafe, escape)
}

/// Returns a text of several lines, whose line breaks stay. It is only for text that the program has put together
/// itself; each part of it that comes from outside goes through [`line()`] first.
pub fn page(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, char::is_whitespace), is_unsafe_in_page, escape)
}

/// Displays the name of a file in messages about a setting. A bare name that leads to no file may be a secret that was
/// written in place of the name of the file that should hold it, so it is not shown.
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

/// Returns the first 80 characters of a text, escaped, for messages that show what they refuse.
pub fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Returns JSON text for people: the same values without passwords, and without the unsafe characters that JSON permits
/// within its strings. Line breaks between the values stay.
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(without_passwords(text, |c| c == '"' || c.is_whitespace()), is_unsafe_in_page, escape_json)
}

/// Returns JSON text for programs, such as a task list: every value stays exactly the same.
pub fn data(text: &str) -> Cow<'_, str> {
    escaped(text.into(), is_unsafe_in_page, escape_json)
}

/// Returns true if a character is not there to be read, but changes a terminal or the order of the text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        // separators of lines and paragraphs
        || matches!(c, '\u{2028}' | '\u{2029}')
        // Marks, embeddings, overrides and isolates of writing direction, and the old format characters next to them.
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
        let _ = write!(into, "\\u{unit:04x}"); // writing to a String cannot fail
    }
}

/// Returns a text in which unsafe characters are escaped.
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

/// Removes the passwords of addresses; `ends` tells which characters end an address. The password in the address of a
/// broker may contain characters that should have been percent-encoded, so everything up to the last `@` counts as part
/// of it. In other addresses the password ends where the host does.
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
