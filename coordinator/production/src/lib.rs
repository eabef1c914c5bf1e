//! A production: recipes sent to workers, outcomes collected, everything written down until all is settled.
//!
//! A [`session`] is one run of a production from its recipes to the closing check. The [`ledger`] knows where every recipe stands, [`retries`] decides how one goes on that was not made, the
//! [`director`] drives the actors that talk to the workers over the queues. Nothing but the ledger has to survive, and
//! even that can be begun again: from a copy ([`snapshots`]), or from what stands at the destination ([`adoption`]).

pub mod adoption;
mod arrivals;
pub mod complete;
pub mod conditions;
pub mod destination;
pub mod director;
#[cfg(test)]
mod director_tests;
#[cfg(test)]
mod fixture;
pub mod ledger;
pub mod ledger_handle;
mod outcomes;
mod publishing;
pub mod records;
pub mod report;
pub mod retries;
pub mod session;
pub mod snapshots;
mod sources;
pub mod sweep;
pub mod verify;
mod watching;
