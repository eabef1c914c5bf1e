//! The model grid: native and latlon geometry, masks, the diagnostics list.
