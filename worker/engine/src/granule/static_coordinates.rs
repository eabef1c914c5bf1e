//! Coordinates that all granules of a grid share.

use super::content::Storage;
use crate::codec::Codec;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

/// Static horizontal coordinates of a grid, compressed once for all granules.
#[derive(Debug, Default)]
pub struct StaticCoordinates {
    /// Values by name and codec.
    pub(super) prepared: Mutex<HashMap<(&'static str, Codec), Storage>>,
    /// Ranges of latitude and longitude that the cells cover.
    pub(super) extent: OnceLock<[[f64; 2]; 2]>,
}
