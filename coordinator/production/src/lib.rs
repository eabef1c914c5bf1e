//! Productions: recipes are sent to workers, outcomes are collected, and everything is recorded until all recipes are
//! settled.
//!
//! ```text
//!  session ── starts ──▶ director ──▶ publishing ── task messages ──▶ workers
//!     │                     │                                           │
//!     │ verify, records     │         outcomes ◀────── outcomes ────────┘
//!     ▼                     ▼             │
//!  destination            ledger ◀────────┘ ── failures ──▶ retries
//! ```
//!
//! * A [`session`] is one run of a production, from its recipes to the final verification ([`verify`]).
//! * The [`ledger`] knows the state of every recipe; [`ledger_handle`] gives it a thread of its own.
//! * [`retries`] is the policy that decides what follows after an attempt that made no granule.
//! * The [`director`] starts the actors that exchange messages with workers.
//! * [`records`], [`report`] and [`sweep`] serve the end: digests of granules, the report, and abandoned partial files.
//! * [`complete`] turns lists that EDP wrote into recipes of this project.
//!
//! Only the ledger has to survive a crash, and even it can be begun again: from a copy ([`snapshots`]), or from the
//! granules at the destination ([`adoption`]).

pub mod adoption;
mod announcements;
mod arrivals;
pub mod complete;
pub mod conditions;
pub mod destination;
pub mod director;
#[cfg(test)]
mod director_tests;
mod drive_options;
#[cfg(test)]
mod fixture;
pub mod ledger;
pub mod ledger_handle;
pub mod monitor;
mod outcomes;
mod publishing;
pub mod records;
pub mod report;
pub mod session;
pub mod snapshots;
mod sources;
pub mod sweep;
mod task_groups;
pub mod verify;
mod watching;
