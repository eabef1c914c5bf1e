//! The templates: their form, the stack that moto makes of them, and what of it moto leaves out, given to the same services
//! by calls of their own.

use super::account::Account;
use super::policies::given;
use super::template::{STACK, Template, directory};
use super::tools;
use edp_tests::{expect, text};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Returns the parameters of a stack whose buckets and broker exist.
pub(crate) fn with_own(url: &str) -> Vec<(&'static str, String)> {
    let given = given().into_iter().map(|(name, value)| (name, value.to_owned()));
    given.chain([("ProductBucket", "product".into()), ("BrokerUrl", url.into())]).collect()
}

/// Makes the stack in an account that has its buckets.
pub(crate) fn deploy(account: &Account, name: &str, given: &[(&'static str, String)]) -> Template {
    let borrowed: Vec<_> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let template = Template::read(name, &borrowed).unwrap();
    let mut create =
        account.aws(["cloudformation", "create-stack", "--stack-name", STACK, "--capabilities", "CAPABILITY_IAM"]);
    create.arg("--template-body").arg(format!("file://{}", template.path.display())).arg("--parameters");
    create.args(given.iter().map(|(name, value)| format!("ParameterKey={name},ParameterValue={value}")));
    expect(&mut create, 0);
    let stacks = account.answer(["cloudformation", "describe-stacks", "--stack-name", STACK]);
    assert_eq!(stacks["Stacks"][0]["StackStatus"], "CREATE_COMPLETE", "{stacks:#}");
    template
}

#[test]
fn templates_are_clean() {
    let Some(tools) = tools() else { return };
    for name in ["template.yaml", "batch/template.yaml"] {
        let output = expect(Command::new(tools.join("cfn-lint")).arg(directory().join(name)), 0);
        assert_eq!(text(&output).trim(), "", "{name}");
        // What CloudFormation accepts in the body of a request.
        assert!(fs::metadata(directory().join(name)).unwrap().len() <= 51_200, "{name}");
    }
}

#[test]
fn what_a_stack_has_made_of_data_outlives_it() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    for (name, resource) in template.json["Resources"].as_object().unwrap() {
        let of_data = ["AWS::S3::Bucket", "AWS::S3::BucketPolicy"].contains(&resource["Type"].as_str().unwrap());
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            assert_eq!(resource[policy] == "Retain", of_data, "{name}");
        }
    }
}

#[test]
fn what_granules_may_take_fits_into_their_machine() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let parameter = |template: &Template, name: &str| template.json["Parameters"][name]["Default"].as_u64().unwrap();
    let slot = parameter(&template, "SlotMemory");
    let user_data = template.user_data("WorkerTemplate");
    assert!(user_data.contains(&format!("\nEDP_RUN__MEMORY={slot}\n")), "{user_data}");
    let workers = template.properties("Workers").unwrap();
    for kind in workers["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"].as_array().unwrap() {
        let slots: u64 = kind["WeightedCapacity"].as_str().unwrap().parse().unwrap();
        // Instances for computing have 2 GiB for each core, those for general purposes 4 GiB.
        let of_core = if kind["InstanceType"].as_str().unwrap().starts_with('c') { 2048 } else { 4096 };
        assert!(slots * slot + 1024 <= slots * of_core, "{kind}");
    }
    let batch = Template::read("batch/template.yaml", &[]).unwrap();
    let [slot, cores, memory] = ["SlotMemory", "Cores", "Memory"].map(|name| parameter(&batch, name));
    assert!(cores * slot + 1024 <= memory);
    let definition = &batch.json["Resources"]["JobDefinition"]["Properties"]["ContainerProperties"];
    let environment = definition["Environment"].as_array().unwrap();
    let memory = json!({"Name": "EDP_RUN__MEMORY", "Value": {"Ref": "SlotMemory"}});
    assert!(environment.contains(&memory), "{definition}");
}

#[test]
fn keys_and_buckets_in_user_data_are_nothing_to_a_shell() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    for name in ["TaskList", "ResultsBucket", "ProductBucket", "ReleaseBucket", "ReleaseKey"] {
        let pattern = template.json["Parameters"][name]["AllowedPattern"].as_str().unwrap();
        // Only what a pattern lists, and nothing that it lists is of the shell.
        assert!(!pattern.contains(".*") && !pattern.contains("[^"), "{name}: {pattern}");
        assert!(!pattern.contains(['\'', '"', '`', '$', ';', '&', '|', '<', '>', '\\', ' ']), "{name}: {pattern}");
    }
}

