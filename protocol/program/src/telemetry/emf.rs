//! Metrics in the embedded metric format (EMF) of CloudWatch, which makes metrics of lines of a log that reaches it. So a
//! group of workers on AWS is scaled by what remains, and the program needs neither a permission nor a client for that.

use super::lines;
use super::metrics::{ANNOUNCED_SLOTS, BACKLOG, PRODUCTION, RECIPES, STATE};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the metrics of a production to standard error, in a namespace of CloudWatch.
#[derive(Debug, Clone)]
pub struct EmbeddedMetrics {
    namespace: String,
}

impl EmbeddedMetrics {
    /// Returns what writes in a namespace.
    pub fn new(namespace: &str) -> EmbeddedMetrics {
        EmbeddedMetrics { namespace: namespace.to_owned() }
    }

    /// Writes what remains of a production: the seconds that one job slot would need, the announced job slots, and the
    /// number of recipes in each state.
    pub fn write(
        &self,
        production: &str,
        slot_seconds: f64,
        slots: u64,
        recipes: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let of_production = [(PRODUCTION, production)];
        let remaining = [(BACKLOG.name, "Seconds", slot_seconds.into()), (ANNOUNCED_SLOTS.name, "Count", slots.into())];
        lines::write_object(&self.line(at, &of_production, &remaining));
        for (state, recipes) in recipes {
            let dimensions = [(PRODUCTION, production), (STATE, state)];
            lines::write_object(&self.line(at, &dimensions, &[(RECIPES.name, "Count", recipes.into())]));
        }
    }

    /// Returns a line with metrics (name, unit, value) at a time in ms since 1970.
    fn line(&self, at: u64, dimensions: &[(&str, &str)], metrics: &[(&str, &str, Value)]) -> Value {
        let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
        let units: Vec<Value> = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        let directive = json!({"Namespace": self.namespace, "Dimensions": [names], "Metrics": units});
        let mut line = Map::new();
        line.insert("_aws".into(), json!({"Timestamp": at, "CloudWatchMetrics": [directive]}));
        line.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        line.extend(metrics.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())));
        Value::Object(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_cloudwatch_specifies_it() {
        let metrics = [("edp.backlog", "Seconds", 2.5.into()), ("edp.announced.slots", "Count", 4.into())];
        let line = EmbeddedMetrics::new("EDP").line(1_700_000_000_000, &[("edp.production", "v4r5")], &metrics);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_700_000_000_000_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "EDP",
                    "Dimensions": [["edp.production"]],
                    "Metrics": [
                        {"Name": "edp.backlog", "Unit": "Seconds"},
                        {"Name": "edp.announced.slots", "Unit": "Count"},
                    ],
                }],
            },
            "edp.production": "v4r5",
            "edp.backlog": 2.5,
            "edp.announced.slots": 4,
        });
        assert_eq!(line, expected);
    }
}
