//! `deploy/kubernetes`: the objects, by the schemas of Kubernetes and KEDA, and what they say about the programs.

use crate::{assert_accepted, assert_refused, block, names, read, root, settings, yaml};
use edp_program::settings::{ServeSettings, Settings};
use edp_tests::{expect, not_permitted, program};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The oldest version of Kubernetes that the page names, and a new one.
const SCHEMAS: [&str; 3] = ["kubernetes", "1.30.0", "1.37.0"];

const PAGE: &str = "deploy/kubernetes/README.md";

/// Returns the objects that a kustomization names, as they are in its files.
fn objects(directory: &str) -> Vec<Value> {
    let kustomization = yaml(&read(&format!("deploy/kubernetes/{directory}/kustomization.yaml"))).remove(0);
    let files = kustomization["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let files = files.filter(|name| name.ends_with(".yaml"));
    files.flat_map(|name| yaml(&read(&format!("deploy/kubernetes/{directory}/{name}")))).collect()
}

fn object(kind: &str, name: &str) -> Value {
    let mut all = [objects("base"), objects("operator")].concat();
    let at = all.iter().position(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    all.swap_remove(at.unwrap_or_else(|| panic!("there is no {kind} {name}")))
}

/// Returns the specifications of the pods: of the coordinator and of workers.
fn pods() -> [(&'static str, Value); 2] {
    [("coordinator", "Job"), ("worker", "Deployment")]
        .map(|(name, kind)| (name, object(kind, &format!("edp-{name}"))["spec"]["template"]["spec"].clone()))
}

fn base() -> (Settings, Vec<(String, String)>) {
    settings(&read("deploy/kubernetes/base/settings.env"))
}

fn value(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
}

/// Returns the port at which the programs tell their metrics.
fn port() -> u64 {
    value(&base().1, "EDP_TELEMETRY__LISTEN").rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn the_schemas_accept_all_objects() {
    let all: Vec<String> =
        ["base", "operator"].into_iter().flat_map(objects).map(|object| object.to_string()).collect();
    assert_accepted(&SCHEMAS, &all.join("\n---\n"));
    let changes = [
        ("readinessProbe:", "readynessProbe:", "readynessProbe"),
        ("maxUnavailable: 25%", "maxUnavailable: [25]", "PodDisruptionBudget"),
        ("pollingInterval:", "pollInterval:", "spec.pollInterval is not known"),
    ];
    assert_refused(&SCHEMAS, &read("deploy/kubernetes/base/worker.yaml"), &changes);
}

/// The objects as kustomize puts them together, and those of the page's own production.
#[test]
fn kustomize_puts_valid_objects_together() {
    if !Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success()) {
        return not_permitted("there is no kubectl, and no package of it that is new enough");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("production")).unwrap();
    std::os::unix::fs::symlink(root().join("deploy"), directory.path().join("deploy")).unwrap();
    let page = read(PAGE);
    let own = directory.path().join("production/kustomization.yaml");
    fs::write(own, block(&page, "## Setting it up")).unwrap();
    fs::write(directory.path().join("production/production.env"), block(&page, "has the lines of")).unwrap();
    let made = |place: &std::path::Path| {
        String::from_utf8(expect(Command::new("kubectl").arg("kustomize").arg(place), 0).stdout).unwrap()
    };

    let (deploy, mut together) = (root().join("deploy/kubernetes"), Vec::new());
    for (place, is_own) in
        [(deploy.join("base"), false), (deploy.join("operator"), false), (directory.path().join("production"), true)]
    {
        let made = made(&place);
        let all = yaml(made.trim_end());
        together.push(made.trim_end().to_owned());
        let found =
            |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        let map = found("ConfigMap");
        assert_eq!((&map["metadata"]["name"], &map["metadata"]["namespace"]), (&json!("edp"), &json!("edp")));
        let queue = map["data"]["EDP_QUEUE__URL"].as_str().unwrap();
        assert_eq!(queue.contains("my-broker"), is_own, "{queue}");
        assert!(map["data"]["EDP_TELEMETRY__LISTEN"].is_string(), "the settings of the base are gone: {map}");
        let container = &found("Deployment")["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap();
        assert_eq!(image, if is_own { "registry.example.org/edp:0.1.0" } else { "edp" });
        let is_operated = all.iter().any(|object| object["kind"] == "RabbitmqCluster");
        assert_eq!(is_operated, place.ends_with("operator"));
        let env = container["env"].as_array().unwrap();
        assert_eq!(env.iter().any(|variable| variable["name"] == "EDP_QUEUE__URL"), is_operated);
    }
    assert_accepted(&SCHEMAS, &together.join("\n---\n"));
}

#[test]
fn pods_have_few_rights_and_time_to_end() {
    let containerfile = read("deploy/container/Containerfile");
    let user = containerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back().unwrap();
    let user: u64 = user.split(':').next().unwrap().parse().unwrap();
    let (set, _) = base();
    for (name, pod) in pods() {
        let security = &pod["securityContext"];
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(security[key], user, "{name}: {key}");
        }
        assert_eq!(
            (&security["runAsNonRoot"], &security["seccompProfile"]["type"]),
            (&json!(true), &json!("RuntimeDefault"))
        );
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
        });
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"], expected, "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        // Grace period, computations that do not react, connections; a margin.
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace >= u64::from(ServeSettings::default().grace) + 45 + 30, "{name}: {grace} s");

        // Whatever is written is on a volume.
        let mounts = container["volumeMounts"].as_array().unwrap();
        let is_mounted = |path: &str| mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
        let (scratch, password) = (set.store.scratch.clone().unwrap(), set.queue.password_file.clone().unwrap());
        let credentials = set.store.s3.credentials.clone().unwrap();
        for path in [scratch, password, credentials, "/tmp".into()] {
            assert!(is_mounted(path.to_str().unwrap()), "{name}: {} is on no volume", path.display());
        }
        let volumes = pod["volumes"].as_array().unwrap();
        for mount in mounts {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{name}: {mount}");
        }
        // A program waits for its broker for longer than it seems unwell, and ends by itself then.
        let probe = &container["livenessProbe"];
        let patience = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        assert!(patience > set.queue.patience.into(), "{name}: {patience} s");
        assert_eq!(probe["httpGet"], json!({"path": "/healthz", "port": "metrics"}), "{name}");
        assert_eq!(container["ports"], json!([{"name": "metrics", "containerPort": port()}]), "{name}");
        assert_eq!(container["envFrom"], json!([{"configMapRef": {"name": "edp"}}]), "{name}");
    }
    let job = object("Job", "edp-coordinator");
    assert_eq!((&job["spec"]["parallelism"], &job["spec"]["podReplacementPolicy"]), (&json!(1), &json!("Failed")));
    let ends = &job["spec"]["podFailurePolicy"]["rules"][1];
    let lasting =
        [edp_worker::console::Ending::Usage, edp_worker::console::Ending::Incomplete].map(|ending| ending.code());
    assert_eq!((&ends["action"], &ends["onExitCodes"]["values"]), (&json!("FailJob"), &json!(lasting)));
}

