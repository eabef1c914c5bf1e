//! Writes arrays as the model does: big-endian single precision, with a header beside them.

use super::DemoError;
use super::topology::TILES;
use edp_engine::mds::{MdsFile, compact};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Entries of a header beyond the shape.
pub(super) struct MdsField<'a> {
    /// Name of the only field.
    pub(super) field: &'a str,
    /// Model step at the end of the averaging period.
    pub(super) step: i64,
    /// Start and end of the period, in seconds since the model's start.
    pub(super) interval: [f64; 2],
}

/// Writes planes of 13 tiles (tile, j, i), one for each level, to `stem`.data and `stem`.meta.
///
/// A single plane becomes a 2-D file.
pub(super) fn write_planes(
    stem: &Path,
    n: usize,
    values: &[f32],
    output: Option<&MdsField<'_>>,
) -> Result<(), DemoError> {
    let plane = TILES * n * n;
    let mut compacted = vec![0.0; values.len()];
    for (tiles, rows) in values.chunks_exact(plane).zip(compacted.chunks_exact_mut(plane)) {
        compact::from_tiles(n, tiles, rows);
    }
    let levels = values.len() / plane;
    let sizes = [n, TILES * n, levels];
    write(stem, if levels > 1 { &sizes } else { &sizes[..2] }, &compacted, output)
}

/// Writes a vertical profile.
pub(super) fn write_profile(stem: &Path, values: &[f64]) -> Result<(), DemoError> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    write(stem, &[1, 1, values.len()], &values, None)
}

fn write(stem: &Path, sizes: &[usize], values: &[f32], output: Option<&MdsField<'_>>) -> Result<(), DemoError> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    for (path, content) in MdsFile::pair(stem).into_iter().zip([header(sizes, output).into_bytes(), bytes]) {
        fs::write(&path, content).map_err(|source| DemoError::Write { path, source })?;
    }
    Ok(())
}

fn header(sizes: &[usize], output: Option<&MdsField<'_>>) -> String {
    let rows: Vec<_> = sizes.iter().map(|size| format!(" {size:5},{:5},{size:5}", 1)).collect();
    let mut text = format!(
        " nDims = [ {:3} ];\n dimList = [\n{}\n ];\n dataprec = [ 'float32' ];\n nrecords = [ {:5} ];\n",
        sizes.len(),
        rows.join(",\n"),
        1
    );
    if let Some(MdsField { field, step, interval: [start, end] }) = output {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " timeStepNumber = [ {step:10} ];\n timeInterval = [ {start:17.6} {end:17.6} ];\n nFlds = [ {:4} ];\n fldList = {{\n '{field:8}'\n }};\n",
            1
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_reader_finds_every_value_again() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().join("SSH_mon_mean.0000000732");
        let values: Vec<f32> = (0..2 * TILES * 9).map(|v| v as f32).collect();
        let output = MdsField { field: "SSH", step: 732, interval: [0.0, 2_635_200.0] };
        write_planes(&stem, 3, &values, Some(&output)).unwrap();
        let file = MdsFile::open_pair(&stem).unwrap();
        assert_eq!(file.header().sizes(), [3, 39, 2]);
        for level in 0..2 {
            let rows = file.read_plane(0, level).unwrap().into_f32();
            let mut tiles = vec![0.0; rows.len()];
            compact::to_tiles(3, &rows, &mut tiles);
            assert_eq!(tiles, values[level * rows.len()..][..rows.len()]);
        }
        write_planes(&stem, 3, &values[..TILES * 9], Some(&output)).unwrap();
        assert_eq!(MdsFile::open_pair(&stem).unwrap().header().sizes(), [3, 39]);
    }
}
