//! What the roles may and may not do: every request of the programs is allowed, and what they do not do is not.

use super::ON_S3;
use super::policy::{Call, allows};
use super::template::{ACCOUNT, REGION, Template};
use edp_tests::broker::Broker;
use edp_tests::s3::{S3Call, S3Request, S3Server};
use edp_tests::{Fixture, Started, coordinator, expect, program};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const PRODUCT: &str = "edp-product";

/// Returns the parameters that have no default.
pub(crate) fn given() -> Vec<(&'static str, &'static str)> {
    vec![
        ("Production", "v4r4"),
        ("TaskList", "lists/tasks.json"),
        ("ResultsBucket", "results"),
        ("ReleaseBucket", "releases"),
        ("ReleaseKey", "edp.tar.gz"),
        ("ReleaseSha256", "0000000000000000000000000000000000000000000000000000000000000000"),
    ]
}

/// Returns the policies of a role.
fn policies(template: &Template, role: &str) -> Vec<Value> {
    let properties = template.properties(role).unwrap();
    properties["Policies"].as_array().unwrap().iter().map(|policy| policy["PolicyDocument"].clone()).collect()
}

/// Returns the call that S3 makes of a request.
fn call(request: &S3Request) -> Call {
    let object = format!("arn:aws:s3:::{}", request.target);
    let (bucket, prefix) = request.target.split_once('/').unwrap();
    let bucket = format!("arn:aws:s3:::{bucket}");
    let put = |creates: bool| {
        let put = Call::new("s3:PutObject", &*object).with("s3:ObjectCreationOperation", creates.to_string());
        match &*request.condition {
            "" => put,
            condition => put.with("s3:if-none-match", condition),
        }
    };
    match request.call {
        S3Call::Get | S3Call::Head => Call::new("s3:GetObject", object),
        S3Call::List => Call::new("s3:ListBucket", bucket).with("s3:prefix", prefix),
        S3Call::ListUploads => Call::new("s3:ListBucketMultipartUploads", bucket).with("s3:prefix", prefix),
        S3Call::Put | S3Call::CompleteUpload => put(true),
        S3Call::BeginUpload | S3Call::PutPart => put(false),
        S3Call::AbortUpload => Call::new("s3:AbortMultipartUpload", object),
        S3Call::Delete | S3Call::Other => {
            panic!("the programs make a request that they need no right for: {request:?}")
        }
    }
}

/// A store with a model run, as the template has the buckets.
struct Store {
    fixture: Fixture,
    server: S3Server,
}

impl Store {
    fn new() -> Store {
        let (fixture, server) = (Fixture::new(6), S3Server::start(&["results", PRODUCT]));
        let demo = &fixture.demo;
        for (prefix, directory) in
            [("run", &demo.results), ("grid", &demo.grid), ("factors", &demo.factors), ("metadata", &demo.metadata)]
        {
            server.put_files("results", prefix, directory);
        }
        server.put("results", "config.yaml", std::fs::read(&demo.configuration).unwrap());
        Store { fixture, server }
    }

    /// Returns a program that knows the server by this name of its host.
    fn with(&self, mut command: Command, host: &str) -> Command {
        let endpoint = format!("http://{host}:{}", self.server.socket().port());
        command.envs(self.server.environment()).env("EDP_STORE__S3__ENDPOINT", endpoint).env("NO_PROXY", host);
        command.env("EDP_STORE__SCRATCH", self.fixture.path("")).env("SOURCE_DATE_EPOCH", "1577836800");
        command
    }

    /// Plans everything, and returns the list.
    fn plan(&self, destination: &str, list: &str) -> PathBuf {
        let mut plan = self.with(coordinator(), "127.0.0.1");
        plan.arg("plan").arg("--jobs").arg(&self.fixture.demo.jobs);
        plan.args(ON_S3);
        plan.args(["--destination", destination, "--tasks-out"]).arg(self.fixture.path(list));
        expect(&mut plan, 0);
        self.fixture.path(list)
    }

    /// Returns the different requests that came by a name of the host.
    fn requests(&self, host: &str) -> Vec<S3Request> {
        let mut of: Vec<_> =
            self.server.recorded().into_iter().filter(|request| request.host.starts_with(host)).collect();
        of.sort();
        of.dedup();
        of
    }
}

