//! Metadata of a run: its variables with what the model's list of diagnostics says of them, and a dataset for each series
//! of results.

use super::model_run::{ModelRun, ResultSeries};
use super::units::{eastward_northward, standard_name, units};
use edp_engine::grid::{Diagnostics, HorizontalPoint, Placement, VerticalPoint};
use edp_engine::metadata::attribute::{self, Attributes};
use edp_protocol::name::split_period;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Units of vectors whose components can be turned to east and north. Transports through cell faces are no vectors.
const OF_VECTORS: [&str; 4] = ["m s-1", "N m-2", "m s-2", "m2 s-2"];

/// Vectors that are known without a list of diagnostics.
const VECTORS: [[&str; 2]; 5] = [
    ["UVEL", "VVEL"],
    ["UVELMASS", "VVELMASS"],
    ["oceTAUX", "oceTAUY"],
    ["SIuice", "SIvice"],
    ["EXFuwind", "EXFvwind"],
];

/// Variables that are known to lie at the upper faces of cells.
const AT_UPPER_FACES: [&str; 2] = ["WVEL", "WVELMASS"];

/// The metadata of a run.
#[derive(Debug)]
pub(super) struct RunMetadata {
    /// Datasets on the native grid.
    pub(super) native: Vec<Value>,
    /// Datasets on the latlon grid.
    pub(super) latlon: Vec<Value>,
    /// Variables of both grids.
    pub(super) variables: Vec<Value>,
    /// Variables of the latlon grid: components that point to east and north.
    pub(super) latlon_variables: Vec<Value>,
    /// Sentences on what was guessed.
    pub(super) guesses: Vec<String>,
}

/// Describes the variables and datasets of a run.
pub(super) fn describe(run: &ModelRun, list: Option<&Diagnostics>) -> RunMetadata {
    let mut metadata = RunMetadata {
        native: Vec::new(),
        latlon: Vec::new(),
        variables: Vec::new(),
        latlon_variables: Vec::new(),
        guesses: Vec::new(),
    };
    let mut variables: BTreeMap<&str, DescribedVariable<'_>> = BTreeMap::new();
    for series in run.series.values() {
        for field in &series.fields {
            variables
                .entry(field)
                .or_insert_with(|| DescribedVariable::new(field, series, list, &mut metadata.guesses));
        }
    }
    let vectors = vectors(&variables);
    let mut names = BTreeSet::new();
    for datasets in datasets(run) {
        let filename = free_name(&mut names, &datasets);
        metadata.native.push(datasets.grouping(&filename, &datasets.fields, &[]));
        let fields: Vec<String> = datasets.mapped(&variables, &vectors, &mut metadata.guesses);
        if !fields.is_empty() {
            metadata.latlon.push(datasets.grouping(&filename, &fields, &vectors));
        }
    }
    metadata.latlon_variables = vectors.iter().flat_map(|vector| vector.entries(&variables)).collect();
    metadata.variables = variables.values().map(|variable| variable.entry()).collect();
    metadata
}

/// Series with the same variables, which differ in their frequency: one dataset.
struct RunDataset {
    name: String,
    fields: Vec<String>,
    three_d: bool,
    frequencies: BTreeSet<&'static str>,
}

/// Returns the datasets of a run: series of the same name but for the period word are one.
fn datasets(run: &ModelRun) -> Vec<RunDataset> {
    let mut found: Vec<RunDataset> = Vec::new();
    for (name, series) in &run.series {
        let name = split_period(name).map_or(name.as_str(), |(stem, _)| stem);
        let (three_d, word) = (series.levels > 1, series.frequency.job_word());
        let same = found.iter_mut().find(|dataset| {
            (dataset.name.as_str(), &dataset.fields, dataset.three_d) == (name, &series.fields, three_d)
        });
        match same {
            Some(dataset) => drop(dataset.frequencies.insert(word)),
            None => found.push(RunDataset {
                name: name.into(),
                fields: series.fields.clone(),
                three_d,
                frequencies: BTreeSet::from([word]),
            }),
        }
    }
    found
}

