//! Short forms of numbers for labels.

/// Writes a number with about four significant digits, without trailing zeros.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        let text = format!("{value:.2e}");
        return match text.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", trimmed(digits)),
            None => text,
        };
    }
    let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    trimmed(&format!("{value:.digits$}")).to_owned()
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.731_275_8, "-1.731"),
            (35.0, "35"),
            (0.05, "0.05"),
            (1234.5, "1234"),
            (98_100.0, "98100"),
            (9.969e36, "9.97e36"),
            (-2e-6, "-2e-6"),
            (100_000.0, "1e5"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
