//! Configuration, groupings, attribute sources and the PO.DAAC table, as EDP keeps them.

pub mod configuration;
pub mod groupings;
