//! Native-to-latlon weights in the file formats of EDP.

pub mod pickle;
