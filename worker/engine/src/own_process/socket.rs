//! Messages between this program and another process of it, over a pair of sockets.
//!
//! A message consists of its length, the length of the plain values, a JSON text, and the plain values. Both lengths
//! are checked against limits before memory is allocated. The descriptor of a file may come with a message.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Length in bytes of the longest JSON text of a message: the table of some million chunks.
const MAX_TEXT: usize = 128 << 20;

/// Sends a message before the deadline, with the descriptor of a file if there is one.
///
/// # Errors
/// Returns an error if the message is too long, the other side has gone, or the deadline has passed.
pub fn send(
    socket: &UnixStream,
    message: &impl Serialize,
    values: &[u8],
    file: Option<&File>,
    deadline: Option<Instant>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut bytes = Vec::with_capacity(16 + text.len());
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    bytes.extend(text);
    let mut sent = 0;
    if let Some(file) = file {
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        if let Some(deadline) = deadline {
            socket.set_write_timeout(Some(left(deadline)?))?;
        }
        sent = rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    }
    for mut part in [&bytes[sent..], values] {
        while !part.is_empty() {
            if let Some(deadline) = deadline {
                socket.set_write_timeout(Some(left(deadline)?))?;
            }
            match (&*socket).write(part) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => part = &part[written..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// A received message, its plain values, and the file that came with it.
type Received<M> = (M, Vec<u8>, Option<File>);

/// Receives a message with at most `values` bytes of plain values, and the descriptor that came with it; `None` if the
/// other side has closed the socket.
///
/// # Errors
/// Returns an error if a length is beyond its limit, the message is not valid, or the deadline has passed.
pub fn receive<M: DeserializeOwned>(
    socket: &UnixStream,
    values: usize,
    deadline: Option<Instant>,
) -> io::Result<Option<Received<M>>> {
    let mut head = [0; 16];
    let mut file = None;
    let mut filled = 0;
    while filled < head.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        if let Some(deadline) = deadline {
            socket.set_read_timeout(Some(left(deadline)?))?;
        }
        let room = &mut [IoSliceMut::new(&mut head[filled..])];
        let got = match rustix::net::recvmsg(socket, room, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.map(File::from).last().or(file);
            }
        }
        match got {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => filled += got,
        }
    }
    let [text, plain] = [0, 8].map(|at| head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    let limit = |length: u64, most: usize| usize::try_from(length).ok().filter(|length| *length <= most);
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a message of a length that it cannot have");
    let (text, plain) = (limit(text, MAX_TEXT).ok_or_else(too_long)?, limit(plain, values).ok_or_else(too_long)?);
    let text = take(socket, text, deadline)?;
    let plain = take(socket, plain, deadline)?;
    Ok(Some((serde_json::from_slice(&text)?, plain, file)))
}

fn take(socket: &UnixStream, length: usize, deadline: Option<Instant>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        if let Some(deadline) = deadline {
            socket.set_read_timeout(Some(left(deadline)?))?;
        }
        match (&*socket).read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => filled += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// Returns the time left until a deadline.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::FileExt as _;

    const REQUEST: (u32, &str) = (5, "describe");

    #[test]
    fn a_descriptor_and_values_arrive_with_their_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"granule").unwrap();
        send(&here, &REQUEST, &[], Some(&file), None).unwrap();
        send(&here, &REQUEST, &[1, 2, 3], None, None).unwrap();
        let (first, values, got) = receive::<(u32, String)>(&there, 0, None).unwrap().unwrap();
        assert_eq!((first.0, values.len()), (5, 0));
        let mut bytes = [0; 7];
        got.unwrap().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"granule");
        let (_, values, got) = receive::<(u32, String)>(&there, 3, None).unwrap().unwrap();
        assert_eq!((values, got.is_none()), (vec![1, 2, 3], true));
        drop(here);
        assert!(receive::<(u32, String)>(&there, 0, None).unwrap().is_none());
    }

    #[test]
    fn lengths_are_held_against_limits_and_waits_against_deadlines() {
        for (text, plain) in [(u64::MAX, 0_u64), (MAX_TEXT as u64 + 1, 0), (2, 5)] {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(&[text.to_le_bytes(), plain.to_le_bytes()].concat()).unwrap();
            let error = receive::<(u32, String)>(&there, 4, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text} {plain}");
        }
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[9]).unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(20));
        let error = receive::<(u32, String)>(&there, 0, soon).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        here.write_all(&[9]).unwrap();
        drop(here);
        assert_eq!(
            receive::<(u32, String)>(&there, 0, None).map(|_| ()).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
