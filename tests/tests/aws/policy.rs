//! The evaluation of IAM's policies, as far as the templates need it. What it does not know is an error of the test.

use serde_json::Value;

/// A call of a service, by somebody whose policies are evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) action: &'static str,
    pub(crate) resource: String,
    /// The condition keys of the request.
    pub(crate) keys: Vec<(&'static str, String)>,
}

impl Call {
    pub(crate) fn new(action: &'static str, resource: impl Into<String>) -> Call {
        Call { action, resource: resource.into(), keys: vec![("aws:SecureTransport", "true".into())] }
    }

    /// Adds or replaces a condition key.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Call {
        self.keys.retain(|(name, _)| *name != key);
        self.keys.push((key, value.into()));
        self
    }

    fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }
}

/// Returns true if the policies of a role allow a call, and no policy denies it.
pub(crate) fn allows(role: &[Value], resource: &[Value], call: &Call) -> bool {
    let statements = |policies: &[Value]| -> Vec<Value> {
        policies.iter().flat_map(|policy| policy["Statement"].as_array().unwrap().clone()).collect()
    };
    let (of_role, of_resource) = (statements(role), statements(resource));
    let matching = |statements: &[Value], effect: &str| {
        statements.iter().any(|statement| statement["Effect"] == effect && applies(statement, call))
    };
    let is_denied = matching(&of_role, "Deny") || matching(&of_resource, "Deny");
    assert!(of_resource.iter().all(|statement| statement["Effect"] == "Deny"), "a policy of a bucket allows something");
    matching(&of_role, "Allow") && !is_denied
}

fn applies(statement: &Value, call: &Call) -> bool {
    for name in statement.as_object().unwrap().keys() {
        let known = ["Sid", "Effect", "Principal", "Action", "Resource", "NotResource", "Condition"];
        assert!(known.contains(&name.as_str()), "{name} is not evaluated");
    }
    assert!(["*", ""].contains(&statement["Principal"].as_str().unwrap_or_default()));
    let is_one_of = |patterns: &Value, text: &str| texts(patterns).iter().any(|pattern| matches(pattern, text));
    let is_about = match (&statement["Resource"], &statement["NotResource"]) {
        (Value::Null, others) => !is_one_of(others, &call.resource),
        (resources, Value::Null) => is_one_of(resources, &call.resource),
        _ => panic!("both Resource and NotResource"),
    };
    let conditions = statement["Condition"].as_object().cloned().unwrap_or_default();
    is_about
        && is_one_of(&statement["Action"], call.action)
        && conditions.iter().all(|(operator, keys)| {
            keys.as_object().unwrap().iter().all(|(key, wanted)| holds(operator, call.key(key), &texts(wanted)))
        })
}

fn holds(operator: &str, value: Option<&str>, wanted: &[String]) -> bool {
    match (operator, value) {
        ("Null", value) => wanted == [value.is_none().to_string()],
        ("Bool", Some(value)) => wanted.iter().any(|wanted| wanted == value),
        ("StringLike" | "StringLikeIfExists", Some(value)) => wanted.iter().any(|wanted| matches(wanted, value)),
        ("StringLikeIfExists", None) => true,
        ("Bool" | "StringLike", None) => false,
        (other, _) => panic!("the operator {other} is not evaluated"),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        other => panic!("{other} is neither a text nor a list of them"),
    }
}

/// Returns true if a text matches a pattern, in which `*` stands for any text and `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }
        Some(first) => {
            let mut left = text.chars();
            left.next().is_some_and(|c| first == '?' || c == first)
                && matches(&pattern[first.len_utf8()..], left.as_str())
        }
    }
}

#[test]
fn patterns_and_operators_mean_what_they_mean_to_iam() {
    for (pattern, text, is_so) in [
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("*", "", true),
        ("s3:Get?bject", "s3:GetObject", true),
        ("a?", "a", false),
        ("arn:*/granules/*", "arn:aws:s3:::b/granules/x/y.nc", true),
    ] {
        assert_eq!(matches(pattern, text), is_so, "{pattern} {text}");
    }
    let text = |text: &str| vec![text.to_owned()];
    assert!(holds("Null", None, &text("true")) && holds("Null", Some("*"), &text("false")));
    assert!(!holds("Null", Some("*"), &text("true")) && !holds("Bool", None, &text("false")));
    assert!(holds("StringLikeIfExists", None, &text("x")) && !holds("StringLike", None, &text("*")));
    let deny = serde_json::json!({"Statement": [{"Effect": "Deny", "Action": "s3:*", "NotResource": "arn:a", "Principal": "*"}]});
    let allow = serde_json::json!({"Statement": [{"Effect": "Allow", "Action": ["s3:Get*"], "Resource": "*"}]});
    let may = |resource: &str| {
        allows(std::slice::from_ref(&allow), std::slice::from_ref(&deny), &Call::new("s3:GetObject", resource))
    };
    assert!(may("arn:a") && !may("arn:b"));
    assert!(!allows(std::slice::from_ref(&allow), &[], &Call::new("s3:PutObject", "arn:a")));
}
