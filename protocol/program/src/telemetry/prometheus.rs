//! Names of metrics in the text format of Prometheus, as OpenTelemetry's rules for that format give them.

/// Returns the name of a metric: with `_` for dots, its unit, and `_total` if it is a counter.
pub(super) fn metric_name(name: &str, unit: &str, is_counter: bool) -> String {
    let mut whole = label(name);
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        "1" if !is_counter => "_ratio",
        _ => "", // braces only say what is counted
    };
    for ending in [unit, if is_counter { "_total" } else { "" }] {
        if !whole.ends_with(ending) {
            whole.push_str(ending);
        }
    }
    whole
}

/// Returns the name of a label: with `_` for everything that is neither a letter nor a digit.
pub(super) fn label(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    digit.then_some('_').into_iter().chain(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for (name, unit, is_counter, expected) in [
            ("edp.recipes", "{recipe}", false, "edp_recipes"),
            ("edp.backlog", "s", false, "edp_backlog_seconds"),
            ("edp.io", "By", true, "edp_io_bytes_total"),
            ("edp.retries", "{attempt}", true, "edp_retries_total"),
            ("x.seconds", "s", false, "x_seconds"),
            ("share", "1", false, "share_ratio"),
            ("3.d", "", false, "_3_d"),
        ] {
            assert_eq!(metric_name(name, unit, is_counter), expected);
        }
    }
}
