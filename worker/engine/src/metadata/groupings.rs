//! The groupings files, which list the datasets and their variables.

use super::entry::{self, EntryError, Keys};
use super::{Warning, literal};
use edp_protocol::name::{self, GranuleName};
use edp_protocol::recipe::{Components, KindError, Rule, VariableKind};
use edp_protocol::{Frequency, GridKind, Mode};
use indexmap::IndexMap;
use serde_json::Value;
use std::sync::LazyLock;

/// One dataset, as described by an entry of a groupings file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grouping {
    /// Name of the dataset in prose.
    pub name: String,
    /// The variables in file order, under their names before renaming.
    pub fields: Vec<String>,
    /// The first part of the names of its granules.
    pub filename: String,
    /// Dimension of the data: `1D`, `2D` or `3D`.
    pub dimension: String,
    /// The frequencies at which the dataset is offered; empty where the file does not state any.
    pub frequencies: Vec<Frequency>,
    /// True if the dataset does not change with time (frequency `TI` or `TIME-INVARIANT`).
    pub time_invariant: bool,
    /// A text that is appended to the global attribute `comment`.
    pub comment: Option<String>,
    /// The old and the new name of a renamed variable.
    pub rename: Option<(String, String)>,
    /// The rotated output variables, each with its model components.
    pub components: Option<IndexMap<String, Components>>,
    /// The orientation of each rotated output variable: `zonal` or `meridional`.
    pub orientations: Option<IndexMap<String, String>>,
    /// The rules of fields that the model does not write.
    pub rules: IndexMap<String, Rule>,
}

impl Grouping {
    /// Returns true if the dataset is offered at a frequency. One that states no frequency is offered at any that data with
    /// time have.
    pub fn offers(&self, frequency: Frequency) -> bool {
        match (frequency, &self.frequencies[..]) {
            // The frequencies that releases state for time series are not those at which these exist.
            _ if self.dimension == "1D" => frequency != Frequency::TimeInvariant,
            (Frequency::TimeInvariant, _) => self.time_invariant,
            (_, []) => !self.time_invariant,
            (_, offered) => offered.contains(&frequency),
        }
    }

    /// Returns true if vectors are rotated to east and north: on the longitude-latitude grid, if the grouping has components.
    pub fn rotates(&self, grid: GridKind) -> bool {
        grid == GridKind::Latlon && self.components.is_some()
    }

    /// Returns the way in which a field is made on a grid.
    ///
    /// # Errors
    /// Returns an error if it has components, but no direction.
    pub fn kind(&self, field: &str, grid: GridKind) -> Result<VariableKind, KindError> {
        let components = self.components.as_ref().filter(|_| self.rotates(grid));
        let Some(components) = components.and_then(|all| all.get(field)) else { return Ok(VariableKind::Direct) };
        let word = self.orientations.as_ref().and_then(|all| all.get(field)).map_or("", String::as_str);
        Ok(VariableKind::Rotated { components: components.clone(), orientation: word.parse()? })
    }

    /// Returns the rule by which a field is derived if the model does not write it: the one that the grouping declares,
    /// else that of ECCO's releases.
    pub fn rule(&self, field: &str) -> Option<Rule> {
        self.rules.get(field).cloned().or_else(|| Rule::of_releases(field))
    }
}

/// Every key of a grouping, also those without use.
const KEYS: [&str; 15] = [
    "name",
    "fields",
    "filename",
    "dimension",
    "frequency",
    "product",
    "comment",
    "dataset_description",
    "description",
    "internal_note",
    "variable_rename",
    "field_components",
    "field_orientations",
    "vector_inputs",
    "field_rules",
];

/// Reads a groupings file. The position in the returned list is the index used in job files.
///
/// # Errors
/// Returns an error if the file is not a list of objects, or if an entry is wrong. The message names file, index and
/// key.
pub fn parse(file: &str, bytes: &[u8]) -> Result<(Vec<Grouping>, Vec<Warning>), EntryError> {
    let (objects, mut warnings) = entry::objects(file, bytes)?;
    let mut groupings = Vec::with_capacity(objects.len());
    for (index, keys) in objects.iter().enumerate() {
        groupings.push(GroupingReader { file, index, keys, warnings: &mut warnings }.grouping()?);
    }
    Ok((groupings, warnings))
}

/// The reader of one entry.
struct GroupingReader<'a> {
    file: &'a str,
    index: usize,
    keys: &'a Keys,
    warnings: &'a mut Vec<Warning>,
}