/// Returns a first part of file names that no other dataset has, without what would be taken for another part.
fn free_name(taken: &mut BTreeSet<String>, dataset: &RunDataset) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = dataset.name.chars().map(plain).collect();
    let name = name.trim_matches('_').to_owned();
    let name = if name.is_empty() { "DATASET".to_owned() } else { name };
    let mut free = name.clone();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
}

/// A vector of a dataset, and the outputs that point to east and north.
struct Vector {
    components: [String; 2],
    outputs: [String; 2],
}

/// Returns the vectors of which the run has both components, in one file or in two.
fn vectors(variables: &BTreeMap<&str, DescribedVariable<'_>>) -> Vec<Vector> {
    let of = |variable: &DescribedVariable<'_>| {
        let mate = variable.mate().filter(|mate| variables.contains_key(mate.as_str()))?;
        let outputs = eastward_northward(variable.name, &mate).filter(|_| variable.is_of_a_vector())?;
        Some(Vector { components: [variable.name.to_owned(), mate], outputs })
    };
    variables.values().filter_map(of).collect()
}

impl RunDataset {
    /// Returns the fields that make sense on a latlon grid, rotated ones in the place of their components.
    fn mapped(
        &self,
        variables: &BTreeMap<&str, DescribedVariable<'_>>,
        vectors: &[Vector],
        guesses: &mut Vec<String>,
    ) -> Vec<String> {
        let mut fields = Vec::new();
        for field in &self.fields {
            let of = |place: usize| vectors.iter().find(|vector| vector.components[place] == *field);
            if let Some((vector, place)) = of(0).map(|vector| (vector, 0)).or_else(|| of(1).map(|vector| (vector, 1))) {
                fields.push(vector.outputs[place].clone());
            } else if variables.get(field.as_str()).is_none_or(|variable| variable.is_at_centres()) {
                fields.push(field.clone());
            } else {
                guesses.push(format!(
                    "{field} of {}: only on the native grid, since it lies on cell faces or corners and is no component of a vector",
                    self.name
                ));
            }
        }
        fields
    }

    fn grouping(&self, filename: &str, fields: &[String], vectors: &[Vector]) -> Value {
        let mut entry = Map::new();
        entry.insert("name".into(), json!(self.name.replace('_', " ")));
        entry.insert("fields".into(), json!(fields.join(", ")));
        entry.insert("filename".into(), json!(filename));
        entry.insert("dimension".into(), json!(if self.three_d { "3D" } else { "2D" }));
        let words: Vec<&str> = self.frequencies.iter().copied().collect();
        entry.insert("frequency".into(), json!(words.join(", ")));
        entry.insert(
            "internal_note".into(),
            json!("one dataset for each file of data.diagnostics; name it as its users would"),
        );
        if vectors.iter().any(|vector| vector.outputs.iter().any(|output| fields.contains(output))) {
            let (mut components, mut orientations) = (Map::new(), Map::new());
            for Vector { components: [x, y], outputs } in vectors {
                let oriented = outputs.iter().zip(["zonal", "meridional"]);
                for (output, orientation) in oriented.filter(|(output, _)| fields.contains(output)) {
                    components.insert(output.clone(), json!({ "x": x, "y": y }));
                    orientations.insert(output.clone(), json!(orientation));
                }
            }
            entry.insert("field_components".into(), components.into());
            entry.insert("field_orientations".into(), orientations.into());
        }
        Value::Object(entry)
    }
}

impl Vector {
    /// Returns the metadata of the outputs, made from those of the components.
    fn entries(&self, variables: &BTreeMap<&str, DescribedVariable<'_>>) -> Vec<Value> {
        let words = ["eastward", "northward"];
        let pairs = self.outputs.iter().zip(&self.components).zip(words);
        pairs
            .filter_map(|((output, component), word)| {
                let variable = variables.get(component.as_str())?;
                let mut entry = variable
                    .keys(output, &format!("{word} component of the vector of {}", self.components.join(" and ")));
                entry.insert("grid_location".into(), json!("c"));
                Some(Value::Object(entry))
            })
            .collect()
    }
}

/// A variable with what is known of it.
struct DescribedVariable<'a> {
    name: &'a str,
    three_d: bool,
    attributes: Attributes,
    placement: Option<Placement>,
    /// Units in the form of UDUNITS, or as they are.
    units: String,
    /// What was guessed about it; empty if nothing was.
    guess: String,
}

