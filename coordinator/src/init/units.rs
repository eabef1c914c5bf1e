//! Units and names by which CF's readers know the model's diagnostics.

/// Returns the units of MITgcm's list of diagnostics in the form of UDUNITS: `degC.m^3/s` is `degree_C m3 s-1`. Returns
/// `None` if they are not understood.
pub(super) fn units(text: &str) -> Option<String> {
    let text = text.trim();
    let mut factors: Vec<(String, i32)> = Vec::new();
    let mut sign = 1;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['.', '/', ' ']).unwrap_or(rest.len());
        let (factor, after) = rest.split_at(end);
        // A power may also stand behind its unit, as in UDUNITS.
        let behind = factor.rfind(|c: char| c.is_ascii_alphabetic()).map(|at| factor.split_at(at + 1));
        let (name, power) = match (factor.split_once('^'), behind) {
            (Some((name, power)), _) => (name, power.trim_matches(['(', ')']).parse::<i32>().ok()?),
            (None, Some((name, power))) if !power.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) => {
                (name, power.parse().ok()?)
            }
            (None, _) => (factor, 1),
        };
        let known = match name {
            "degC" | "degree_C" => "degree_C",
            "degK" | "degree_K" => "degree_K",
            "psu" | "1e-3" => "1e-3",
            "1" | "[0-1]" | "" => "1",
            "Pa" | "W" | "N" | "J" | "m" | "s" | "kg" | "g" | "mol" | "K" | "deg" => name,
            _ => return None,
        };
        match factors.iter_mut().find(|(of, _)| of == known) {
            Some((_, sum)) => *sum += sign * power,
            None => factors.push((known.to_owned(), sign * power)),
        }
        // All factors behind a slash are below the line until the next dot or blank, as the model writes them.
        sign = if after.starts_with('/') { -1 } else { 1 };
        rest = after.get(1..).unwrap_or_default();
    }
    let parts: Vec<String> = factors
        .into_iter()
        .filter(|(name, power)| name != "1" && *power != 0)
        .map(|(name, power)| if power == 1 { name } else { format!("{name}{power}") })
        .collect();
    Some(if parts.is_empty() { "1".into() } else { parts.join(" ") })
}

/// The standard names of diagnostics whose meaning is sure.
const STANDARD_NAMES: [(&str, &str); 22] = [
    ("THETA", "sea_water_potential_temperature"),
    ("SALT", "sea_water_salinity"),
    ("UVEL", "sea_water_x_velocity"),
    ("VVEL", "sea_water_y_velocity"),
    ("WVEL", "upward_sea_water_velocity"),
    ("EVEL", "eastward_sea_water_velocity"),
    ("NVEL", "northward_sea_water_velocity"),
    ("SIarea", "sea_ice_area_fraction"),
    ("SIheff", "sea_ice_thickness"),
    ("SIhsnow", "surface_snow_thickness"),
    ("SIuice", "sea_ice_x_velocity"),
    ("SIvice", "sea_ice_y_velocity"),
    ("SIeice", "eastward_sea_ice_velocity"),
    ("SInice", "northward_sea_ice_velocity"),
    ("MXLDEPTH", "ocean_mixed_layer_thickness"),
    ("oceTAUX", "downward_x_stress_at_sea_water_surface"),
    ("oceTAUY", "downward_y_stress_at_sea_water_surface"),
    ("EXFatemp", "air_temperature"),
    ("EXFaqh", "surface_specific_humidity"),
    ("EXFwspee", "wind_speed"),
    ("EXFlwdn", "surface_downwelling_longwave_flux_in_air"),
    ("EXFswdn", "surface_downwelling_shortwave_flux_in_air"),
];

/// Returns the standard name of a variable, if its meaning is sure.
pub(super) fn standard_name(variable: &str) -> Option<&'static str> {
    STANDARD_NAMES.iter().find(|(name, _)| *name == variable).map(|(_, standard)| *standard)
}

/// Returns the names of the eastward and the northward component of a vector, made of those along the axes of the model:
/// `EVEL`, `NVEL` of `UVEL`, `VVEL`. Returns `None` if these do not differ by the letters of such a pair.
pub(super) fn eastward_northward(x: &str, y: &str) -> Option<[String; 2]> {
    let differ: Vec<(usize, char, char)> =
        x.char_indices().zip(y.chars()).filter(|((_, a), b)| a != b).map(|((at, a), b)| (at, a, b)).collect();
    let ([(at, a, b)], true) = (&differ[..], x.len() == y.len()) else { return None };
    let [east, north] = match (a, b) {
        ('U', 'V') | ('X', 'Y') => ['E', 'N'],
        ('u', 'v') | ('x', 'y') => ['e', 'n'],
        _ => return None,
    };
    let with = |letter: char| format!("{}{letter}{}", &x[..*at], &x[at + 1..]);
    Some([with(east), with(north)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_get_the_form_of_udunits() {
        for (text, expected) in [
            ("degC", Some("degree_C")),
            ("degC.m^3/s", Some("degree_C m3 s-1")),
            ("psu.m^3/s", Some("1e-3 m3 s-1")),
            ("kg/m^2/s", Some("kg m-2 s-1")),
            ("m^2/s^2", Some("m2 s-2")),
            ("m^2/m^2", Some("1")),
            ("s^-1", Some("s-1")),
            ("W/m^2", Some("W m-2")),
            ("psu", Some("1e-3")),
            ("1", Some("1")),
            ("", Some("1")),
            ("degree_C m3 s-1", Some("degree_C m3 s-1")),
            ("1e-3 m3 s-1", Some("1e-3 m3 s-1")),
            ("kg m-2 s-1", Some("kg m-2 s-1")),
            ("furlong/fortnight", None),
            ("m^x", None),
        ] {
            assert_eq!(units(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn pairs_of_components_have_names_on_the_globe() {
        for (x, y, expected) in [
            ("UVEL", "VVEL", Some(["EVEL", "NVEL"])),
            ("oceTAUX", "oceTAUY", Some(["oceTAUE", "oceTAUN"])),
            ("SIuice", "SIvice", Some(["SIeice", "SInice"])),
            ("EXFtaux", "EXFtauy", Some(["EXFtaue", "EXFtaun"])),
            ("UVELMASS", "VVELMASS", Some(["EVELMASS", "NVELMASS"])),
            ("UVEL", "VVELS", None),
            ("ETAN", "SALT", None),
        ] {
            let names = eastward_northward(x, y);
            assert_eq!(names, expected.map(|pair| pair.map(str::to_owned)), "{x}");
        }
    }
}
