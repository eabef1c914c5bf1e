//! Inputs of a recipe: they are opened, compared with the recipe and the grid, and assigned to points of the grid.

use super::error::MakeError;
use super::field::FieldError;
use super::make::Assembly;
use super::remote::Remote;
use super::rotation::{Orientation, Staggering};
use super::source::{FieldSource, InputDataFile, Record, Vector};
use super::stages::Stage;
use crate::grid::{HorizontalPoint, Placement, VerticalPoint};
use crate::mds::MdsError;
use crate::metadata::attribute::Attributes;
use crate::metadata::variable::{self, Description};
use edp_files::ReadAt;
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, GridKind, Location, Mode, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;

/// Reads a file from its beginning to its end, unless one of the flags cancels it.
pub(super) struct CancellableReader<'a> {
    pub(super) file: &'a dyn ReadAt,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) stop: &'a [&'a AtomicBool],
}

impl Read for CancellableReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
            return Err(io::Error::other("stopped on request"));
        }
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// An output variable before its values are read.
pub(super) struct Output<'a> {
    /// Name of the variable.
    pub(super) name: &'a str,
    /// Inputs of which it is made.
    pub(super) source: FieldSource,
    /// Points of the grid at which it is defined.
    pub(super) placement: Placement,
    /// Number of levels; `None` if it is 2-D.
    pub(super) levels: Option<usize>,
    /// Description in the metadata.
    pub(super) description: Description,
    /// Attributes of EDP's reader, as far as the mode keeps them. Texts of the metadata replace them in place.
    pub(super) of_reader: Attributes,
    /// Its inputs on S3.
    pub(super) remotes: Vec<Remote>,
}

/// Returns the entity tag that an object must have; `None` if the SHA-256 of its content is recorded, which then
/// decides.
pub(super) fn wanted_tag(planned: &Version) -> Option<&str> {
    planned.etag.as_deref().filter(|_| planned.sha256.is_none())
}

/// Number of variables whose headers are fetched from S3 at once.
const HEADERS_AT_ONCE: usize = 8;

