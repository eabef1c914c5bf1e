#![allow(clippy::unwrap_used)]
use super::*;
use crate::codec::Compressor;
use crate::granule::kinds::Direct;
use crate::granule::source::Record;
use crate::grid::Mask;
use crate::mds::{FieldLocation, Header, MdsFile};
use edp_files::ReadAt;

/// A grid whose 3-D fields have several chunks along each dimension.
const N: usize = 90;
const LEVELS: usize = 50;
const PLANE: usize = TILES * N * N;

fn grid() -> Native {
    let angles = vec![0.0; PLANE];
    let mut grid = Native::with_angles(N, angles.clone(), angles);
    grid.levels = LEVELS;
    grid
}

/// Returns a record with a number of its own in each cell of 50 levels.
fn record() -> Record {
    let text = format!(
        "nDims=[3]; dimList=[{N},1,{N}, {0},1,{0}, {LEVELS},1,{LEVELS}]; dataprec=['float32']; nrecords=[1];",
        TILES * N
    );
    let bytes: Vec<u8> = (0..LEVELS * PLANE).flat_map(|at| (at as f32 * 0.001 - 7.0).to_be_bytes()).collect();
    let header = Header::parse("x.meta", text.as_bytes()).unwrap();
    let input = MdsFile::open("x.data", header, Box::new(bytes) as Box<dyn ReadAt>).unwrap();
    let found = FieldLocation { record: 0, levels: Some(LEVELS), by_records: false };
    // A few cells of the record have no value.
    Record { missing: Some(f64::from(1000.0_f32 * 0.001 - 7.0)), ..Record::new(input, found) }
}

/// A codec that is fast.
const CODEC: Codec = Codec { compressor: Compressor::Deflate(1), shuffle: true };

fn chunks(field: &Field<'_>, strips: bool, at_once: usize) -> (Vec<Chunk>, ValueSummary<f32>, usize) {
    let (cancel, mut values, mut seen) = (AtomicBool::new(false), Vec::new(), ValueSummary::nothing());
    let parts = field.parts::<f32>(strips);
    let needs = field.needs::<f32>(strips);
    let mut all = Vec::new();
    for part in &parts {
        seen = seen.and(field.fill(part, at_once, &cancel, &mut values).unwrap());
        assert!(size_of_val(&values[..]) as u64 <= needs.part, "{part:?}");
        let chunks = field.compress(part, &values, || ()).unwrap();
        assert!(chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>() <= needs.chunks);
        all.extend(chunks);
    }
    assert_eq!(parts.iter().filter(|part| part.is_first()).count(), 1);
    (all, seen, parts.len())
}

#[test]
fn strips_have_the_chunks_of_slabs() {
    let grid = grid();
    let wet: Vec<bool> =
        (0..LEVELS * PLANE).map(|at| !(at % PLANE).is_multiple_of(7) && at % N >= at / PLANE).collect();
    let mask = Mask::new(N, &wet);
    let (maker, stages) = (Direct(record()), Stages::begin());
    let field = Field {
        name: "THETA",
        maker: &maker,
        grid: &grid,
        levels: Some(LevelSet::uppermost(LEVELS)),
        route: Route::Native(&mask),
        timed: true,
        codec: CODEC,
        chunks: ChunkShapes::Edp,
        paranoid: true,
        stages: &stages,
    };
    let (slabs, seen, count) = chunks(&field, false, usize::MAX);
    assert_eq!((count, slabs.len()), (2, 16));
    let (strips, again, count) = chunks(&field, true, 3);
    assert_eq!(count, 8, "one for each row of chunks");
    assert!(strips == slabs);
    assert_eq!((again.range, again.missing, again.uncovered), (seen.range, seen.missing, 0));
    assert_eq!(seen.missing, 1);
    let [of_slabs, of_strips] = [false, true].map(|strips| field.needs::<f32>(strips));
    assert_eq!((of_slabs.part, of_strips.part), ((25 * PLANE * 4) as u64, 25 * 7 * 45 * 90 * 4));
    assert!(of_strips.level < of_slabs.level && of_strips.chunk == of_slabs.chunk);
}

#[test]
fn a_wrong_value_has_the_same_place_in_strips() {
    let grid = grid();
    let mask = Mask::new(N, &vec![true; LEVELS * PLANE]);
    let mut maker = Direct(record());
    maker.0.missing = None;
    let text = format!(
        "nDims=[3]; dimList=[{N},1,{N}, {0},1,{0}, {LEVELS},1,{LEVELS}]; dataprec=['float32']; nrecords=[1];",
        TILES * N
    );
    let mut bytes: Vec<u8> = (0..LEVELS * PLANE).flat_map(|_| 1.0_f32.to_be_bytes()).collect();
    let at = 40 * PLANE + compact::row(N, 11, 70) * N + 33;
    bytes[4 * at..4 * at + 4].copy_from_slice(&f32::NAN.to_be_bytes());
    let header = Header::parse("x.meta", text.as_bytes()).unwrap();
    maker.0.input = MdsFile::open("x.data", header, Box::new(bytes) as Box<dyn ReadAt>).unwrap();
    let stages = Stages::begin();
    let levels = Some(LevelSet::uppermost(LEVELS));
    let route = Route::Native(&mask);
    let (codec, chunks) = (CODEC, ChunkShapes::Edp);
    let field = Field {
        name: "THETA",
        maker: &maker,
        grid: &grid,
        levels,
        route,
        timed: true,
        codec,
        chunks,
        paranoid: false,
        stages: &stages,
    };
    for strips in [false, true] {
        let fill = |part: &Part| field.fill::<f32>(part, usize::MAX, &AtomicBool::new(false), &mut Vec::new()).err();
        let message = field.parts::<f32>(strips).iter().find_map(fill).unwrap().to_string();
        assert!(message.contains("[11, 70, 33]"), "{message}");
    }
}
