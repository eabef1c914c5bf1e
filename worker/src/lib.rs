//! Workers: they take recipes and make their granules by the engine (`edp-engine`).
//!
//! ```text
//! queue ──▶ service::serve ──▶ Worker::produce ──▶ edp-engine ──▶ commit
//!                 │            (one in each slot)
//!                 └── outcomes ──▶ queue
//! ```
//!
//! * [`service`] has the worker itself, its job slots, and what recipes may access.
//! * [`drive`] runs a session from a command, with a worker in the same process if that is wanted.
//! * [`tasks`] prepares task lists: it completes those of EDP, and selects the share of one job of several.
//! * [`console`] is the user interface of both programs; [`notice`] waits for the end of the machine.
//! * [`look`] draws quick-look pictures.

pub mod console;
pub mod drive;
pub mod look;
pub mod notice;
pub mod service;
pub mod tasks;