impl GroupingReader<'_> {
    fn grouping(mut self) -> Result<Grouping, EntryError> {
        for key in self.keys.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.warn(key, "unknown key is ignored");
        }
        let fields = self.fields()?;
        let rename = self.rename(&fields)?;
        let components = self.components(&fields)?;
        let orientations = self.orientations(&fields, components.as_ref())?;
        let rules = self.rules(&fields, components.as_ref())?;
        let (frequencies, time_invariant) = self.frequencies()?;
        Ok(Grouping {
            name: self.required("name")?,
            filename: self.filename()?,
            dimension: self.dimension()?,
            comment: self.optional("comment")?,
            fields,
            frequencies,
            time_invariant,
            rename,
            components,
            orientations,
            rules,
        })
    }

    fn required(&self, key: &'static str) -> Result<String, EntryError> {
        entry::required_text(self.file, self.index, self.keys, key)
    }

    fn optional(&self, key: &'static str) -> Result<Option<String>, EntryError> {
        entry::optional_text(self.file, self.index, self.keys, key)
    }

    fn wrong(&self, key: &'static str, expected: &'static str) -> EntryError {
        entry::wrong(self.file, self.index, self.keys, key, expected)
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.warnings.push(Warning::new(self.file, format!("entry {}, key {key}", self.index), message));
    }

    fn fields(&mut self) -> Result<Vec<String>, EntryError> {
        let text = self.required("fields")?;
        let mut fields: Vec<String> = Vec::new();
        for field in text.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            if !is_variable(field) {
                return Err(self.wrong("fields", "names of variables, separated by commas"));
            }
            if fields.iter().any(|known| known == field) {
                self.warn("fields", format!("'{field}' is listed twice; taken once"));
            } else {
                fields.push(field.into());
            }
        }
        if fields.is_empty() {
            Err(self.wrong("fields", "names of variables, separated by commas"))
        } else {
            Ok(fields)
        }
    }

    fn filename(&self) -> Result<String, EntryError> {
        let filename = self.required("filename")?;
        let plain = filename.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\'));
        // A word for the period in the file name would make the granule's name ambiguous.
        let survives = Frequency::TIMED.into_iter().all(|frequency| {
            let granule = GranuleName {
                dataset: filename.clone(),
                period: name::period(frequency, Mode::Corrected),
                frequency,
                date: "1992-01-01".into(),
                project: name::PROJECT.into(),
                version: "V".into(),
                grid: GridKind::Native,
                label: "l".into(),
            };
            GranuleName::parse(&granule.to_string()).as_ref() == Ok(&granule)
        });
        if plain && survives && !filename.starts_with('.') {
            Ok(filename)
        } else {
            Err(self.wrong(
                "filename",
                "the first part of file names, without blanks, '/' and period words such as _mon_mean_",
            ))
        }
    }

    fn dimension(&self) -> Result<String, EntryError> {
        let dimension = self.required("dimension")?.trim().to_ascii_uppercase();
        match dimension.as_str() {
            "1D" | "2D" | "3D" => Ok(dimension),
            _ => Err(self.wrong("dimension", "1D, 2D or 3D")),
        }
    }

    fn frequencies(&mut self) -> Result<(Vec<Frequency>, bool), EntryError> {
        let text = self.optional("frequency")?.unwrap_or_default();
        let mut frequencies = Vec::new();
        let mut time_invariant = false;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let frequency = match word.to_ascii_uppercase().as_str() {
                "AVG_DAY" => Frequency::Day,
                "AVG_MON" => Frequency::Month,
                "SNAP" => Frequency::Snapshot,
                "TI" | "TIME-INVARIANT" => {
                    time_invariant = true;
                    continue;
                }
                _ => {
                    self.warn(
                        "frequency",
                        format!("unknown frequency '{word}' is ignored; known: AVG_DAY, AVG_MON, SNAP, TI"),
                    );
                    continue;
                }
            };
            if !frequencies.contains(&frequency) {
                frequencies.push(frequency);
            }
        }
        Ok((frequencies, time_invariant))
    }

    fn rename(&mut self, fields: &[String]) -> Result<Option<(String, String)>, EntryError> {
        let key = "variable_rename";
        let Some(text) = self.optional(key)?.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let expected = "OLD:NEW, two names of variables, the new one not among the fields";
        let (old, new) = text.split_once(':').ok_or_else(|| self.wrong(key, expected))?;
        let (old, new) = (old.trim(), new.trim());
        if !is_variable(old) || !is_variable(new) || new.contains(':') || fields.iter().any(|field| field == new) {
            return Err(self.wrong(key, expected));
        }
        if !fields.iter().any(|field| field == old) {
            self.warn(key, format!("'{old}' is not among the fields; nothing is renamed"));
        }
        Ok(Some((old.into(), new.into())))
    }

    /// Returns an object, which may also be written as text.
    fn object(&mut self, key: &'static str) -> Result<Option<Keys>, EntryError> {
        let expected = "an object";
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(Value::String(text)) => {
                match serde_json::from_str(text).ok().or_else(|| literal::parse(text).ok()??.into_json()) {
                    Some(Value::Object(map)) => {
                        self.warn(key, "the object is written as text; read nevertheless");
                        Ok(Some(map))
                    }
                    _ => Err(self.wrong(key, expected)),
                }
            }
            Some(_) => Err(self.wrong(key, expected)),
        }
    }

    fn components(&mut self, fields: &[String]) -> Result<Option<IndexMap<String, Components>>, EntryError> {
        let key = "field_components";
        let Some(map) = self.object(key)? else { return Ok(None) };
        let mut components = IndexMap::new();
        for (output, value) in map {
            let part = |axis| value.get(axis).and_then(Value::as_str).map(str::trim).filter(|name| is_variable(name));
            let (Some(x), Some(y), true) = (part("x"), part("y"), is_variable(&output)) else {
                return Err(self.wrong(key, "for each output {\"x\": variable, \"y\": variable}"));
            };
            if !fields.contains(&output) {
                self.warn(key, format!("'{output}' is not among the fields; it is not made"));
            }
            components.insert(output, Components { x: x.into(), y: y.into() });
        }
        Ok(Some(components))
    }

    fn orientations(
        &mut self,
        fields: &[String],
        components: Option<&IndexMap<String, Components>>,
    ) -> Result<Option<IndexMap<String, String>>, EntryError> {
        let key = "field_orientations";
        let expected = "zonal or meridional for each output of field_components";
        let map = self.object(key)?;
        let mut orientations = IndexMap::new();
        for (output, value) in map.iter().flatten() {
            let word = value.as_str().map(str::trim).filter(|word| matches!(*word, "zonal" | "meridional"));
            orientations.insert(output.clone(), word.ok_or_else(|| self.wrong(key, expected))?.to_owned());
            if components.is_none_or(|components| !components.contains_key(output)) {
                self.warn(key, format!("'{output}' has no components; it is not rotated"));
            }
        }
        let rotated = components.into_iter().flat_map(IndexMap::keys).filter(|output| fields.contains(output));
        if rotated.into_iter().any(|output| !orientations.contains_key(output)) {
            return Err(self.wrong(key, expected));
        }
        Ok(map.map(|_| orientations))
    }

    /// Returns the rules of derived fields. EDP does not know this key, so whoever writes it wants what it says: anything
    /// else is an error.
    fn rules(
        &self,
        fields: &[String],
        components: Option<&IndexMap<String, Components>>,
    ) -> Result<IndexMap<String, Rule>, EntryError> {
        let key = "field_rules";
        let expected = EXPECTED_RULES.as_str();
        let map = match self.keys.get(key) {
            None | Some(Value::Null) => return Ok(IndexMap::new()),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(self.wrong(key, expected)),
        };
        let mut rules = IndexMap::new();
        for (output, value) in map {
            let rule: Rule = serde_json::from_value(value.clone()).map_err(|_| self.wrong(key, expected))?;
            let is_rotated = components.is_some_and(|components| components.contains_key(output));
            let is_named = rule.sources().iter().all(|source| is_variable(source) && *source != output);
            if !fields.contains(output) || is_rotated || !is_named || rule.defect().is_some() {
                return Err(self.wrong(key, expected));
            }
            rules.insert(output.clone(), rule);
        }
        Ok(rules)
    }
}

