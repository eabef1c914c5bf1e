//! Job files from groupings: one for each dataset and frequency, as EDP makes them.

use edp_engine::metadata::groupings::Grouping;
use edp_protocol::Frequency;

/// A job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFile {
    /// Its name: `<filename>_<grid>_<FREQUENCY>_jobs.txt`.
    pub name: String,
    /// Its text: a comment with the name of the grouping, and one job line for all times.
    pub text: String,
}

/// The grid words that groupings files have in their names, with those of job lines.
const GRIDS: [(&str, &str); 3] = [("native", "native"), ("latlon", "latlon"), ("1d", "1D")];

/// Returns the word of the grid by which files are named, and that of job lines, by the name of a groupings file; none
/// if it names no grid.
pub fn grid_of(file_name: &str) -> Option<(&'static str, &'static str)> {
    let name = file_name.to_ascii_lowercase();
    GRIDS.into_iter().find(|(word, _)| name.contains(word))
}

/// Returns the job files of a list of groupings, and the names of the groupings that offer no frequency, for which there
/// are none.
pub fn job_files<'g>(grid: (&str, &str), groupings: &'g [Grouping]) -> (Vec<JobFile>, Vec<&'g str>) {
    let ((of_files, of_lines), mut files, mut without) = (grid, Vec::new(), Vec::new());
    for (index, grouping) in groupings.iter().enumerate() {
        let invariant = grouping.time_invariant.then_some(Frequency::TimeInvariant);
        let frequencies: Vec<Frequency> = grouping.frequencies.iter().copied().chain(invariant).collect();
        if frequencies.is_empty() {
            without.push(grouping.name.as_str());
        }
        for frequency in frequencies {
            let (name, word) = (&grouping.name, frequency.job_word());
            files.push(JobFile {
                name: format!("{}_{of_files}_{word}_jobs.txt", grouping.filename),
                text: format!("# {name}:\n[{index}, '{of_lines}', '{word}', 'all']\n"),
            });
        }
    }
    (files, without)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_engine::metadata::groupings;

    #[test]
    fn each_dataset_has_a_file_for_each_frequency() {
        let text = br#"[
            {"name": "sea surface height", "fields": "SSH", "filename": "SEA_SURFACE_HEIGHT", "dimension": "2D",
             "frequency": "AVG_DAY, SNAP"},
            {"name": "mixing", "fields": "DIFFKR", "filename": "MIXING", "dimension": "3D", "frequency": "TIME-INVARIANT"},
            {"name": "pressure", "fields": "Pa", "filename": "PRESSURE", "dimension": "2D"}
        ]"#;
        let (groupings, _) = groupings::parse("g", text).unwrap();
        let (files, without) = job_files(grid_of("groupings_for_Native_datasets.json").unwrap(), &groupings);
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "SEA_SURFACE_HEIGHT_native_AVG_DAY_jobs.txt",
                "SEA_SURFACE_HEIGHT_native_SNAP_jobs.txt",
                "MIXING_native_TIME-INVARIANT_jobs.txt"
            ]
        );
        assert_eq!(files[0].text, "# sea surface height:\n[0, 'native', 'AVG_DAY', 'all']\n");
        assert_eq!(without, ["pressure"]);
        let (files, _) = job_files(grid_of("groupings_1D.json").unwrap(), &groupings);
        assert_eq!(files[2].name, "MIXING_1d_TIME-INVARIANT_jobs.txt");
        assert_eq!(files[2].text, "# mixing:\n[1, '1D', 'TIME-INVARIANT', 'all']\n");
        assert_eq!(grid_of("groupings.json"), None);
    }
}