impl Assembly<'_> {
    /// Opens the inputs of all variables; those on S3 several at once.
    pub(super) fn outputs(&self, warnings: &mut Vec<String>) -> Result<Vec<Output<'_>>, MakeError> {
        let variables: Vec<_> = self.recipe.variables.iter().collect();
        let threads = match self.plan.roots.source.parse() {
            Ok(Location::S3 { .. }) => HEADERS_AT_ONCE.min(variables.len()),
            _ => 1,
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut opened = Vec::new();
            while let Some((at, (name, inputs))) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                variables.get(at).map(|variable| (at, *variable))
            } {
                let mut odd = Vec::new();
                let output = self.output(name, inputs, &mut odd);
                let failed = output.is_err();
                opened.push((at, output, odd));
                if failed {
                    break;
                }
            }
            opened
        };
        let mut opened = if threads <= 1 {
            work()
        } else {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                let ended =
                    threads.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                ended.flatten().collect()
            })
        };
        // In the order of the recipe; of several errors the first one counts.
        opened.sort_by_key(|(at, _, _)| *at);
        let mut outputs = Vec::new();
        for (_, output, odd) in opened {
            warnings.extend(odd);
            outputs.push(output?);
        }
        Ok(outputs)
    }

    /// Opens the inputs of a variable, and determines the points of the grid at which it is defined.
    pub(super) fn output<'s>(
        &'s self,
        name: &'s str,
        inputs: &[Vec<String>],
        warnings: &mut Vec<String>,
    ) -> Result<Output<'s>, MakeError> {
        let description = variable::describe(&self.resources.texts.metadata, self.name.grid, name);
        if !description.known {
            warnings.push(format!("{}: {name}: no entry in the variable metadata", self.recipe.granule));
        }
        let (mut remotes, mut of_reader) = (Vec::new(), Vec::new());
        let (source, placement, levels) = match inputs {
            [files] => {
                let (record, field) = self.open(name, 0, files, &mut remotes, warnings)?;
                let levels = self.levels(name, &field, &record)?;
                let placement = self.placement(name, &field, &description, levels.is_some(), warnings)?;
                self.check_gaps(name, &record, placement.horizontal, warnings)?;
                if self.plan.mode == Mode::Edp2026 && self.name.grid == GridKind::Native {
                    of_reader = self.resources.grid.diagnostics.attributes(&field);
                }
                (FieldSource::Direct(Box::new(record)), placement, levels)
            }
            [first, second] => self.rotated(name, first, second, &mut remotes, warnings)?,
            _ => return Err(self.fail(name, format!("{} inputs: one, or two for a rotated vector", inputs.len()))),
        };
        Ok(Output { name, source, placement, levels, description, of_reader, remotes })
    }

    /// Makes a component of a vector at cell centres from the two components of the model.
    fn rotated(
        &self,
        name: &str,
        first: &[String],
        second: &[String],
        remotes: &mut Vec<Remote>,
        warnings: &mut Vec<String>,
    ) -> Result<(FieldSource, Placement, Option<usize>), MakeError> {
        let dynamic = &self.recipe.dynamic_metadata;
        let components = dynamic.field_components.as_ref().and_then(|of| of.get(name));
        let orientation = dynamic.field_orientations.as_ref().and_then(|of| of.get(name));
        let (Some(components), Some(orientation)) = (components, orientation) else {
            return Err(self.fail(name, "two inputs, but no entry in field_components and field_orientations"));
        };
        let orientation = orientation.parse::<Orientation>().map_err(|why| self.fail(name, why))?;
        let first = self.open(name, 0, first, remotes, warnings)?;
        let second = self.open(name, 1, second, remotes, warnings)?;
        let (x, y) = match (first.1 == components.x, second.1 == components.y) {
            (true, true) => (first, second),
            (false, false) if first.1 == components.y && second.1 == components.x => (second, first),
            _ => {
                let why = format!(
                    "its inputs are {} and {}, its components {} and {}",
                    first.1, second.1, components.x, components.y
                );
                return Err(self.fail(name, why));
            }
        };
        let levels = self.levels(name, &x.1, &x.0)?;
        if self.levels(name, &y.1, &y.0)? != levels {
            return Err(
                self.fail(name, format!("{} and {} differ in their levels", x.0.input.name(), y.0.input.name()))
            );
        }
        let mut place = |field: &str| {
            let description = variable::describe(&self.resources.texts.metadata, GridKind::Native, field);
            self.placement(name, field, &description, levels.is_some(), warnings)
        };
        let (of_x, of_y) = (place(&x.1)?, place(&y.1)?);
        let staggering = match (of_x.horizontal, of_y.horizontal) {
            (HorizontalPoint::C, HorizontalPoint::C) => Staggering::Centres,
            (HorizontalPoint::U, HorizontalPoint::V) => Staggering::Faces,
            (a, b) => {
                return Err(self.fail(name, format!("{} and {} are at {a:?} and {b:?} points: no vector", x.1, y.1)));
            }
        };
        self.check_gaps(name, &x.0, of_x.horizontal, warnings)?;
        self.check_gaps(name, &y.0, of_y.horizontal, warnings)?;
        let placement = Placement { horizontal: HorizontalPoint::C, vertical: of_x.vertical };
        let vector = Vector { x: x.0, y: y.0, staggering, orientation };
        Ok((FieldSource::Rotated(Box::new(vector)), placement, levels))
    }

    /// Returns the number of levels of an input that suits the grid; `None` if it is 2-D. A third dimension of length
    /// one does not count, unless the grid has only one level.
    fn levels(&self, name: &str, field: &str, record: &Record) -> Result<Option<usize>, MakeError> {
        let (input, grid) = (&record.input, &self.resources.grid.native);
        let size = input.header().llc_size()?;
        if size != grid.n {
            return Err(self.fail(name, format!("{} is on LLC{size}, the grid is LLC{}", input.name(), grid.n)));
        }
        let wanted = self.levels_of_grid();
        let is_flat = || self.resources.grid.diagnostics.placement(field).is_some_and(|place| place.vertical.is_none());
        match record.found.levels {
            Some(1) if wanted != 1 || is_flat() => Ok(None),
            Some(levels) if levels != wanted => {
                Err(self.fail(name, format!("{} has {levels} levels, the grid {wanted}", input.name())))
            }
            levels => Ok(levels),
        }
    }

    /// Number of levels of a 3-D variable.
    pub(super) fn levels_of_grid(&self) -> usize {
        self.resources.target.as_ref().map_or(self.resources.grid.native.levels, |target| target.latlon.z.len())
    }

    /// Returns the inputs of some outputs by path below the source root, with the SHA-256 of every file that was read
    /// as a whole: all files except those with several records, unless their content was recorded when planning.
    /// Objects on S3 are hashed after they were fetched, and added by [`Assembly::add_fetched`]. Gives up when `over`
    /// is set.
    ///
    /// SHA-256 needs the bytes of a file from its beginning to its end, whereas levels are read by all threads in any
    /// order. To hash what they read, the threads would have to wait for each other, or buffer up to half a slab. So
    /// this reads the files once more in sequence, on a thread of its own. Whichever thread is first brings a file into
    /// the page cache; apart from that it costs processor time only, which the stage `hash` shows. A digest that is
    /// known from another granule is not computed again.
    ///
    /// The last file waits for `spare`, or for its other end to be dropped: while the last chunk is compressed, and
    /// then the granule is hashed, each of which occupies one core, there is a core to spare for it.
    pub(super) fn hash(
        &self,
        outputs: &[Output<'_>],
        spare: Receiver<()>,
        over: &AtomicBool,
    ) -> Result<Vec<wire::InputRead>, MakeError> {
        let fetched: BTreeSet<&str> = outputs.iter().flat_map(|output| &output.remotes).map(Remote::path).collect();
        let (mut found, mut whole) = (BTreeMap::new(), BTreeMap::new());
        for record in outputs.iter().flat_map(|output| output.source.records()) {
            let records = record.input.header().records;
            found.extend(record.headers.iter().map(|header| (header.path.clone(), header.clone())));
            for file in &record.files {
                let path = self.recipe.input_below_root(&file.path)?.to_owned();
                let planned = self.plan.inputs.get(&path).is_some_and(|version| version.sha256.is_some());
                if (records == 1 || planned) && !fetched.contains(file.path.as_str()) {
                    whole.insert(path.clone(), file); // both components of a vector may read it
                }
                let input = wire::InputRead { path: path.clone(), size: file.size, sha256: String::new() };
                found.insert(path, input);
            }
        }
        let mut whole = whole.into_iter().peekable();
        while let Some((path, file)) = whole.next() {
            if whole.peek().is_none() {
                let _ = spare.recv(); // an error says that the other end was dropped
            }
            let digest = self.digest(file, over)?;
            found.entry(path).and_modify(|input| input.sha256 = digest.as_str().to_owned());
        }
        Ok(found.into_values().collect())
    }

    /// Returns the SHA-256 of an input.
    fn digest(&self, file: &InputDataFile, over: &AtomicBool) -> Result<Digest, MakeError> {
        let (data, size) = (&*file.data, file.size);
        let hash = || {
            let pass = CancellableReader { file: data, at: 0, size, stop: &[self.cancel, over] };
            self.stages.time(Stage::Hash, size, || Digest::of_reader(pass)).map(|(digest, _)| digest)
        };
        self.digest_cache.digest(data, hash).map_err(|source| match self.cancel.load(Ordering::Relaxed) {
            true => MakeError::Field(FieldError::Cancelled),
            false => MakeError::Mds(MdsError::Read { file: file.path.clone(), source }),
        })
    }

    /// Refuses inputs whose content is not the one that was recorded when the recipe was planned.
    pub(super) fn check_content(&self, inputs: &[wire::InputRead]) -> Result<(), MakeError> {
        for (path, version) in &self.plan.inputs {
            let Some(planned) = &version.sha256 else { continue };
            let Some(input) = inputs.iter().find(|input| input.path == *path) else { continue };
            if input.sha256 != planned.as_str() {
                let found = &input.sha256;
                let difference = format!("has the SHA-256 {found}, but had {planned} when the recipe was planned");
                return Err(MakeError::InputChanged { path: path.clone(), difference });
            }
        }
        Ok(())
    }

    /// Adds the SHA-256 of the objects that were fetched from S3.
    pub(super) fn add_fetched(&self, outputs: &[Output<'_>], inputs: &mut [wire::InputRead]) -> Result<(), MakeError> {
        for remote in outputs.iter().flat_map(|output| &output.remotes) {
            let path = self.recipe.input_below_root(remote.path())?;
            if let (Some(input), Some(digest)) = (inputs.iter_mut().find(|input| input.path == path), remote.digest()) {
                input.sha256 = digest.as_str().to_owned();
            }
        }
        Ok(())
    }

    /// Determines the points of a variable: by the model's list of diagnostics, else by the metadata.
    fn placement(
        &self,
        name: &str,
        field: &str,
        description: &Description,
        three_d: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Placement, MakeError> {
        if let Some(placement) = self.resources.grid.diagnostics.placement(field) {
            let vertical = match (placement.vertical, three_d) {
                (_, false) => None,
                (Some(point), true) => Some(point),
                (None, true) => {
                    return Err(
                        self.fail(name, format!("{field} has no levels in the diagnostics list, but its file has"))
                    );
                }
            };
            return Ok(Placement { vertical, ..placement });
        }
        let location = description.grid_location.as_deref();
        let horizontal = match location {
            Some("c" | "w") => HorizontalPoint::C,
            Some("u") => HorizontalPoint::U,
            Some("v") => HorizontalPoint::V,
            Some("z") => HorizontalPoint::Z,
            _ => {
                let why = format!(
                    "{field} is neither in {} of the grid nor has it a grid_location in the metadata: add it to one of them",
                    crate::grid::DIAGNOSTICS_FILE
                );
                return Err(self.fail(name, why));
            }
        };
        let level = if location == Some("w") { VerticalPoint::Lower } else { VerticalPoint::Center };
        warnings.push(format!(
            "{}: {name}: {field} is not in the diagnostics list, its point is taken from the metadata",
            self.recipe.granule
        ));
        Ok(Placement { horizontal, vertical: three_d.then_some(level) })
    }
}
