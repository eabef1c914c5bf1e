//! The entry point of a helper process.
//!
//! It is called before `main`, so that no program can forget it, and so that tests have it too, whose `main` is
//! generated: a program that contains this crate and is started with the single argument [`COMMAND`] and with a socket
//! as its standard input serves the program that started it, and then ends.
//!
//! `unsafe` is needed for being called before `main`, and for closing inherited descriptors, which only a process that
//! owns no descriptor yet may do.
#![allow(unsafe_code)]

use super::{COMMAND, serve};
use std::io;

extern "C" fn become_helper() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != COMMAND) || arguments.next().is_some() {
        return;
    }
    if rustix::net::sockopt::socket_type(io::stdin()).is_err() {
        eprintln!("error: {COMMAND} is started by this program itself, to read NetCDF files");
        std::process::exit(2);
    }
    #[cfg(target_os = "linux")]
    // SAFETY: there is one thread, and nothing in this process has opened a file yet: what is open beyond the standard
    // streams was inherited, and is not used. Kernels before 5.9 refuse the call, which changes nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
    std::process::exit(serve::serve());
}

// SAFETY: these sections hold pointers to functions of this type, which the loader calls one after the other.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_MAIN: extern "C" fn() = become_helper;