#[test]
fn roles_allow_what_the_programs_do_on_a_broker() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let (store, broker) = (Store::new(), Broker::start());
    let list = store.plan("s3://edp-product/granules", "tasks.json");
    let split = ["tasks", "split", "--parts", "2", "--output-dir"];
    expect(coordinator().args(split).arg(list.parent().unwrap()).arg(&list), 0);
    let lists = ["tasks_001.json", "tasks_002.json"].map(|name| list.with_file_name(name));
    store.server.record();
    let url = broker.url("guest", "guest");
    let mut serve = store.with(program("edp-worker"), "localhost");
    serve.args(["serve", "--production", "v4r4", "--exit-when-idle", "30s"]).env("EDP_SERVE__NOTICES", "off");
    serve.env("EDP_SERVE__ROOTS", format!("s3://results:s3://{PRODUCT}/granules"));
    let mut worker = |parts: &str| {
        serve.env("EDP_QUEUE__URL", &url).env("EDP_STORE__S3__MULTIPART", parts).stdin(Stdio::null());
        Started(serve.spawn().unwrap())
    };
    // Granules as whole objects, and in parts.
    for (list, parts) in lists.iter().zip(["256", "0"]) {
        let _worker = worker(parts);
        let mut run = store.with(coordinator(), "127.0.0.1");
        run.arg("run")
            .arg(list)
            .args(["--queue", "--production", "v4r4", "--ledger"])
            .arg(list.with_extension("ledger"));
        expect(run.env("EDP_QUEUE__URL", &url).env("EDP_RUN__SNAPSHOT", "1"), 0);
    }
    let bucket = [template.properties("ProductPolicy").unwrap()["PolicyDocument"].clone()];
    let endpoint = [template.properties("S3").unwrap()["PolicyDocument"].clone()];
    for (role, host, kinds) in [
        ("CoordinatorRole", "127.0.0.1", vec![S3Call::Head, S3Call::Put, S3Call::ListUploads]),
        (
            "WorkerRole",
            "localhost",
            vec![
                S3Call::Get,
                S3Call::Head,
                S3Call::List,
                S3Call::Put,
                S3Call::BeginUpload,
                S3Call::PutPart,
                S3Call::CompleteUpload,
            ],
        ),
    ] {
        let (policies, requests) = (policies(&template, role), store.requests(host));
        for kind in kinds {
            assert!(
                requests.iter().any(|request| request.call == kind),
                "{role}: no {kind:?} among {}",
                requests.len()
            );
        }
        for request in &requests {
            let call = call(request);
            assert!(allows(&policies, &bucket, &call), "{role} may not {call:?}");
            assert!(allows(&endpoint, &[], &call), "the endpoint lets nobody {call:?}");
        }
    }
}

#[test]
fn jobs_of_batch_may_what_they_do() {
    let given = [("Image", "edp:1"), ("ResultsBucket", "results"), ("ProductBucket", PRODUCT)];
    let Some(template) = Template::read("batch/template.yaml", &given) else { return };
    let store = Store::new();
    let list = store.plan("s3://edp-product/granules/V4r4", "tasks.json");
    store.server.put("results", "lists/tasks.json", std::fs::read(list).unwrap());
    store.server.record();
    for (index, parts) in [("0", "256"), ("1", "0")] {
        let mut job = store.with(program("edp-worker"), "localhost");
        job.arg("make").env("TASKLIST", "s3://results/lists/tasks.json").env("EDP_STORE__S3__MULTIPART", parts);
        job.envs([("AWS_BATCH_JOB_ARRAY_INDEX", index), ("AWS_BATCH_JOB_ARRAY_SIZE", "2")]);
        expect(job.env("EDP_SERVE__NOTICES", "off"), 0);
    }
    let policies = policies(&template, "JobRole");
    let requests = store.requests("localhost");
    assert!(requests.iter().any(|request| request.target.ends_with(".1-of-2.manifest.jsonl")), "{requests:?}");
    for request in &requests {
        assert!(allows(&policies, &[], &call(request)), "a job may not {request:?}");
    }
    let put = |at: &str| Call::new("s3:PutObject", format!("arn:aws:s3:::{at}"));
    for call in [
        put("results/run/SSH.data"),
        put("results/lists/tasks.json"),
        put("edp-product/elsewhere/x.nc"),
        Call::new("s3:DeleteObject", "arn:aws:s3:::edp-product/granules/x.nc"),
        Call::new("s3:ListBucket", "arn:aws:s3:::edp-product").with("s3:prefix", "elsewhere/"),
    ] {
        assert!(!allows(&policies, &[], &call), "a job may {call:?}");
    }
}

