//! The main job with nothing at hand.
mod bathymetry;
mod calendar;
mod coast;
mod datasets;
mod factors;
mod geometry;
mod mds;
mod ocean;
mod results;
mod sphere;
mod topology;

/// Why the demo's inputs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file cannot be written.
    #[error("{}: cannot write: {source}", path.display())]
    Write {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The search for neighbours failed.
    #[error("search for nearest neighbours: {0}")]
    Search(String),
}
