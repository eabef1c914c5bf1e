//! The address of a broker, which holds a password.

use lapin::uri::AMQPUri;
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::str::FromStr;

/// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Characters with a meaning in URLs are written as `%2F`
/// and the like; without a virtual host it is `/`. It is shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(AMQPUri);

/// Why a text is no address of a broker. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of the queue: {0}; write amqp://user:password@host:port/vhost, or amqps:// for TLS")]
pub struct AddressError(&'static str);

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
            return Err(AddressError("it has a '?' or '#': set heartbeat and the like in the settings"));
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

impl Address {
    /// Whether it holds a password that is worth hiding: another than the one that brokers give to everybody.
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
