//! The address of a broker, which holds a password.

use lapin::uri::AMQPUri;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The address of a broker: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Characters that have a
/// meaning in URLs are percent-encoded (`%2F`). Without a virtual host it is `/`. It is displayed without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(AMQPUri);

/// The reason why a text is not the address of a broker. The text is not repeated, since it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of the queue: {0}; write amqp://user:password@host:port/vhost, or amqps:// for TLS")]
pub struct AddressError(&'static str);

/// Errors about characters that have a meaning in URLs. A parser would take a part of the password for the host or the
/// virtual host, which are displayed.
const AT: AddressError = AddressError(
    "it has an '@' that does not end user and password: percent-encode it in user, password and virtual host (%40), and a \
     '/' there, too (%2F)",
);
const SLASH: AddressError =
    AddressError("its virtual host has a '/': percent-encode it (%2F), also in user and password");
const QUERY: AddressError = AddressError(
    "it has a '?' or '#': percent-encode them in user, password and virtual host (%3F, %23), and set heartbeat and the \
     like in the settings",
);
const PERCENT: AddressError =
    AddressError("it has a '%' that is not followed by two hexadecimal digits: percent-encode it, too (%25)");
const SPACE: AddressError =
    AddressError("it has a space, a line break or a control character: percent-encode them (%20, %0A)");

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(AddressError("it has no scheme"));
        };
        if !["amqp", "amqps"].contains(&scheme) {
            return Err(AddressError("its scheme is neither amqp nor amqps"));
        }
        if rest.contains(['?', '#']) {
            return Err(QUERY);
        }
        if rest.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err(SPACE);
        }
        if !is_percent_encoded(rest) {
            return Err(PERCENT);
        }
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.matches('@').count() > 1 || vhost.contains('@') {
            return Err(AT);
        }
        // "//" stands for the virtual host "/" in many programs' addresses
        if vhost != "/" && vhost.contains('/') {
            return Err(SLASH);
        }
        // the parser would take such a host for localhost
        if rest.rsplit_once('@').map_or(rest, |(_, host)| host).starts_with('[') {
            return Err(AddressError("it names the host by an IPv6 address: use a name"));
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| AddressError("it is no URL"))?;
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        Ok(Address(uri))
    }
}

/// Returns true if each percent sign begins an encoded byte.
fn is_percent_encoded(text: &str) -> bool {
    let digits = |code: &str| code.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(digits)
}

impl Address {
    /// Returns the same address with another password, which is not percent-encoded.
    #[must_use]
    pub(crate) fn with_password(mut self, password: String) -> Address {
        self.0.authority.userinfo.password = password;
        self
    }

    /// Returns true if the address has a password worth hiding: one that is not empty, and not the default that brokers
    /// share.
    pub fn has_password(&self) -> bool {
        !["", "guest"].contains(&self.0.authority.userinfo.password.as_str())
    }

    pub(super) fn uri(&self) -> &AMQPUri {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.0;
        let (user, host, port) = (&authority.userinfo.username, &authority.host, authority.port);
        write!(f, "{scheme}://{}@{host}:{port}/", user.escape_debug())?;
        if vhost != "/" {
            write!(f, "{}", vhost.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl Serialize for Address {
    /// Writes the address as it is shown: without its password.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_shown_without_the_password() {
        for (text, shown) in [
            ("amqp://u:s3cret@broker:5673/x", "amqp://u@broker:5673/x"),
            ("amqps://u:s3cret@broker/%2F", "amqps://u@broker:5671/"),
            ("amqp://broker/", "amqp://guest@broker:5672/"),
            ("amqp://10.0.0.1", "amqp://guest@10.0.0.1:5672/"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.has_password(), text.contains("s3cret"));
            assert_eq!((address.to_string(), format!("{address:?}")), (shown.into(), format!("Address({shown})")));
        }
    }

    #[test]
    fn errors_do_not_repeat_it() {
        for text in [
            "http://u:s3cret@h",
            "u:s3cret@h",
            "amqp://u:s3cret@[::1]:5672",
            "amqp://u:s3cret@h:99999",
            "amqp://s3cret?heartbeat=3",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn passwords_that_are_not_encoded_are_refused_and_not_shown() {
        for text in [
            "amqp://u:p@s3cret/w0rd@host/v",
            "amqp://u:p@s3cret@host/v",
            "amqp://u:12/s3cret@host/v",
            "amqp://u:s3cret/12@host/v",
            "amqp://user@realm:s3cret@host/v",
            "amqp://u:x?s3cret@host/v",
            "amqp://u:x#s3cret@host/v",
            "amqp://u:s3cret%@host/v",
            "amqp://u:s3cret%zz@host/v",
            "amqp://u:s3cret two@host/v",
            "amqp://u:s3cret\n@host/v",
            "amqp://host/s3cret/v",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("percent-encode") && !error.contains("s3cret"), "{text}: {error}");
        }
        let encoded: Address = "amqp://u%40realm:p%40s3%2Fcr%23et%25@host/a%2Fb%40c".parse().unwrap();
        assert_eq!(encoded.uri().authority.userinfo.password, "p@s3/cr#et%");
        assert_eq!(encoded.to_string(), "amqp://u@realm@host:5672/a/b@c");
        // texts that are unusual but unambiguous
        for (text, vhost) in [("amqp://u:a:b&c=d@h/v", "v"), ("amqp://h//", "/"), ("amqp://h/%2F", "/")] {
            assert_eq!(text.parse::<Address>().unwrap().uri().vhost, vhost, "{text}");
        }
        let other = encoded.with_password("x/y".into());
        assert_eq!(other.uri().authority.userinfo.password, "x/y");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_tell(text in "(amqp://)?.{0,30}", password in "[a-zA-Z]{12}") {
            let _ = text.parse::<Address>();
            if let Ok(address) = format!("amqp://u:{password}@{text}").parse::<Address>() {
                prop_assert!(!address.to_string().contains(&password) || text.contains(&password) );
            }
        }
    }
}