#[test]
fn commands_and_settings_are_those_of_the_programs() {
    let (set, pairs) = base();
    assert!(set.queue.url.is_some_and(|url| !url.has_password()) && set.serve.roots.is_some());
    assert!(pairs.len() > 10, "{pairs:?}");
    for (name, pod) in pods() {
        let words = pod["containers"][0]["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        let words: Vec<String> = words
            .map(|word| match word.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) {
                Some(variable) => value(&pairs, variable),
                None => word.to_owned(),
            })
            .collect();
        assert_eq!(words[0], format!("edp-{name}"));
        expect(program(&words[0]).args(&words[1..]).arg("--help"), 0);
    }
    let (own, _) = settings(block(&read(PAGE), "has the lines of"));
    assert!(own.store.s3.endpoint.is_some() && own.store.s3.credentials.is_some());
    // What a slot may take, and what slots share, fits into a worker.
    let worker = &pods()[1].1["containers"][0];
    let slots: u64 = worker["resources"]["limits"]["cpu"].as_str().unwrap().parse().unwrap();
    let memory: u64 =
        worker["resources"]["limits"]["memory"].as_str().unwrap().strip_suffix("Gi").unwrap().parse().unwrap();
    let slot: u64 = value(&pairs, "EDP_RUN__MEMORY").parse().unwrap();
    assert!(slots * slot + 512 <= memory * 1024, "{slots} slots of {slot} MiB in {memory} GiB");
    let variable = &worker["env"][0];
    assert_eq!(
        (&variable["name"], &variable["valueFrom"]["resourceFieldRef"]["resource"]),
        (&json!("EDP_RUN__SLOTS"), &json!("limits.cpu"))
    );

    // With the operator, the address is put together from the user that it has made.
    for (name, kind) in [("coordinator", "Job"), ("worker", "Deployment")] {
        let patch = yaml(&read(&format!("deploy/kubernetes/operator/{name}.yaml"))).remove(0);
        assert_eq!((&patch["kind"], &patch["metadata"]["name"]), (&json!(kind), &json!(format!("edp-{name}"))));
        let env = &patch["spec"]["template"]["spec"]["containers"][0]["env"];
        let broker = object("RabbitmqCluster", "broker")["metadata"]["name"].as_str().unwrap().to_owned();
        assert_eq!(env[0]["valueFrom"]["secretKeyRef"]["name"], format!("{broker}-default-user"));
        let url =
            env[1]["value"].as_str().unwrap().replace(&format!("$({})", env[0]["name"].as_str().unwrap()), "user");
        let parsed = Settings::parse(None, [("EDP_QUEUE__URL".to_owned(), url.clone())]).unwrap();
        assert!(parsed.queue.url.is_some() && url.contains(&format!("@{broker}.edp.svc:")), "{url}");
    }
}

