//! Explanations of errors of the AMQP and TLS libraries, with advice on what to do about them.

use crate::Address;
use lapin::uri::AMQPScheme;
use lapin::{Error, ErrorKind};

/// Beginning of the library's text about a certificate.
const CERTIFICATE: &str = "invalid peer certificate: ";

/// Explains an error of a connection to the broker at this address.
pub(super) fn of(error: &Error, address: &Address) -> String {
    let tls = address.uri().scheme == AMQPScheme::AMQPS;
    let said = match error.kind() {
        ErrorKind::ParsingError(_) => return not_amqp(address),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    };
    if tls && (said.contains("InvalidContentType") || said.contains("corrupt message")) {
        let port = address.uri().authority.port;
        return format!(
            "what answers at port {port} does not speak TLS ({said}): write amqp:// if this is the broker's port without \
             TLS (5672), or name its port for TLS (5671)"
        );
    }
    match said.split_once(CERTIFICATE) {
        Some((_, why)) => format!("the broker's certificate is not accepted: {}", of_certificate(why)),
        None if matches!(reply_code(error), Some(403 | 530)) => {
            format!("{said}; check user, password, virtual host, certificate and permissions")
        }
        None => said,
    }
}

fn not_amqp(address: &Address) -> String {
    let port = address.uri().authority.port;
    format!(
        "what answers at port {port} does not speak AMQP 0-9-1: write amqps:// if this is the broker's port for TLS \
         (5671), and check host and port"
    )
}

fn of_certificate(why: &str) -> String {
    let known = [
        (
            "CaUsedAsEndEntity",
            "it is that of an authority (self-signed, CA:TRUE), which a server may not show as its own; let an authority \
             sign a certificate for the broker, and name the authority's certificate by queue.ca",
        ),
        (
            "UnknownIssuer",
            "it is signed by an authority that is not trusted here; name the file with that authority's certificate by \
             queue.ca",
        ),
        ("BadSignature", "it is not signed by the authority that queue.ca names, though this has the same name"),
        ("not valid for name", "it is for another host name than the one of the address"),
        ("NotValidForName", "it is for another host name than the one of the address"),
        ("NotValidYet", "it is not valid yet; check the clock of this machine"),
        ("not valid yet", "it is not valid yet; check the clock of this machine"),
        ("xpired", "it has expired; renew it, or check the clock of this machine"),
        ("Revoked", "it was revoked"),
    ];
    let found = known.iter().find(|(name, _)| why.contains(name));
    found.map_or_else(|| why.to_owned(), |(_, text)| format!("{text} ({why})"))
}

/// Returns the AMQP reply code of an error.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io;

    fn said(url: &str, text: &str) -> String {
        of(&Error::from(io::Error::new(io::ErrorKind::InvalidData, text.to_owned())), &url.parse().unwrap())
    }

    #[test]
    fn the_libraries_texts_get_a_cause_and_a_remedy() {
        let amqps = "amqps://u:s3cret@h:5672/v";
        for (text, part) in [
            ("received corrupt message of type InvalidContentType", "write amqp://"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "self-signed"),
            ("invalid peer certificate: UnknownIssuer", "queue.ca"),
            ("invalid peer certificate: certificate not valid for name \"h\"; certificate is only valid for x", "host"),
            ("invalid peer certificate: certificate expired: verification time 5", "clock"),
            ("invalid peer certificate: something new", "something new"),
            ("connection reset by peer", "connection reset by peer"),
        ] {
            let cause = said(amqps, text);
            assert!(cause.contains(part) && !cause.contains("s3cret"), "{cause}");
            assert!(!cause.contains("check user"), "{cause}");
        }
        // without TLS the text is about something else
        assert!(!said("amqp://h", "received corrupt message of type InvalidContentType").contains("write amqp://"));
    }
}
