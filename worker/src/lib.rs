//! A worker: takes recipes and makes their granules by the engine (`edp-engine`).
//!
//! [`service`] runs the job slots, [`drive`] runs a session from a command, [`tasks`] reads lists. [`console`] is what
//! people see of a program and how they stop it, [`notice`] how the machine under it does. [`look`] draws pictures.

pub mod console;
pub mod drive;
pub mod look;
pub mod notice;
pub mod service;
pub mod tasks;
