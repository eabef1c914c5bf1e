//! Results of a model run in other layouts than one file for each variable: several fields in one file, or a file for
//! each tile, as MITgcm can write them.

use edp_engine::mds::{Header, MdsFile, compact};
use edp_protocol::name::{ResultName, split_period};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lists the headers of all results below a directory.
fn headers(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "meta") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// One variable at one step, as read from its own file.
struct SingleVariable {
    stem: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

impl SingleVariable {
    fn read(meta: &Path) -> SingleVariable {
        let stem = meta.with_extension("");
        let header = MdsFile::open_pair(&stem).expect("a pair").header().clone();
        SingleVariable { bytes: fs::read(meta.with_extension("data")).expect("data"), stem, header }
    }

    fn name(&self) -> ResultName<'_> {
        let base = self.stem.file_name().and_then(|name| name.to_str()).expect("a name");
        let (series, step) = base.split_once('.').expect("a step");
        ResultName { series, step: step.parse().expect("a step"), piece: None, meta: true }
    }
}

/// Returns the text of a header. `dimensions` holds the size, first and last index of each dimension.
fn text(dimensions: &[[usize; 3]], header: &Header, fields: &[&str], more: &str) -> String {
    let lines: Vec<String> = dimensions.iter().map(|[size, first, last]| format!(" {size}, {first}, {last}")).collect();
    let names: String = fields.iter().map(|field| format!(" '{field:8}'")).collect();
    let interval: String = header.interval.iter().map(|seconds| format!(" {seconds:.6}")).collect();
    format!(
        " nDims = [ {} ];\n dimList = [\n{}\n ];\n{more} dataprec = [ 'float32' ];\n nrecords = [ {} ];\n \
         timeStepNumber = [ {} ];\n timeInterval = [{interval} ];\n nFlds = [ {} ];\n fldList = {{\n{names}\n }};\n",
        dimensions.len(),
        lines.join(",\n"),
        fields.len(),
        header.step.unwrap_or_default(),
        fields.len(),
    )
}

fn write(stem: &Path, end: &str, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(stem.parent().expect("a directory")).expect("a new directory");
    fs::write(format!("{}.{end}", stem.display()), bytes).expect("room for a file");
}

/// Writes all variables of each period word, step and number of levels into one file below `to`, in alphabetical order.
/// The files are named `state_2d_set1_mon_mean` and so on, or without the period word.
pub fn grouped(from: &Path, to: &Path, with_word: bool) {
    let mut groups: BTreeMap<(String, u64), Vec<SingleVariable>> = BTreeMap::new();
    for meta in headers(from) {
        let single = SingleVariable::read(&meta);
        let name = single.name();
        let (_, word) = split_period(name.series).expect("a period word");
        let kind = if single.header.levels().is_some() { "3d" } else { "2d" };
        let group =
            if with_word { format!("state_{kind}_set1_{word}") } else { format!("state_{kind}_{}", &word[..3]) };
        groups.entry((group, name.step)).or_default().push(single);
    }
    for ((group, step), singles) in groups {
        let first = &singles[0].header;
        let dimensions: Vec<[usize; 3]> = first.sizes().iter().map(|&size| [size, 1, size]).collect();
        let fields: Vec<&str> = singles.iter().map(|single| single.header.fields[0].as_str()).collect();
        let bytes: Vec<u8> = singles.iter().flat_map(|single| single.bytes.iter().copied()).collect();
        let stem = to.join("DEMO/diags").join(&group).join(format!("{group}.{step:010}"));
        write(&stem, "meta", text(&dimensions, first, &fields, ""));
        write(&stem, "data", bytes);
    }
}

/// The columns and rows of a tile that a piece covers.
pub type PieceCells = [std::ops::Range<usize>; 2];

/// Writes all results below `to` in pieces of `size` by `size` cells, as the model does on a compact grid: the header
/// of each piece states its place in the whole array. A piece is written if `keep` returns true for its tile and cells.
pub fn tiled(from: &Path, to: &Path, size: usize, keep: impl Fn(usize, &PieceCells) -> bool) {
    for meta in headers(from) {
        let single = SingleVariable::read(&meta);
        let (header, n) = (&single.header, single.header.llc_size().expect("a compact grid"));
        let stem = to.join(single.stem.strip_prefix(from).expect("a path below"));
        let mut number = 0;
        for tile in 0..compact::TILES {
            for j in (0..n).step_by(size) {
                for i in (0..n).step_by(size) {
                    number += 1;
                    if !keep(tile, &[i..i + size, j..j + size]) {
                        continue;
                    }
                    let (row, stride) = (compact::row(n, tile, j), if tile < 7 { 1 } else { 3 });
                    let mut dimensions = vec![[n, i + 1, i + size], [13 * n, row + 1, row + size]];
                    dimensions.extend(header.levels().map(|levels| [levels, 1, levels]));
                    let planes = single.bytes.chunks_exact(header.plane() * 4);
                    let rows = planes.flat_map(|plane| {
                        (j..j + size).map(move |j| &plane[(compact::row(n, tile, j) * n + i) * 4..][..size * 4])
                    });
                    let map = if stride == 1 { "" } else { " map2glob = [ 0, 3 ];\n" };
                    let piece = PathBuf::from(format!("{}.{number:03}.001", stem.display()));
                    write(&piece, "meta", text(&dimensions, header, &[&header.fields[0]], map));
                    write(&piece, "data", rows.flatten().copied().collect::<Vec<u8>>());
                }
            }
        }
    }
}