/// What must be written under `field_rules`.
static EXPECTED_RULES: LazyLock<String> = LazyLock::new(|| {
    let forms = Rule::FORMS.join(" or ").replace("DAY", "\"YYYY-MM-DD\"");
    format!("for each output, which is one of the fields and has no components, a rule of other variables: {forms}")
});

/// Returns true if a text can be the name of a variable in a NetCDF file and part of file names.
fn is_variable(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\');
    !text.is_empty() && !text.starts_with('.') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<Grouping>, Vec<String>) {
        let (groupings, warnings) = parse("g.json", text.as_bytes()).unwrap();
        (groupings, warnings.iter().map(|w| w.to_string()).collect())
    }

    /// Returns a grouping with additional keys.
    fn one(fields: &str, more: &str) -> String {
        format!(r#"[{{"name": "n", "fields": "{fields}", "filename": "F", "dimension": "2D"{more}}}]"#)
    }

    #[test]
    fn a_velocity_grouping() {
        let text = r#"[{
            "name": "ocean velocity", "fields": "EVEL, NVEL,WVELMASS , ", "product": "latlon",
            "field_components": {"EVEL": {"x": "UVEL", "y": "VVEL"}, "NVEL": {"x": "UVEL", "y": "VVEL"}},
            "field_orientations": {"EVEL": "zonal", "NVEL": "meridional"},
            "variable_rename": "WVELMASS:WVEL", "filename": "OCEAN_VELOCITY", "dimension": "3D",
            "frequency": "AVG_DAY, avg_mon,SNAP", "comment": "c"}]"#;
        let (groupings, warnings) = read(text);
        let g = &groupings[0];
        assert_eq!(warnings, [""; 0]);
        assert_eq!(
            (g.name.as_str(), g.filename.as_str(), g.dimension.as_str()),
            ("ocean velocity", "OCEAN_VELOCITY", "3D")
        );
        assert_eq!(g.fields, ["EVEL", "NVEL", "WVELMASS"]);
        assert_eq!(g.frequencies, Frequency::TIMED);
        assert_eq!((g.time_invariant, g.comment.as_deref()), (false, Some("c")));
        assert_eq!(g.rename, Some(("WVELMASS".into(), "WVEL".into())));
        let components = g.components.as_ref().unwrap();
        assert_eq!(components["NVEL"], Components { x: "UVEL".into(), y: "VVEL".into() });
        assert_eq!(g.orientations.as_ref().unwrap()["NVEL"], "meridional");
    }

    #[test]
    fn what_a_grouping_may_lack() {
        let (groupings, warnings) = read(&one("ADVxSNOW ,A", ""));
        assert_eq!(warnings, [""; 0]);
        let g = &groupings[0];
        assert_eq!(g.fields, ["ADVxSNOW", "A"]);
        assert!(g.frequencies.is_empty() && !g.time_invariant && g.comment.is_none() && g.rename.is_none());
        assert!(g.components.is_none() && g.orientations.is_none());
    }

    #[test]
    fn frequencies_without_period() {
        for word in ["TI", "TIME-INVARIANT"] {
            let (groupings, warnings) = read(&one("A", &format!(r#", "frequency": "{word}""#)));
            assert!(groupings[0].frequencies.is_empty() && groupings[0].time_invariant && warnings.is_empty());
        }
        let (_, warnings) = read(&one("A", r#", "frequency": "AVG_YEAR""#));
        let expected = "g.json: entry 0, key frequency: unknown frequency 'AVG_YEAR' is ignored; known: AVG_DAY, AVG_MON, SNAP, TI";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn maps_in_text_are_read() {
        let python =
            r#", "field_components": "{'E': {'x': 'U', 'y': 'V'}}", "field_orientations": "{\"E\": \"zonal\"}""#;
        let (groupings, warnings) = read(&one("E", python));
        assert_eq!(groupings[0].components.as_ref().unwrap()["E"].y, "V");
        assert_eq!(groupings[0].orientations.as_ref().unwrap()["E"], "zonal");
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("g.json: entry 0, key field_components: the object is written as text"));
    }

    #[test]
    fn fields_that_the_model_does_not_write_have_rules() {
        let (groupings, warnings) = read(&one(
            "S, D, A, OBPAnoma",
            r#", "field_rules": {"S": {"sum": ["X", "Y", "Z"]}, "D": {"difference": ["X", "Y"]},
                "A": {"anomaly": {"of": "X", "from": "1992-01-01", "to": "1992-12-31"}}}"#,
        ));
        assert_eq!(warnings, [""; 0]);
        let sources = |field: &str| groupings[0].rule(field).map(|rule| rule.sources().join(" "));
        assert_eq!(sources("S").as_deref(), Some("X Y Z"));
        assert_eq!(sources("D").as_deref(), Some("X Y"));
        assert_eq!(sources("A").as_deref(), Some("X"));
        assert_eq!(sources("OBPAnoma").as_deref(), Some("OBP"), "a rule of the releases");
        assert_eq!(sources("X"), None);
        let own = one("OBPAnoma", r#", "field_rules": {"OBPAnoma": {"difference": ["OBP", "B"]}}"#);
        let rule = read(&own).0[0].rule("OBPAnoma").unwrap();
        assert_eq!(rule.sources(), ["OBP", "B"], "what the grouping says comes first");
    }

    #[test]
    fn what_does_not_fit_together_is_warned_about() {
        let (groupings, warnings) = read(&one(
            "U, U, A",
            r#", "field_components": {"E": {"x": "U", "y": "V"}}, "field_orientations": {"E": "zonal", "A": "zonal"},
               "variable_rename": "W:X", "colour": "red""#,
        ));
        assert_eq!(groupings[0].fields, ["U", "A"]);
        assert_eq!(
            warnings,
            [
                "g.json: entry 0, key colour: unknown key is ignored",
                "g.json: entry 0, key fields: 'U' is listed twice; taken once",
                "g.json: entry 0, key variable_rename: 'W' is not among the fields; nothing is renamed",
                "g.json: entry 0, key field_components: 'E' is not among the fields; it is not made",
                "g.json: entry 0, key field_orientations: 'A' has no components; it is not rotated",
            ]
        );
    }

    #[test]
    fn broken_entries_name_file_index_and_key() {
        let valid = one("A", "");
        for (text, message) in [
            (format!("[{},{}]", &valid[1..valid.len() - 1], "{}"), "g.json: entry 1: key 'fields' is missing"),
            (one(" , ", ""), "key 'fields' is \" , \""),
            (one("A B", ""), "key 'fields'"),
            (one("../A", ""), "key 'fields'"),
            (valid.replace("\"n\"", "3"), "key 'name' is 3; expected a text"),
            (valid.replace("\"2D\"", "\"4D\""), "key 'dimension' is \"4D\"; expected 1D, 2D or 3D"),
            (valid.replace("\"F\"", "\"a/b\""), "key 'filename'"),
            (valid.replace("\"F\"", "\"..\""), "key 'filename'"),
            (valid.replace("\"F\"", "\"A_mon_mean_B\""), "key 'filename' is \"A_mon_mean_B\"; expected the first part"),
            (one("A", r#", "variable_rename": "A""#), "key 'variable_rename' is \"A\"; expected OLD:NEW"),
            (one("A", r#", "variable_rename": "A:B:C""#), "key 'variable_rename'"),
            (one("A, B", r#", "variable_rename": "A:B""#), "key 'variable_rename'"),
            (
                one("A", r#", "field_components": "{'A': x}""#),
                "key 'field_components' is \"{'A': x}\"; expected an object",
            ),
            (one("A", r#", "field_components": {"A": {"x": "U"}}"#), "expected for each output"),
            (one("A", r#", "field_components": {"A": {"x": "U", "y": "V"}}"#), "key 'field_orientations' is missing"),
            (one("A", r#", "field_orientations": {"A": "up"}"#), "expected zonal or meridional"),
            (one("A", r#", "field_rules": {"B": {"sum": ["C", "D"]}}"#), "which is one of the fields"),
            (one("A", r#", "field_rules": {"A": {"sum": ["A", "D"]}}"#), "key 'field_rules'"),
            (one("A", r#", "field_rules": {"A": {"sum": ["C", "../D"]}}"#), "key 'field_rules'"),
            (one("A", r#", "field_rules": {"A": {"sum": ["C"]}}"#), "key 'field_rules'"),
            (one("A", r#", "field_rules": {"A": {"mean": ["C"]}}"#), "expected for each output"),
            (one("A", r#", "field_rules": ["A"]"#), "expected for each output"),
            (
                one(
                    "A",
                    r#", "field_rules": {"A": {"anomaly": {"of": "B", "from": "2006-01-01", "to": "2005-12-31"}}}"#,
                ),
                "key 'field_rules'",
            ),
            (
                one(
                    "E",
                    r#", "field_components": {"E": {"x": "U", "y": "V"}}, "field_orientations": {"E": "zonal"},
                       "field_rules": {"E": {"sum": ["U", "V"]}}"#,
                ),
                "has no components",
            ),
        ] {
            let error = parse("g.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, fields in "[A-C ,:/.]{0,9}", map in r"[{}':A-C, ]{0,30}", rename in "[A-C:]{0,4}") {
            let _ = parse("x", &bytes);
            let more = format!(r#", "field_components": "{map}", "variable_rename": "{rename}""#);
            let _ = parse("x", one(&fields, &more).as_bytes());
        }
    }
}
