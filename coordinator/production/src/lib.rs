//! A production: recipes sent to workers, outcomes collected, everything written down until all is settled.
//!
//! The [`ledger`] knows where every recipe stands, [`retries`] decides how one goes on that was not made, the
//! [`director`] drives the actors that talk to the workers over the queues. Nothing but the ledger has to survive, and
//! even that can be begun again: from a copy ([`snapshots`]), or from what stands at the destination ([`adoption`]).

pub mod adoption;
pub mod desk;
pub mod destination;
pub mod director;
#[cfg(test)]
mod director_tests;
#[cfg(test)]
mod fixture;
pub mod ledger;
mod outcomes;
mod publishing;
pub mod retries;
pub mod snapshots;
pub mod verify;
