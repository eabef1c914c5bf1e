//! The valid range that a recipe states: that of a whole collection, from a table made beforehand.

use super::content::{Attributes, Type, Value};
use edp_protocol::Mode;
use edp_protocol::recipe::Plan;

/// Smallest and largest value that a variable has in its whole collection; `None` if it never has any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValidRange(Option<[f64; 2]>);

impl ValidRange {
    /// Returns the range of a variable in the recipe, or `None` if the recipe has no ranges at all.
    pub(super) fn of(plan: &Plan, variable: &str) -> Result<Option<ValidRange>, String> {
        let Some(all) = plan.options.get("valid_range") else { return Ok(None) };
        let entry = all.get(variable).ok_or("the recipe has valid ranges, but none for this variable: plan again")?;
        let range: Option<[f64; 2]> = serde_json::from_value(entry.clone()).map_err(|_| {
            format!("its valid range in the recipe is {entry}; expected two numbers or null: plan again")
        })?;
        Ok(Some(ValidRange(range)))
    }

    /// Refuses a variable with values outside the range; `found` has its smallest and largest value, as an attribute.
    pub(super) fn check(&self, found: Option<&Value>) -> Result<(), String> {
        let found = match found {
            Some(Value::F32(found)) => found.iter().copied().map(f64::from).collect(),
            Some(Value::F64(found)) => found.clone(),
            _ => Vec::new(),
        };
        let advice = "make the table of ranges anew with `edp-coordinator ranges`, and plan again";
        for value in found {
            match self.0 {
                None => {
                    return Err(format!("has the value {value}, but no valid value in the table of ranges: {advice}"));
                }
                Some([low, high]) if !(low..=high).contains(&value) => {
                    return Err(format!("the value {value} is outside of the valid range {low} to {high}: {advice}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Returns `valid_min` and `valid_max` in the variable's type; no attributes for a variable without values.
    pub(super) fn attributes(&self, data_type: Type) -> Attributes {
        let value = |number: f64| match data_type {
            Type::F64 => Value::F64(vec![number]),
            _ => Value::F32(vec![number as f32]),
        };
        let pair = self.0.into_iter().flatten();
        ["valid_min", "valid_max"].into_iter().zip(pair).map(|(name, limit)| (name.to_owned(), value(limit))).collect()
    }
}

/// Returns `valid_min` and `valid_max` as EDP writes them, or CF's `actual_range`. The value is `None` if there is none
/// to give.
pub(super) fn range_attributes(
    mode: Mode,
    data_type: Type,
    range: Option<&Value>,
) -> Vec<(&'static str, Option<Value>)> {
    let single = |at: usize| match (range, data_type) {
        (Some(Value::F32(range)), _) => Value::F32(vec![range[at]]),
        (Some(Value::F64(range)), _) => Value::F64(vec![range[at]]),
        (_, Type::F64) => Value::F64(vec![f64::NAN]),
        _ => Value::F32(vec![f32::NAN]),
    };
    match mode {
        Mode::Corrected => vec![("actual_range", range.cloned())],
        Mode::Edp2024 | Mode::Edp2026 => vec![("valid_min", Some(single(0))), ("valid_max", Some(single(1)))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(option: serde_json::Value) -> Result<Option<ValidRange>, String> {
        let plan = serde_json::json!({
            "id": "", "format": 4, "mode": "corrected", "options": option, "time_units": "hours since 1992-01-01",
            "digests": {"configuration": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "metadata": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "grid": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}, "inputs": {},
            "roots": {"source": "s", "destination": "d"}, "production_date": "2020-01-01T00:00:00Z",
        });
        ValidRange::of(&serde_json::from_value(plan).unwrap(), "A")
    }

    #[test]
    fn recipes_carry_a_pair_or_null_or_nothing() {
        assert_eq!(of(serde_json::json!({})), Ok(None));
        assert_eq!(of(serde_json::json!({"valid_range": {"A": [-1.5, 2]}})), Ok(Some(ValidRange(Some([-1.5, 2.0])))));
        assert_eq!(of(serde_json::json!({"valid_range": {"A": null}})), Ok(Some(ValidRange(None))));
        for wrong in [
            serde_json::json!({"B": [1, 2]}),
            serde_json::json!({"A": [1]}),
            serde_json::json!({"A": "x"}),
            serde_json::json!(3),
        ] {
            assert!(of(serde_json::json!({"valid_range": wrong})).is_err());
        }
    }

    #[test]
    fn values_beyond_are_named() {
        let valid = ValidRange(Some([f64::from(-0.1_f32), 2.0]));
        assert_eq!(valid.check(Some(&Value::F32(vec![-0.1, 2.0]))), Ok(()));
        assert_eq!(valid.check(None), Ok(()));
        assert!(valid.check(Some(&Value::F32(vec![0.0, 2.5]))).unwrap_err().starts_with("the value 2.5 is outside"));
        assert!(valid.check(Some(&Value::F64(vec![-0.2, 0.0]))).unwrap_err().contains("-0.2"));
        assert!(ValidRange(None).check(Some(&Value::F32(vec![0.0, 0.0]))).is_err());
        assert_eq!(ValidRange(None).check(None), Ok(()));
    }

    #[test]
    fn attributes_have_the_type_of_the_variable() {
        let valid = ValidRange(Some([f64::from(-0.1_f32), 2.0]));
        let named = |low, high| vec![("valid_min".to_owned(), low), ("valid_max".to_owned(), high)];
        assert_eq!(valid.attributes(Type::F32), named(Value::F32(vec![-0.1]), Value::F32(vec![2.0])));
        assert_eq!(valid.attributes(Type::F64), named(Value::F64(vec![f64::from(-0.1_f32)]), Value::F64(vec![2.0])));
        assert!(ValidRange(None).attributes(Type::F32).is_empty());
    }
}