#[test]
fn nothing_leads_out_of_the_network() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    for kind in ["NatGateway", "InternetGateway", "EgressOnlyInternetGateway", "Route", "EIP"] {
        assert_eq!(template.of_type(&format!("AWS::EC2::{kind}")), Vec::<String>::new());
    }
    let endpoints = template.of_type("AWS::EC2::VPCEndpoint");
    let mut services: Vec<_> = endpoints.iter().map(|name| template.properties(name).unwrap()).collect();
    services.sort_by_key(|service| service["ServiceName"].as_str().unwrap().to_owned());
    let names: Vec<_> =
        services.iter().map(|s| s["ServiceName"].as_str().unwrap().rsplit('.').next().unwrap()).collect();
    assert_eq!(names, ["autoscaling", "logs", "s3", "secretsmanager"]);
    assert_eq!(services[2]["VpcEndpointType"], "Gateway", "an interface would cost money for each byte");
    assert_eq!(template.properties("Broker").unwrap()["PubliclyAccessible"], false);
}

#[test]
fn a_stack_in_an_account_has_what_the_template_says() {
    let Some(account) = Account::start() else { return };
    for bucket in ["results", "product", "releases"] {
        account.answer(["s3api", "create-bucket", "--bucket", bucket]);
    }
    let template = deploy(&account, "template.yaml", &with_own("amqp://guest@127.0.0.1/v4r4"));

    for role in ["CoordinatorRole", "WorkerRole"] {
        let roles = account.answer(["iam", "list-roles"]);
        let names = roles["Roles"].as_array().unwrap().iter().map(|role| role["RoleName"].as_str().unwrap().to_owned());
        let name = names.into_iter().find(|name| name.contains(role)).unwrap();
        let wanted = &template.properties(role).unwrap()["Policies"][0];
        let policy = wanted["PolicyName"].as_str().unwrap();
        let there = account.answer(["iam", "get-role-policy", "--role-name", &name, "--policy-name", policy]);
        // moto gives the policies of a template as Python writes them, and the ARN of a log group without what is in it.
        let policy = there["PolicyDocument"].as_str().unwrap().replace('\'', "\"");
        let policy: Value = serde_json::from_str(&policy).unwrap();
        let wanted = wanted["PolicyDocument"].to_string().replace(":*\"", "\"");
        assert_eq!(policy.to_string().replace(":*\"", "\""), wanted, "{role}");
    }

    let endpoints = account.answer(["ec2", "describe-vpc-endpoints"])["VpcEndpoints"].clone();
    let gateways = endpoints.as_array().unwrap().iter().filter(|endpoint| endpoint["VpcEndpointType"] == "Gateway");
    let gateways: Vec<_> = gateways.map(|endpoint| endpoint["ServiceName"].as_str().unwrap()).collect();
    assert_eq!((endpoints.as_array().unwrap().len(), gateways), (4, vec!["com.amazonaws.us-east-1.s3"]));
    assert_eq!(account.answer(["ec2", "describe-nat-gateways"])["NatGateways"], json!([]));

    let groups = account.answer(["autoscaling", "describe-auto-scaling-groups"])["AutoScalingGroups"].clone();
    let group = |name: &str| {
        let groups = groups.as_array().unwrap();
        groups.iter().find(|group| group["AutoScalingGroupName"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let (alone, workers) = (group("edp-coordinator"), group("edp-workers"));
    assert_eq!([&alone["MinSize"], &alone["MaxSize"], &alone["DesiredCapacity"]], [&json!(0), &json!(1), &json!(1)]);
    assert_eq!(
        [&workers["MinSize"], &workers["MaxSize"], &workers["DesiredCapacity"]],
        [&json!(0), &json!(160), &json!(0)]
    );
    let wanted = &template.properties("Workers").unwrap()["MixedInstancesPolicy"];
    let mixed = &workers["MixedInstancesPolicy"];
    assert_eq!(mixed["InstancesDistribution"], wanted["InstancesDistribution"]);
    assert_eq!(mixed["LaunchTemplate"]["Overrides"], wanted["LaunchTemplate"]["Overrides"]);
    assert_eq!(alone["Instances"].as_array().unwrap().len(), 1, "the coordinator's instance is started");

    // Secrets, which moto has only with a broker of its own; log groups.
    let logs = account.answer(["logs", "describe-log-groups"])["logGroups"].clone();
    let logs: Vec<_> =
        logs.as_array().unwrap().iter().map(|log| (&log["logGroupName"], &log["retentionInDays"])).collect();
    assert_eq!(logs, [(&json!("/edp/edp/coordinator"), &json!(90)), (&json!("/edp/edp/worker"), &json!(90))]);

    rest(&account, &template);
}

/// What moto makes nothing of is given to its services one by one, which know the form of their requests.
fn rest(account: &Account, template: &Template) {
    let give = |words: [&str; 2], name: &str, key: &str, drop: &[&str]| {
        let mut properties = template.properties(name).unwrap();
        let object = properties.as_object_mut().unwrap();
        drop.iter().for_each(|key| drop_key(object, key));
        if !key.is_empty() {
            object.insert(key.into(), name.into());
        }
        account.answer([words[0], words[1], "--cli-input-json", &properties.to_string()]);
    };
    let policies = template.of_type("AWS::AutoScaling::ScalingPolicy");
    policies.iter().for_each(|name| give(["autoscaling", "put-scaling-policy"], name, "PolicyName", &[]));
    let there = account.answer(["autoscaling", "describe-policies"])["ScalingPolicies"].clone();
    assert_eq!(there.as_array().unwrap().len(), 3);
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    alarms.iter().for_each(|name| give(["cloudwatch", "put-metric-alarm"], name, "AlarmName", &[]));
    let there = account.answer(["cloudwatch", "describe-alarms"])["MetricAlarms"].clone();
    assert_eq!(there.as_array().unwrap().len(), alarms.len());
    for name in ["CoordinatorAlone", "Workers"] {
        let group = template.properties(name).unwrap();
        let mut hook = group["LifecycleHookSpecificationList"][0].clone();
        hook["AutoScalingGroupName"] = group["AutoScalingGroupName"].clone();
        account.answer(["autoscaling", "put-lifecycle-hook", "--cli-input-json", &hook.to_string()]);
        let mut ask = vec!["autoscaling", "describe-lifecycle-hooks", "--auto-scaling-group-name"];
        ask.push(group["AutoScalingGroupName"].as_str().unwrap());
        assert_eq!(account.answer(ask)["LifecycleHooks"][0]["LifecycleHookName"], "drain", "{name}");
    }
    for name in template.of_type("AWS::Logs::MetricFilter") {
        let filter = template.properties(&name).unwrap();
        let transformations = filter["MetricTransformations"].as_array().unwrap();
        let lowered: Vec<_> = transformations.iter().map(lower).collect();
        let filter = json!({
            "filterName": name, "logGroupName": filter["LogGroupName"], "filterPattern": filter["FilterPattern"],
            "metricTransformations": lowered,
        });
        account.answer(["logs", "put-metric-filter", "--cli-input-json", &filter.to_string()]);
    }
    // The policy of a bucket that the template makes.
    let made = Template::read("template.yaml", &given()).unwrap();
    let policy = made.properties("ProductPolicy").unwrap()["PolicyDocument"].to_string();
    account.answer([
        "s3api",
        "put-bucket-policy",
        "--bucket",
        "product",
        "--policy",
        &policy.replace("edp-product", "product"),
    ]);
}

fn drop_key(object: &mut serde_json::Map<String, Value>, key: &str) {
    object.remove(key);
}

/// Returns an object whose names begin with small letters.
fn lower(value: &Value) -> Value {
    let members = value.as_object().unwrap().iter().map(|(name, value)| {
        let (first, rest) = name.split_at(1);
        (first.to_lowercase() + rest, value.clone())
    });
    Value::Object(members.collect())
}

#[test]
fn lists_are_submitted_to_a_queue_of_an_account() {
    let Some(account) = Account::start() else { return };
    for (bucket, key) in [("results", "lists/SSH_task_jobs.json"), ("results", "lists/VEL_jobs.json"), ("product", "x")]
    {
        let _ = account.aws(["s3api", "create-bucket", "--bucket", bucket]).output();
        account.answer(["s3api", "put-object", "--bucket", bucket, "--key", key]);
    }
    account.answer(["s3api", "put-object", "--bucket", "results", "--key", "lists/SSH_task_jobs.json.manifest.jsonl"]);
    account.answer(["s3api", "put-object", "--bucket", "results", "--key", "lists/below/other.json"]);
    let image = ("Image", "123456789012.dkr.ecr.us-east-1.amazonaws.com/edp:1".to_owned());
    let given = [image, ("ResultsBucket", "results".into()), ("ProductBucket", "product".into())];
    let template = deploy(&account, "batch/template.yaml", &given);
    let definitions = account.answer(["batch", "describe-job-definitions"])["jobDefinitions"].clone();
    let wanted = template.properties("JobDefinition").unwrap();
    assert_eq!(definitions[0]["jobDefinitionName"], "edp-make");
    assert_eq!(definitions[0]["containerProperties"]["command"], json!(["edp-worker", "make"]));
    assert_eq!(definitions[0]["containerProperties"]["image"], wanted["ContainerProperties"]["Image"]);

    let submit = |words: &[&str], status: i32| {
        let mut submit = Command::new(directory().join("batch/submit"));
        submit.envs(account.environment()).args(["--queue", "edpq", "--definition", "edp-make"]).args(words);
        text(&expect(&mut submit, status))
    };
    // Without a queue nothing is submitted.
    assert!(submit(&["s3://results/lists/VEL_jobs.json"], 4).contains("was not submitted"));
    queue(&account);
    let printed = submit(&["s3://results/lists/"], 0);
    let printed: Vec<_> = printed.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(printed.len(), 2, "{printed:?}");
    for (line, (name, list)) in printed.iter().zip([("SSH_jobs", "SSH_task_jobs"), ("VEL_jobs", "VEL_jobs")]) {
        let (job, id) = line.split_once(' ').unwrap();
        assert_eq!(job, name);
        let jobs = account.answer(["batch", "describe-jobs", "--jobs", id])["jobs"].clone();
        assert_eq!(jobs[0]["jobName"], name);
        let environment = jobs[0]["container"]["environment"].as_array().unwrap();
        let list = json!({"name": "TASKLIST", "value": format!("s3://results/lists/{list}.json")});
        assert!(environment.contains(&list), "{jobs:#}");
    }
    let shares =
        submit(&["--shares", "3", "s3://results/lists/VEL_jobs.json", "--", "--scheduling-priority-override", "7"], 0);
    let id = shares.split_whitespace().nth(1).unwrap();
    let jobs = account.answer(["batch", "describe-jobs", "--jobs", id])["jobs"].clone();
    assert_eq!(jobs[0]["arrayProperties"]["size"], 3, "{jobs:#}");
    for words in [
        &["s3://results/nothing/"][..],
        &["s3://results/lists"],
        &["lists/tasks.json"],
        &["--shares", "1", "s3://results/lists/VEL_jobs.json"],
        &["s3://results/lists/V 4.json"],
        &[],
    ] {
        submit(words, 2);
    }
}

/// Makes a queue whose jobs run nowhere.
fn queue(account: &Account) {
    let no_docker = json!({"batch": {"use_docker": false}}).to_string();
    let mut set = Command::new("curl");
    set.args([
        "--silent",
        "--fail",
        "--noproxy",
        "*",
        "--header",
        "content-type: application/json",
        "--data",
        &no_docker,
    ]);
    expect(set.arg(format!("{}/moto-api/config", account.endpoint())), 0);
    let trust = json!({"Version": "2012-10-17", "Statement": []}).to_string();
    let role = account.answer(["iam", "create-role", "--role-name", "batch", "--assume-role-policy-document", &trust]);
    let role = role["Role"]["Arn"].as_str().unwrap().to_owned();
    let words = ["batch", "create-compute-environment", "--compute-environment-name", "none", "--type", "UNMANAGED"];
    account.answer([&words[..], &["--state", "ENABLED", "--service-role", &role]].concat());
    let words = ["batch", "create-job-queue", "--job-queue-name", "edpq", "--priority", "1", "--state", "ENABLED"];
    account.answer([&words[..], &["--compute-environment-order", "order=1,computeEnvironment=none"]].concat());
}
