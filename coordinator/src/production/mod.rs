//! A production: recipes sent to workers, outcomes collected, everything written down until all is settled.
//!
//! The [`ledger`] knows where every recipe stands, [`retries`] decides how one goes on that was not made, the
//! [`director`] talks to the workers over the queues. Nothing but the ledger has to survive, and even that can be begun
//! again: from a copy ([`snapshots`]), or from what stands at the [`destination`].

pub mod desk;
pub mod destination;
pub mod director;
pub mod ledger;
pub mod retries;
pub mod snapshots;