#[test]
fn workers_are_scaled_by_the_backlog_of_this_coordinator() {
    let scaled = object("ScaledObject", "edp-worker");
    let spec = &scaled["spec"];
    assert_eq!(spec["scaleTargetRef"]["name"], object("Deployment", "edp-worker")["metadata"]["name"]);
    assert_eq!(spec["minReplicaCount"], 0);
    let trigger = &spec["triggers"][0]["metadata"];
    let service = object("Service", "edp-coordinator");
    let namespace =
        yaml(&read("deploy/kubernetes/base/kustomization.yaml"))[0]["namespace"].as_str().unwrap().to_owned();
    let url = format!("http://{}.{namespace}.svc:{}/metrics", service["metadata"]["name"].as_str().unwrap(), port());
    assert_eq!(trigger["url"], url);
    assert_eq!(service["spec"]["ports"][0]["port"], port());
    let labels = &object("Job", "edp-coordinator")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    let metric = trigger["valueLocation"].as_str().unwrap();
    assert!(names(&read("doc/metrics.md")).any(|name| name == metric), "{metric} is not in doc/metrics.md");
    // Half an hour for the slots of a worker, which the page says too.
    let slots: u64 = pods()[1].1["containers"][0]["resources"]["limits"]["cpu"].as_str().unwrap().parse().unwrap();
    let target: u64 = trigger["targetValue"].as_str().unwrap().parse().unwrap();
    assert_eq!(target, slots * 1800);
    let page = read(PAGE);
    assert!(page.contains("7,200 slot-seconds") && target == 7200);
    assert!(page.contains(&format!("at most {} (`maxReplicaCount`)", spec["maxReplicaCount"])));
    // A coordinator that is away for a short time costs no workers, and one that has ended leaves none.
    let failing = spec["fallback"]["failureThreshold"].as_u64().unwrap() * spec["pollingInterval"].as_u64().unwrap();
    assert_eq!((failing, spec["cooldownPeriod"].as_u64().unwrap()), (600, 600));
    assert_eq!(spec["fallback"]["replicas"], 0);
    let selector = &object("PodDisruptionBudget", "edp-worker")["spec"]["selector"];
    assert_eq!(selector, &object("Deployment", "edp-worker")["spec"]["selector"]);
}

#[test]
fn the_network_lets_through_what_is_needed_alone() {
    let policy = object("NetworkPolicy", "edp");
    let ports = |direction: &str| -> Vec<u64> {
        let rules = policy["spec"][direction].as_array().unwrap().iter();
        rules.flat_map(|rule| rule["ports"].as_array().unwrap()).map(|port| port["port"].as_u64().unwrap()).collect()
    };
    assert_eq!(ports("ingress"), [port()]);
    for needed in [53, 443, 5671, 5672] {
        assert!(ports("egress").contains(&needed), "{needed}");
    }
    let broker = object("NetworkPolicy", "broker");
    assert_eq!(broker["spec"]["ingress"][0]["from"][0]["podSelector"], policy["spec"]["podSelector"]);
    let selected = policy["spec"]["podSelector"]["matchExpressions"][0]["values"].clone();
    assert_eq!(selected, json!(["edp-coordinator", "edp-worker"]));
}

#[test]
fn names_on_the_page_are_those_of_the_objects() {
    let page = read(PAGE);
    let commands: Vec<&str> = page.lines().filter(|line| line.starts_with("$ kubectl")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let words = commands.iter().flat_map(|line| line.split(' '));
    let named: Vec<(&str, &str)> =
        words.filter_map(|word| word.split_once('/')).filter(|(kind, _)| !kind.is_empty()).collect();
    assert!(named.len() > 5, "{named:?}");
    for (kind, name) in named {
        match ["Job", "Deployment", "ScaledObject"].into_iter().find(|known| known.to_lowercase() == kind) {
            Some(kind) => drop(object(kind, name)),
            // an annotation
            None => assert!(kind.contains('.'), "{kind}"),
        }
    }
    let secrets: Vec<&str> =
        commands.iter().filter_map(|line| line.split_once(" secret generic ")?.1.split(' ').next()).collect();
    let named: Vec<String> = pods()[1].1["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| volume["secret"]["secretName"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(secrets, named);
}
