//! The templates of CloudFormation, as far as the tests compute what AWS would: parameters, conditions, and the functions
//! that the templates use.

use super::tools;
use edp_tests::expect;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Account and region of the stacks.
pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "us-east-1";
/// Name of the stacks.
pub(crate) const STACK: &str = "edp";

/// Reads a template with the functions in their long form.
const READ: &str = "import json, sys; from cfnlint.decode.cfn_yaml import load; print(json.dumps(load(sys.argv[1])))";

/// Returns the directory of what is tested.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/aws").canonicalize().unwrap()
}

/// A template with the values of its parameters.
pub(crate) struct Template {
    pub(crate) path: PathBuf,
    pub(crate) json: Value,
    pub(crate) given: BTreeMap<String, String>,
}

impl Template {
    /// Reads a template of `deploy/aws`; `None` where the tools are missing.
    pub(crate) fn read(name: &str, given: &[(&str, &str)]) -> Option<Template> {
        let path = directory().join(name);
        let read = expect(Command::new(tools()?.join("python3")).args(["-c", READ]).arg(&path), 0);
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(Template { path, json: serde_json::from_slice(&read.stdout).unwrap(), given })
    }

    /// Returns the properties of a resource as AWS would get them; `None` if its condition is not met.
    pub(crate) fn properties(&self, name: &str) -> Option<Value> {
        let resource = &self.json["Resources"][name];
        assert!(resource.is_object(), "there is no resource {name}");
        let is_made = resource["Condition"].as_str().is_none_or(|condition| self.condition(condition));
        is_made.then(|| self.resolve(&resource["Properties"]))
    }

    /// Returns the names of the resources of a type that are made.
    pub(crate) fn of_type(&self, kind: &str) -> Vec<String> {
        let resources = self.json["Resources"].as_object().unwrap();
        let names = resources.iter().filter(|(_, resource)| resource["Type"] == kind).map(|(name, _)| name.clone());
        names.filter(|name| self.properties(name).is_some()).collect()
    }

    /// Returns the user data of a launch template.
    pub(crate) fn user_data(&self, name: &str) -> String {
        self.properties(name).unwrap()["LaunchTemplateData"]["UserData"].as_str().unwrap().to_owned()
    }

    fn condition(&self, name: &str) -> bool {
        self.resolve(&self.json["Conditions"][name]).as_bool().unwrap_or_else(|| panic!("{name} is no condition"))
    }

    /// Returns a value with its functions carried out. Base64 stays text.
    pub(crate) fn resolve(&self, value: &Value) -> Value {
        match value {
            Value::Object(object) if object.len() == 1 => {
                let (name, argument) = object.iter().next().unwrap();
                match name.as_str() {
                    "Ref" => self.reference(argument.as_str().unwrap()),
                    "Fn::GetAtt" => self.attribute(argument),
                    "Fn::Sub" => self.substitute(argument).into(),
                    "Fn::Base64" => self.resolve(argument),
                    "Fn::If" => {
                        let is_so = self.condition(argument[0].as_str().unwrap());
                        self.resolve(&argument[if is_so { 1 } else { 2 }])
                    }
                    "Fn::Equals" => (self.resolve(&argument[0]) == self.resolve(&argument[1])).into(),
                    "Fn::Not" => (self.resolve(&argument[0]) == json!(false)).into(),
                    "Fn::Select" => {
                        let list = self.resolve(&argument[1]);
                        list[usize::try_from(argument[0].as_u64().unwrap()).unwrap()].clone()
                    }
                    "Fn::Split" => {
                        let text = self.resolve(&argument[1]);
                        text.as_str().unwrap().split(argument[0].as_str().unwrap()).collect::<Vec<_>>().into()
                    }
                    "Fn::GetAZs" => json!([format!("{REGION}a"), format!("{REGION}b")]),
                    other if other.starts_with("Fn::") => panic!("{other} is not understood"),
                    _ => self.members(object),
                }
            }
            Value::Object(object) => self.members(object),
            Value::Array(list) => {
                list.iter().map(|value| self.resolve(value)).filter(|value| !value.is_null()).collect()
            }
            other => other.clone(),
        }
    }

    fn members(&self, object: &Map<String, Value>) -> Value {
        let members = object.iter().map(|(name, value)| (name.clone(), self.resolve(value)));
        Value::Object(members.filter(|(_, value)| !value.is_null()).collect())
    }

    fn reference(&self, name: &str) -> Value {
        let fixed = match name {
            "AWS::Region" => REGION,
            "AWS::AccountId" => ACCOUNT,
            "AWS::Partition" => "aws",
            "AWS::StackName" => STACK,
            "AWS::NoValue" => return Value::Null,
            _ => "",
        };
        if !fixed.is_empty() {
            return fixed.into();
        }
        let parameter = &self.json["Parameters"][name];
        if parameter.is_object() {
            let given = self.given.get(name).map(|text| Value::from(text.as_str()));
            return given.unwrap_or_else(|| match &parameter["Default"] {
                Value::Null => panic!("the parameter {name} has no value"),
                default => default.clone(),
            });
        }
        let resource = &self.json["Resources"][name];
        match resource["Type"].as_str().unwrap_or_else(|| panic!("there is no {name}")) {
            "AWS::S3::Bucket" => format!("{STACK}-{}", name.to_lowercase()).into(),
            "AWS::Logs::LogGroup" => self.resolve(&resource["Properties"]["LogGroupName"]),
            "AWS::AutoScaling::AutoScalingGroup" => self.resolve(&resource["Properties"]["AutoScalingGroupName"]),
            "AWS::SecretsManager::Secret" => format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}").into(),
            _ => name.into(),
        }
    }

    fn attribute(&self, argument: &Value) -> Value {
        let (name, attribute) = match argument {
            Value::String(text) => text.split_once('.').unwrap(),
            list => (list[0].as_str().unwrap(), list[1].as_str().unwrap()),
        };
        let own = self.reference(name);
        let own = own.as_str().unwrap();
        match (self.json["Resources"][name]["Type"].as_str().unwrap(), attribute) {
            ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{own}").into(),
            ("AWS::Logs::LogGroup", "Arn") => format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{own}:*").into(),
            ("AWS::AmazonMQ::Broker", "AmqpEndpoints") => json!(["amqps://b-1.mq.us-east-1.on.aws:5671"]),
            _ => format!("{name}.{attribute}").into(),
        }
    }

    fn substitute(&self, argument: &Value) -> String {
        let (text, own) = match argument {
            Value::String(text) => (text.as_str(), Value::Null),
            list => (list[0].as_str().unwrap(), self.resolve(&list[1])),
        };
        let mut pieces = text.split("${");
        let mut whole = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once('}').unwrap();
            let value = match (own.get(name), name.contains('.')) {
                (Some(value), _) => value.clone(),
                (None, true) => self.attribute(&name.into()),
                (None, false) => self.reference(name),
            };
            whole += &value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            whole += rest;
        }
        whole
    }
}