#[test]
fn roles_deny_everything_else() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let bucket = [template.properties("ProductPolicy").unwrap()["PolicyDocument"].clone()];
    let granule = "arn:aws:s3:::edp-product/granules/V4r4/native/x.nc";
    let put = |at: &str| {
        let put = Call::new("s3:PutObject", at).with("s3:ObjectCreationOperation", "true");
        put.with("s3:if-none-match", "*")
    };
    let unconditional = |at: &str| Call::new("s3:PutObject", at).with("s3:ObjectCreationOperation", "true");
    let group = |name: &str| {
        format!("arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:0-0:autoScalingGroupName/edp-{name}")
    };
    let secret = |name: &str| format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}");
    let ledger = "arn:aws:s3:::edp-product/granules/.edp/v4r4.ledger";
    let release = "arn:aws:s3:::releases/edp.tar.gz";
    let end = "autoscaling:TerminateInstanceInAutoScalingGroup";
    // the call, whether a worker may, whether a coordinator may
    let calls = [
        (put(granule), true, false),
        (put(granule).with("aws:SecureTransport", "false"), false, false),
        (unconditional(granule), false, false),
        (put("arn:aws:s3:::edp-product/elsewhere/x.nc"), false, false),
        (put("arn:aws:s3:::results/run/SSH.data"), false, false),
        (put("arn:aws:s3:::others/granules/x.nc"), false, false),
        (unconditional(ledger), false, true),
        (unconditional("arn:aws:s3:::edp-product/granules/.edp/conditions"), false, false),
        (put("arn:aws:s3:::edp-product/granules/.edp/conditions"), false, true),
        (Call::new("s3:GetObject", ledger), false, true),
        (Call::new("s3:GetObject", granule), true, true),
        (Call::new("s3:GetObject", "arn:aws:s3:::others/x"), false, false),
        (Call::new("s3:GetObject", release), true, true),
        (Call::new("s3:ListBucket", "arn:aws:s3:::others"), false, false),
        (Call::new("s3:DeleteObject", granule), false, false),
        (Call::new("s3:DeleteBucket", "arn:aws:s3:::edp-product"), false, false),
        (Call::new("s3:PutBucketPolicy", "arn:aws:s3:::edp-product"), false, false),
        (Call::new("s3:PutObjectAcl", granule), false, false),
        (Call::new("secretsmanager:GetSecretValue", secret("WorkerSecret")), true, true),
        (Call::new("secretsmanager:GetSecretValue", secret("CoordinatorSecret")), false, true),
        (Call::new("secretsmanager:PutSecretValue", secret("WorkerSecret")), false, false),
        (Call::new(end, group("workers")), true, false),
        (Call::new(end, group("coordinator")), false, true),
        (Call::new("autoscaling:CompleteLifecycleAction", group("workers")), true, false),
        (Call::new("autoscaling:SetDesiredCapacity", group("workers")), false, false),
        (Call::new("ec2:RunInstances", "*"), false, false),
        (Call::new("iam:PassRole", "*"), false, false),
    ];
    for (call, worker, coordinator) in calls {
        for (role, may) in [("WorkerRole", worker), ("CoordinatorRole", coordinator)] {
            assert_eq!(allows(&policies(&template, role), &bucket, &call), may, "{role}: {call:?}");
        }
    }
    // Whoever has all rights in the account overwrites nothing either.
    let all = [serde_json::json!({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})];
    assert!(!allows(&all, &bucket, &unconditional(granule)) && allows(&all, &bucket, &put(granule)));
    let part = Call::new("s3:PutObject", granule).with("s3:ObjectCreationOperation", "false");
    assert!(allows(&all, &bucket, &part), "parts of an upload take no condition");
    // A broker of one's own: its secret, whatever AWS appends to its name, and no other.
    let own = [&given()[..], &[("BrokerUrl", "amqps://edp@broker/v4r4"), ("BrokerSecret", "mq/edp")]].concat();
    let template = Template::read("template.yaml", &own).unwrap();
    for role in ["WorkerRole", "CoordinatorRole"] {
        let may = |name: &str| {
            let call = Call::new("secretsmanager:GetSecretValue", secret(name));
            allows(&policies(&template, role), &[], &call)
        };
        assert!(may("mq/edp-a1B2c3") && !may("mq/edp2-a1B2c3") && !may("other-a1B2c3"), "{role}");
    }
}
