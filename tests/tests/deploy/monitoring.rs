//! `deploy/monitoring`: alerts and dashboard use the metrics that there are, and each alert is provoked.

use crate::{block, names, read, root, yaml};
use edp_production::ledger::RecipeState;
use edp_tests::{expect, not_run, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// Returns Prometheus' tool for rules; `None` if there is none.
fn promtool() -> Option<Command> {
    let own = root().join(".tools/bin/promtool");
    let tool = if own.is_file() { own } else { PathBuf::from("promtool") };
    if Command::new(&tool).arg("--version").output().is_ok() {
        return Some(Command::new(tool));
    }
    not_run("there is no promtool");
    None
}

fn alerts() -> Vec<Value> {
    yaml(&read("deploy/monitoring/alerts.yaml"))[0]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn tests() -> Vec<Value> {
    yaml(&read("deploy/monitoring/alerts_test.yaml"))[0]["tests"].as_array().unwrap().clone()
}

/// Returns the queries of the dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(queries.len() > 15);
    queries
}

#[test]
fn each_alert_is_provoked_and_stays_silent_before() {
    let (mut fired, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in tests().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap()) {
        let is_silent = case["exp_alerts"].as_array().unwrap().is_empty();
        let name = case["alertname"].as_str().unwrap().to_owned();
        if is_silent {
            silent.insert(name)
        } else {
            fired.insert(name)
        };
    }
    let all: BTreeSet<String> = alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    assert!(all.len() >= 7, "{all:?}");
    assert_eq!((&fired, &silent), (&all, &all));
    let Some(mut tool) = promtool() else { return };
    let directory = root().join("deploy/monitoring");
    let output = expect(tool.args(["test", "rules", "alerts_test.yaml"]).current_dir(&directory), 0);
    assert!(text(&output).contains("SUCCESS"), "{}", text(&output));
    // The tests can fail: no alert is tested by chance.
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let rules = read("deploy/monitoring/alerts.yaml").replace(&format!("alert: {name}\n"), "alert: EdpOther\n");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("alerts.yaml"), rules).unwrap();
        std::fs::write(directory.path().join("alerts_test.yaml"), read("deploy/monitoring/alerts_test.yaml")).unwrap();
        let output =
            promtool().unwrap().args(["test", "rules", "alerts_test.yaml"]).current_dir(&directory).output().unwrap();
        assert!(!output.status.success() && text(&output).contains(name), "{name}: {}", text(&output));
    }
}

#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let Some(mut tool) = promtool() else { return };
    let rules: Vec<Value> = queries()
        .iter()
        .enumerate()
        .map(|(at, query)| {
            serde_json::json!({"record": format!("query:{at}"), "expr": query.replace("$__rate_interval", "5m")})
        })
        .collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.yaml"), rules).unwrap();
    let output = expect(tool.args(["check", "rules", "rules.yaml"]).current_dir(&directory), 0);
    assert!(text(&output).contains("SUCCESS"), "{}", text(&output));
}

#[test]
fn prometheus_takes_the_configuration_of_the_page() {
    let Some(mut tool) = promtool() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = read("deploy/monitoring/README.md");
    std::fs::write(directory.path().join("prometheus.yaml"), block(&page, "A configuration of Prometheus")).unwrap();
    std::fs::write(directory.path().join("alerts.yaml"), read("deploy/monitoring/alerts.yaml")).unwrap();
    expect(tool.args(["check", "config", "prometheus.yaml"]).current_dir(&directory), 0);
    // Debian's promtool knows no Kubernetes.
    assert_eq!(
        yaml(block(&page, "On [Kubernetes]"))[0]["scrape_configs"][0]["kubernetes_sd_configs"][0]["role"],
        "pod"
    );
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}

/// Returns the labels of each metric, as the page of the metrics has them.
fn labels() -> BTreeMap<String, BTreeSet<String>> {
    let texts = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let page = read("doc/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `edp_")?.split_once("` | "));
    let rows = rows.map(|(name, rest)| (format!("edp_{name}"), texts(rest.split('|').next().unwrap())));
    rows.map(|(name, labels)| (name, labels.into_iter().collect())).collect()
}

#[test]
fn series_of_the_tests_are_those_that_the_programs_export() {
    let known = labels();
    assert!(known.len() > 15, "{known:?}");
    let series = tests().into_iter().flat_map(|test| test["input_series"].as_array().unwrap().clone());
    for series in series.map(|series| series["series"].as_str().unwrap().to_owned()) {
        let (name, rest) = series.split_once('{').unwrap();
        let pairs = rest.trim_end_matches('}').split(", ").map(|pair| pair.split_once('=').unwrap().0.to_owned());
        // These two are Prometheus' own.
        let found: BTreeSet<String> = pairs.filter(|label| !["instance", "job"].contains(&label.as_str())).collect();
        assert_eq!(Some(&found), known.get(name), "{series}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let known = labels();
    let all: BTreeSet<&String> = known.keys().chain(known.values().flatten()).collect();
    let alerts = alerts();
    let rules = alerts.iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    for query in queries().into_iter().chain(rules) {
        for name in names(&query) {
            // A histogram has three series.
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(all.iter().any(|known| *known == base), "{name} is not in doc/metrics.md: {query}");
        }
        // States in selectors are those of recipes.
        let states =
            query.split("edp_state=").skip(1).map(|rest| rest.trim_start_matches('~').split('"').nth(1).unwrap());
        for state in states.flat_map(|states| states.split('|')) {
            let is_state = RecipeState::ALL.into_iter().any(|known| known.as_str() == state);
            assert!(is_state, "there is no state '{state}': {query}");
        }
    }
}

#[test]
fn each_alert_leads_to_a_section_of_the_guide() {
    let page = read("doc/operations.md");
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    let anchors: Vec<String> = page.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let place = alert["annotations"]["runbook"].as_str().unwrap().strip_prefix("doc/operations.md#").unwrap();
        assert!(anchors.iter().any(|anchor| anchor == place), "{name}: no section {place}");
        assert!(page.contains(&format!("lert `{name}`")), "{name} is not in doc/operations.md");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
    }
}
