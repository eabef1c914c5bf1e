//! Inputs of a recipe: they are opened, compared with the recipe and the grid, and assigned to points of the grid.

use super::assembly::Assembly;
use super::cancellable_reader::CancellableReader;
use super::error::MakeError;
use super::field_error::FieldError;
use super::kinds::{OpenedVariable, Opening};
use super::remote::Remote;
use super::source::InputDataFile;
use super::stages::Stage;
use crate::grid::{HorizontalPoint, Placement, VerticalPoint};
use crate::mds::MdsError;
use crate::metadata::variable::{self, Description};
use edp_files::at_once;
use edp_protocol::{Digest, Location, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

/// An output variable before its values are read.
pub(super) struct Output<'a> {
    /// Name of the variable.
    pub(super) name: &'a str,
    /// The maker of the field, with its inputs open.
    pub(super) opened: OpenedVariable,
    /// Description in the metadata.
    pub(super) description: Description,
    /// The inputs of the field that are on S3.
    pub(super) remotes: Vec<Remote>,
}

/// Number of variables whose headers are fetched from S3 at once.
const HEADERS_AT_ONCE: usize = 8;

impl Assembly<'_> {
    /// Opens the inputs of all variables; those on S3 several at once.
    pub(super) fn outputs(&self, warnings: &mut Vec<String>) -> Result<Vec<Output<'_>>, MakeError> {
        let variables: Vec<_> = self.recipe.variables.iter().collect();
        let is_remote = self.plan.roots.source.parse().is_ok_and(|at: Location| at.is_remote());
        let threads = if is_remote { HEADERS_AT_ONCE } else { 1 };
        let opened = at_once::map(&variables, threads, |(name, inputs)| {
            let mut odd = Vec::new();
            (self.output(name, inputs, &mut odd), odd)
        });
        // Of several errors, that of the first variable counts.
        let mut outputs = Vec::new();
        for (output, odd) in opened {
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
        let describe = if self.has_time() { variable::describe } else { variable::describe_invariant };
        let description = describe(&self.resources.texts.metadata, self.name.grid, name);
        if !description.known {
            warnings.push(format!("{}: {name}: no entry in the variable metadata", self.recipe.granule));
        }
        let mut remotes = Vec::new();
        let opened = self.maker(Opening {
            assembly: self,
            name,
            description: &description,
            inputs,
            remotes: &mut remotes,
            warnings,
        })?;
        Ok(Output { name, opened, description, remotes })
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
        found.extend(
            outputs.iter().flat_map(|output| output.opened.maker.means()).map(|mean| (mean.path.clone(), mean)),
        );
        for record in outputs.iter().flat_map(|output| output.opened.maker.records()) {
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

    /// The point of a variable: from the model's list, else from the metadata.
    pub(super) fn placement(
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
