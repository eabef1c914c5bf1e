//! A production: recipes sent to workers, outcomes collected, everything written down until all is settled.
//!
//! The [`ledger`] knows where every recipe stands, [`retries`] decides how one goes on that was not made, the
//! [`director`] drives the actors that talk to the workers over the queues. Nothing but the ledger has to survive.

pub mod desk;
pub mod director;
#[cfg(test)]
mod director_tests;
pub mod ledger;
#[cfg(test)]
mod ledger_tests;
mod outcomes;
mod publishing;
pub mod retries;