impl<'a> DescribedVariable<'a> {
    fn new(
        name: &'a str,
        series: &ResultSeries,
        list: Option<&Diagnostics>,
        guesses: &mut Vec<String>,
    ) -> DescribedVariable<'a> {
        let attributes = list.map(|list| list.attributes(name)).unwrap_or_default();
        let placement = list.and_then(|list| list.placement(name));
        let raw = attribute::get(&attributes, "units").and_then(attribute::Value::text).unwrap_or_default().to_owned();
        let mut guess = Vec::new();
        let units = match units(&raw) {
            Some(_) if attributes.is_empty() => {
                guess.push("its units are not known: there is no available_diagnostics.log with it".to_owned());
                "1".to_owned()
            }
            Some(units) => units,
            None => {
                guess.push(format!("its units '{raw}' are not understood"));
                raw
            }
        };
        if placement.is_none() {
            guess.push(format!(
                "it is taken to lie at cell {}",
                if is_known_vector(name) || AT_UPPER_FACES.contains(&name) { "faces" } else { "centres" }
            ));
        }
        let guess = guess.join("; ");
        if !guess.is_empty() {
            guesses.push(format!("{name}: {guess}"));
        }
        DescribedVariable { name, three_d: series.levels > 1, attributes, placement, units, guess }
    }

    /// Returns the name of the other component of its vector, if it is the one along the first axis.
    fn mate(&self) -> Option<String> {
        let known = || VECTORS.iter().find(|[x, _]| *x == self.name).map(|[_, y]| (*y).to_owned());
        let listed = attribute::get(&self.attributes, "mate").and_then(attribute::Value::text).map(str::to_owned);
        if self.attributes.is_empty() { known() } else { listed }
    }

    fn is_of_a_vector(&self) -> bool {
        self.attributes.is_empty() || OF_VECTORS.contains(&self.units.as_str())
    }

    fn is_at_centres(&self) -> bool {
        match self.placement {
            Some(placement) => placement.horizontal == HorizontalPoint::C,
            None => !is_known_vector(self.name),
        }
    }

    fn location(&self) -> &'static str {
        let known = VECTORS.iter().find_map(|[x, y]| match self.name {
            name if name == *x => Some("u"),
            name if name == *y => Some("v"),
            _ => None,
        });
        match self.placement {
            None if AT_UPPER_FACES.contains(&self.name) => "w",
            None => known.unwrap_or("c"),
            Some(Placement { horizontal: HorizontalPoint::U, .. }) => "u",
            Some(Placement { horizontal: HorizontalPoint::V, .. }) => "v",
            Some(Placement { horizontal: HorizontalPoint::Z, .. }) => "z",
            Some(Placement { vertical: Some(VerticalPoint::Lower | VerticalPoint::Upper), .. }) => "w",
            Some(_) => "c",
        }
    }

    /// Returns the metadata of this variable.
    fn entry(&self) -> Value {
        let title = attribute::get(&self.attributes, "long_name").and_then(attribute::Value::text);
        Value::Object(self.keys(self.name, title.filter(|title| !title.is_empty()).unwrap_or(self.name)))
    }

    /// Returns the metadata under another name and title.
    fn keys(&self, name: &str, title: &str) -> Map<String, Value> {
        let mut entry = Map::new();
        entry.insert("name".into(), json!(name));
        entry.insert("long_name".into(), json!(title));
        if let Some(standard_name) = standard_name(name) {
            entry.insert("standard_name".into(), json!(standard_name));
        }
        entry.insert("units".into(), json!(self.units));
        for key in ["comments_1", "comments_2", "GCMD_keywords"] {
            entry.insert(key.into(), json!(""));
        }
        entry.insert("grid_dimension".into(), json!(if self.three_d { "3D" } else { "2D" }));
        entry.insert("grid_location".into(), json!(self.location()));
        entry.insert("coverage_content_type".into(), json!("modelResult"));
        if !self.guess.is_empty() {
            entry.insert("internal_note".into(), json!(format!("guess: {}", self.guess)));
        }
        entry
    }
}

fn is_known_vector(name: &str) -> bool {
    VECTORS.iter().any(|pair| pair.contains(&name))
}
