//! `available_diagnostics.log`: the model's own list of the diagnostics that it can write, with their points on the
//! grid.

use super::point::{HorizontalPoint, Placement, VerticalPoint};
use crate::metadata::attribute::{Attributes, Value};
use std::collections::HashMap;

/// Name of the list in a grid directory.
pub const DIAGNOSTICS_FILE: &str = "available_diagnostics.log";

/// Largest size of a list in bytes. Real ones have some ten thousand.
pub(super) const MAX_LIST: usize = 4 << 20;

/// Number of columns: number, name, levels, mate, code, units, title.
const COLUMNS: usize = 7;

/// The reason why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosticsError {
    /// The file is larger than any real list.
    #[error("{file}: more than {limit} bytes: is this {DIAGNOSTICS_FILE}?")]
    TooLarge {
        /// Name of the file.
        file: String,
        /// Largest permitted size in bytes.
        limit: usize,
    },
    /// A row that begins with a number has too few columns.
    #[error("{file}, line {line}: {found} columns, expected {COLUMNS}, separated by '|'")]
    Columns {
        /// Name of the file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Number of columns in that line.
        found: usize,
    },
    /// The list gives two different points for one variable.
    #[error("{file}, line {line}: '{variable}' stands here a second time, with another place on the grid")]
    Contradiction {
        /// Name of the file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Name of the variable.
        variable: String,
    },
    /// The list has no rows.
    #[error("{file}: holds no diagnostics: is this {DIAGNOSTICS_FILE}?")]
    Empty {
        /// Name of the file.
        file: String,
    },
}

/// The list of diagnostics, by the names of the model's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    rows: HashMap<String, DiagnosticRow>,
    /// Names of variables by their numbers in the list.
    names: HashMap<u32, String>,
}

/// The row of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DiagnosticRow {
    /// Points on the grid; `None` if the code is not understood.
    placement: Option<Placement>,
    /// Number of levels; `None` if it does not fit its column.
    levels: Option<u32>,
    /// Number of the other component of a vector, or of a counter.
    mate: Option<u32>,
    units: String,
    title: String,
}

impl Diagnostics {
    /// Parses the text of the list; `name` appears in errors.
    ///
    /// # Errors
    /// Returns an error if a row has too few columns or contradicts another one, or if there are no rows.
    pub fn parse(name: &str, text: &[u8]) -> Result<Diagnostics, DiagnosticsError> {
        let file = || name.to_owned();
        if text.len() > MAX_LIST {
            return Err(DiagnosticsError::TooLarge { file: file(), limit: MAX_LIST });
        }
        let mut rows: HashMap<String, DiagnosticRow> = HashMap::new();
        let mut names: HashMap<u32, String> = HashMap::new();
        for (line, row) in (1..).zip(text.split(|&c| c == b'\n')) {
            // a title may contain anything, including '|' and letters of any encoding
            let columns: Vec<&[u8]> = row.splitn(COLUMNS, |&c| c == b'|').collect();
            let number = columns[0].trim_ascii();
            if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
                continue;
            }
            let [_, variable, levels, mate, code, units, title] = columns[..] else {
                return Err(DiagnosticsError::Columns { file: file(), line, found: columns.len() });
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let whole = |bytes: &[u8]| std::str::from_utf8(bytes.trim_ascii()).ok()?.parse::<u32>().ok();
            let variable = text(variable);
            let placement = placement(levels, code);
            if rows.get(&variable).is_some_and(|earlier| earlier.placement != placement) {
                return Err(DiagnosticsError::Contradiction { file: file(), line, variable });
            }
            if let Some(number) = whole(number) {
                names.insert(number, variable.clone());
            }
            rows.insert(
                variable,
                DiagnosticRow {
                    placement,
                    levels: whole(levels),
                    mate: whole(mate),
                    units: text(units),
                    title: text(title),
                },
            );
        }
        if rows.is_empty() {
            return Err(DiagnosticsError::Empty { file: file() });
        }
        Ok(Diagnostics { rows, names })
    }

    /// Returns the points of a variable on the grid; `None` if it is not in the list or its code says nothing.
    pub fn placement(&self, variable: &str) -> Option<Placement> {
        self.rows.get(variable)?.placement
    }

