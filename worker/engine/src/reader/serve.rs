//! The main loop of the helper process.

use super::image::Image;
use super::open_file::OpenFile;
use super::wire::{Answer, Ask, HelperRequest};
use crate::libraries::silence_hdf5;
use crate::own_process::{self, receive, send};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

/// Serves the program that started this process until that program closes its end of the socket, which is the standard
/// input here. Returns the exit status.
pub(super) fn serve() -> i32 {
    let Some(socket) = own_process::inherited() else { return 1 };
    std::panic::set_hook(Box::new(|_| {})); // a panic is sent as an answer, not printed
    silence_hdf5();
    #[cfg(target_os = "linux")]
    super::confine::confine();
    // An error of the socket cannot be reported: the program sees that the socket is closed.
    let served = answer(&socket, &Answer::Ready, &[]).and_then(|()| serve_all(&socket));
    i32::from(served.is_err())
}

fn serve_all(socket: &UnixStream) -> io::Result<()> {
    while let Some((request, _, file)) = receive::<HelperRequest>(socket, 0, None)? {
        match file {
            Some(file) => serve_file(socket, file, request)?,
            None if matches!(request.ask, Ask::Close) => {}
            None => answer(socket, &Answer::Unread("no file was sent".into()), &[])?,
        }
    }
    Ok(())
}

/// Answers requests about one file until it is closed.
fn serve_file(socket: &UnixStream, file: File, first: HelperRequest) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    super::confine::limit_processor_time(first.seconds);
    let image = match Image::map(&file) {
        Ok(image) => image,
        Err(error) => return answer(socket, &Answer::Unread(error.to_string()), &[]),
    };
    drop(file); // the mapping remains valid
    let mut opened = OpenFile::new(&image);
    let mut next = Some(first);
    while let Some(request) = next {
        if matches!(request.ask, Ask::Close) {
            break;
        }
        #[cfg(target_os = "linux")]
        super::confine::limit_processor_time(request.seconds);
        let (said, values) = opened.answer(&request.ask);
        answer(socket, &said, &values)?;
        next = receive::<HelperRequest>(socket, 0, None)?.map(|(request, _, _)| request);
    }
    Ok(())
}

fn answer(socket: &UnixStream, answer: &Answer, values: &[u8]) -> io::Result<()> {
    send(socket, answer, values, None, None)
}