    /// Returns the number of levels of a variable that has levels of the grid; `None` if the list does not state it.
    pub fn levels(&self, variable: &str) -> Option<usize> {
        let row = self.rows.get(variable)?;
        row.placement?.vertical?;
        Some(row.levels? as usize)
    }

    /// Returns the attributes that EDP's reader gives to a variable, and that EDP of 2026 keeps: `long_name`, `units`
    /// and, if there is one, `mate`, the name of the other component of the vector. It is empty if the variable is not
    /// in the list.
    pub fn attributes(&self, variable: &str) -> Attributes {
        let Some(row) = self.rows.get(variable) else { return Vec::new() };
        let mate = row.mate.and_then(|number| self.names.get(&number));
        let texts = [("long_name", Some(&row.title)), ("units", Some(&row.units)), ("mate", mate)];
        texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?.as_str())))).collect()
    }
}

/// Parses a code of 10 characters, counted from 0: 1 is the horizontal point, 8 the vertical one, 9 the kind of levels.
fn placement(levels: &[u8], code: &[u8]) -> Option<Placement> {
    let horizontal = match code.get(1)? {
        b'M' => HorizontalPoint::C,
        b'U' => HorizontalPoint::U,
        b'V' => HorizontalPoint::V,
        b'Z' => HorizontalPoint::Z,
        _ => return None,
    };
    let vertical = match code.get(9)? {
        // Fortran fills the column with '*' if the number does not fit: these are several levels
        b'1' if levels.trim_ascii() == b"1" => None,
        b'R' | b'L' => match code.get(8)? {
            b'M' => Some(VerticalPoint::Center),
            b'L' => Some(VerticalPoint::Lower),
            b'U' => Some(VerticalPoint::Upper),
            _ => return None,
        },
        _ => return None,
    };
    Some(Placement { horizontal, vertical })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use HorizontalPoint::{C, U, V, Z};
    use VerticalPoint::{Center, Lower, Upper};
    use proptest::prelude::*;

    const LIST: &str = " Total Nb of available Diagnostics: ndiagt=   320
------------------------------------------------------------------------------------
  Num  |<-Name->|Levs|  mate |<- code ->|<--  Units   -->|<- Tile (max=80c)
------------------------------------------------------------------------------------
    23 |ETAN    |  1 |       |SM      M1|m               |Surface Height Anomaly
    26 |THETA   | 50 |       |SMR     MR|degC            |Potential Temperature
    30 |UVEL    | 50 |    31 |UUR     MR|m/s             |Zonal Component of Velocity (m/s)
    31 |VVEL    | 50 |    30 |VVR     MR|m/s             |Meridional Component of Velocity (m/s)
    46 |ADVr_TH | 50 |       |WM      LR|degC.m^3/s      |Vertical Advective Flux | upward
    50 |GM_PsiX | 50 |    51 |UU      LR|m^2/s           |GM Bolus transport stream-function
    60 |momVort3|***|       |SZR     MR|s^-1            |3rd component (vertical) of Vorticity
    61 |DEEP    | 50 |       |SM      UL|1               |faces below
    70 |oceTAUX |  1 |    71 |UU      U1|N/m^2           |zonal surface wind stress
    80 |ODD     | 50 |       |SM      MX|1               |levels of an unknown kind
";

    #[test]
    fn places_variables() {
        let list = Diagnostics::parse("list", LIST.as_bytes()).unwrap();
        for (variable, horizontal, vertical) in [
            ("ETAN", C, None),
            ("THETA", C, Some(Center)),
            ("UVEL", U, Some(Center)),
            ("VVEL", V, Some(Center)),
            ("ADVr_TH", C, Some(Lower)),
            ("GM_PsiX", U, Some(Lower)),
            ("momVort3", Z, Some(Center)),
            ("DEEP", C, Some(Upper)),
            ("oceTAUX", U, None),
        ] {
            assert_eq!(list.placement(variable), Some(Placement { horizontal, vertical }), "{variable}");
        }
        assert_eq!(list.placement("ODD"), None);
        let levels = ["THETA", "ETAN", "momVort3", "ODD", "DIFFKR"].map(|name| list.levels(name));
        assert_eq!(levels, [Some(50), None, None, None, None]);
        assert_eq!(list.placement("DIFFKR"), None);
        assert_eq!((U.dims(), Z.dims()), (["j", "i_g"], ["j_g", "i_g"]));
        assert_eq!((Center.dim(), Lower.dim(), Upper.dim()), ("k", "k_l", "k_u"));
    }

    #[test]
    fn describes_variables_as_the_reader_does() {
        let list = Diagnostics::parse("list", LIST.as_bytes()).unwrap();
        let text = |name: &str, text: &str| (name.to_owned(), Value::from(text));
        let velocity =
            [text("long_name", "Zonal Component of Velocity (m/s)"), text("units", "m/s"), text("mate", "VVEL")];
        assert_eq!(list.attributes("UVEL"), velocity);
        assert_eq!(list.attributes("ETAN"), [text("long_name", "Surface Height Anomaly"), text("units", "m")]);
        let flux = [text("long_name", "Vertical Advective Flux | upward"), text("units", "degC.m^3/s")];
        assert_eq!(list.attributes("ADVr_TH"), flux);
        assert_eq!(list.attributes("oceTAUX").len(), 2, "its mate is not in the list");
        assert!(list.attributes("DIFFKR").is_empty());
    }

    #[test]
    fn takes_titles_of_any_encoding() {
        let text = b"  1 |SST     |  1 |       |SM      M1|\xb0C              |Temp\xe9rature\r\n";
        assert!(Diagnostics::parse("list", text).unwrap().placement("SST").is_some());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let message = |text: &str| Diagnostics::parse("list", text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            message(&LIST.replace("50 |       |SMR", "50")),
            "list, line 6: 5 columns, expected 7, separated by '|'"
        );
        assert!(message("nothing\n").contains("list: holds no diagnostics"));
        let twice = format!("{LIST}  90 |THETA   | 50 |       |UUR     MR|degC |again\n");
        assert!(message(&twice).contains("list, line 15: 'THETA' stands here a second time"));
        assert!(message(&" ".repeat(MAX_LIST + 1)).contains("more than"));
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_list() {
        let directory = crate::real_data::real_data("V4r4/grid_ECCOV4r4");
        let list = Diagnostics::parse("list", &std::fs::read(directory.join(DIAGNOSTICS_FILE)).unwrap()).unwrap();
        assert_eq!(list.rows.len(), 320);
        assert!(list.rows.values().all(|row| row.placement.is_some()));
        for (names, horizontal, vertical) in [
            ("SSH ETAN EXFtaux EXFvwind SIfwThru", C, None),
            ("THETA SALT RHOAnoma PHIHYD PHIHYDcR oceSPtnd", C, Some(Center)),
            ("WVELMASS ADVr_TH ADVr_SLT DFrE_TH DFrE_SLT DFrI_TH DFrI_SLT DRHODR", C, Some(Lower)),
            ("UVEL UVELMASS ADVx_TH ADVx_SLT DFxE_TH DFxE_SLT Um_dPHdx", U, Some(Center)),
            ("VVEL VVELMASS ADVy_TH ADVy_SLT DFyE_TH DFyE_SLT Vm_dPHdy", V, Some(Center)),
            ("GM_PsiX", U, Some(Lower)),
            ("GM_PsiY", V, Some(Lower)),
            ("oceTAUX SIuice ADVxHEFF ADVxSNOW DFxESNOW DFxEHEFF", U, None),
            ("oceTAUY SIvice ADVyHEFF ADVySNOW DFyESNOW DFyEHEFF", V, None),
        ] {
            for name in names.split(' ') {
                assert_eq!(list.placement(name), Some(Placement { horizontal, vertical }), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, rows in "([ 0-9]{0,4}[|]?[A-Z ]{0,8}[|]?[ 0-9]{0,4}[|]?[SMUVLR1 ]{0,16}[|]{0,3}\n){0,6}") {
            let _ = Diagnostics::parse("x", &bytes);
            if let Ok(list) = Diagnostics::parse("x", rows.as_bytes()) {
                let _ = list.placement("A");
            }
        }
    }
}
