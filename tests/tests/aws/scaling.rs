//! The size of the group of workers over the time of a production, by the policies and alarms of the template: what is
//! asked for follows what remains, from nothing to its most and to nothing again.
//!
//! How target tracking adds and removes is not published exactly. What is modelled is what its documentation says: it adds
//! as much as the figure is above the target when three minutes were above it, and removes in the same proportion when
//! fifteen were below nine tenths of it.

use super::policies::given;
use super::template::Template;
use serde_json::Value;
use std::collections::BTreeMap;

/// Minutes from the request for an instance to its first granule.
const BOOT: usize = 4;

/// Job slots of an instance.
const SLOTS: f64 = 4.0;

/// The figures of one minute by their names in the expressions; a missing figure has no entry.
type Figures = BTreeMap<&'static str, f64>;

/// Evaluates metric math, as far as the template uses it; `None` if a figure is missing.
fn evaluate(expression: &str, figures: &Figures) -> Option<f64> {
    let text: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
    let (value, rest) = comparison(&text, figures);
    assert_eq!(rest, "", "{expression} is not understood");
    value
}

fn comparison<'a>(text: &'a str, figures: &Figures) -> (Option<f64>, &'a str) {
    let (left, rest) = quotient(text, figures);
    let Some(operator) = rest.chars().next().filter(|c| "<>".contains(*c)) else { return (left, rest) };
    let (right, rest) = quotient(&rest[1..], figures);
    let is_so = left.zip(right).map(|(left, right)| if operator == '>' { left > right } else { left < right });
    (is_so.map(|is_so| f64::from(u8::from(is_so))), rest)
}

fn quotient<'a>(text: &'a str, figures: &Figures) -> (Option<f64>, &'a str) {
    let (value, rest) = term(text, figures);
    let Some(rest) = rest.strip_prefix('/') else { return (value, rest) };
    let (divisor, rest) = term(rest, figures);
    (value.zip(divisor).map(|(value, divisor)| value / divisor), rest)
}

fn term<'a>(text: &'a str, figures: &Figures) -> (Option<f64>, &'a str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let Some(rest) = rest.strip_prefix('(') else {
        return (word.parse().ok().or_else(|| figures.get(word).copied()), rest);
    };
    let (first, rest) = comparison(rest, figures);
    let (second, rest) = comparison(rest.strip_prefix(',').unwrap(), figures);
    match word {
        "FILL" => (first.or(second), rest.strip_prefix(')').unwrap()),
        "IF" => {
            let (third, rest) = comparison(rest.strip_prefix(',').unwrap(), figures);
            (first.and_then(|is_so| if is_so == 0.0 { third } else { second }), rest.strip_prefix(')').unwrap())
        }
        other => panic!("the function {other} is not understood"),
    }
}

/// The policies of the template.
struct Scaling {
    target: f64,
    tracked: String,
    most: f64,
    waits: Value,
    first: Value,
    remains: Value,
    none: Value,
}

impl Scaling {
    fn of(template: &Template) -> Scaling {
        let of = |name: &str| template.properties(name).unwrap();
        let tracking = of("BySecondsPerSlot")["TargetTrackingConfiguration"].clone();
        let metrics = tracking["CustomizedMetricSpecification"]["Metrics"].as_array().unwrap().clone();
        let returned = metrics.iter().find(|metric| metric["ReturnData"] == true).unwrap();
        let workers = of("Workers");
        assert_eq!(workers["MinSize"], "0");
        Scaling {
            target: tracking["TargetValue"].as_f64().unwrap(),
            tracked: returned["Expression"].as_str().unwrap().to_owned(),
            most: workers["MaxSize"].as_f64().unwrap(),
            waits: of("WorkWaits"),
            first: of("FirstWorkers"),
            remains: of("NothingRemains"),
            none: of("NoWorkers"),
        }
    }

    /// Returns the value of an alarm in one minute.
    fn value(alarm: &Value, figures: &Figures) -> Option<f64> {
        let Some(metrics) = alarm["Metrics"].as_array() else {
            assert_eq!([&alarm["MetricName"], &alarm["Statistic"]], ["edp.backlog", "Minimum"]);
            return figures.get("backlog").copied();
        };
        let returned = metrics.iter().find(|metric| metric["ReturnData"] == true).unwrap();
        evaluate(returned["Expression"].as_str().unwrap(), figures)
    }

    /// Returns the capacity that a step policy gives a group of `asked` when its alarm is raised; `None` if it is not.
    fn step(alarm: &Value, policy: &Value, figures: &Figures, asked: f64) -> Option<f64> {
        assert_eq!(alarm["EvaluationPeriods"], 1);
        let threshold = alarm["Threshold"].as_f64().unwrap();
        let value = Scaling::value(alarm, figures)?;
        let is_raised = match alarm["ComparisonOperator"].as_str().unwrap() {
            "GreaterThanThreshold" => value > threshold,
            "LessThanOrEqualToThreshold" => value <= threshold,
            other => panic!("{other} is not evaluated"),
        };
        let beyond = value - threshold;
        let steps = policy["StepAdjustments"].as_array().unwrap();
        let step = steps.iter().find(|step| {
            let bound = |name: &str, without: f64| step[name].as_f64().unwrap_or(without);
            let lower = bound("MetricIntervalLowerBound", f64::NEG_INFINITY);
            let upper = bound("MetricIntervalUpperBound", f64::INFINITY);
            // Below the threshold the upper bound belongs to the step, else the lower one does.
            if beyond > 0.0 { lower <= beyond && beyond < upper } else { lower < beyond && beyond <= upper }
        });
        let by = || step.expect("a step for each value")["ScalingAdjustment"].as_f64().unwrap();
        is_raised.then(|| match policy["AdjustmentType"].as_str().unwrap() {
            "ExactCapacity" => by(),
            "ChangeInCapacity" => asked + by(),
            other => panic!("{other} is not evaluated"),
        })
    }

    /// Runs a production of this much work. Returns the cores that were asked for and those that worked, minute by minute.
    fn run(&self, work: f64) -> Vec<(f64, f64)> {
        let (mut backlog, mut asked, mut history) = (work, 0.0, Vec::new());
        // minutes at which instances began to boot
        let mut instances: Vec<usize> = Vec::new();
        let mut tracked: Vec<f64> = Vec::new();
        for minute in 0..600 {
            let working = instances.iter().filter(|begun| *begun + BOOT <= minute).count() as f64 * SLOTS;
            history.push((asked, working));
            if minute > 60 && backlog <= 0.0 && asked == 0.0 && instances.is_empty() {
                break;
            }
            let figures = Figures::from([("backlog", backlog), ("slots", asked)]);
            let figure = evaluate(&self.tracked, &figures).unwrap();
            tracked.push(figure);
            let last = |n: usize, is_so: &dyn Fn(f64) -> bool| {
                tracked.len() >= n && tracked.iter().rev().take(n).all(|f| is_so(*f))
            };
            let stepped = Scaling::step(&self.waits, &self.first, &figures, asked)
                .or_else(|| Scaling::step(&self.remains, &self.none, &figures, asked));
            if let Some(capacity) = stepped {
                if capacity != asked {
                    tracked.clear();
                }
                asked = capacity.min(self.most);
            } else if last(3, &|figure| figure > self.target) || last(15, &|figure| figure < 0.9 * self.target) {
                asked = (asked * figure / self.target).ceil().min(self.most);
                tracked.clear();
            }
            // Whole instances, the youngest of which go first.
            let wanted = (asked / SLOTS).ceil() as usize;
            instances.truncate(wanted);
            instances.resize(wanted, minute);
            backlog = (backlog - 60.0 * working).max(0.0);
        }
        history
    }
}

#[test]
fn a_group_goes_from_nothing_to_forty_instances_and_to_nothing() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let scaling = Scaling::of(&template);
    let instances = |(asked, working): &(f64, f64)| (asked / SLOTS, working / SLOTS);
    // forty instances for an hour
    let history: Vec<_> = scaling.run(40.0 * SLOTS * 3600.0).iter().map(instances).collect();
    assert_eq!(history[0], (0.0, 0.0));
    assert_eq!(history.last(), Some(&(0.0, 0.0)), "{history:?}");
    let most = |of: &dyn Fn(&(f64, f64)) -> f64| history.iter().map(of).fold(0.0, f64::max);
    assert_eq!((most(&|h| h.0), most(&|h| h.1)), (40.0, 40.0), "{history:?}");
    let full = history.iter().position(|h| h.1 == 40.0).unwrap();
    assert!(full <= 15, "all work after {full} minutes: {history:?}");
    let peaks = history.windows(2).filter(|pair| pair[0].0 < pair[1].0).count();
    let end = history.iter().rposition(|h| h.0 == 40.0).unwrap();
    assert!(history[end..].windows(2).all(|pair| pair[1].0 <= pair[0].0) && peaks <= 3, "it swings: {history:?}");
    assert!(history.len() < 150, "{} minutes", history.len());
}

#[test]
fn little_work_gets_few_workers() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let scaling = Scaling::of(&template);
    for work in [60.0, 600.0, 5999.0] {
        let history = scaling.run(work);
        assert!(history.iter().all(|(asked, _)| *asked <= 12.0), "{work}: {history:?}");
        assert!(history.iter().any(|(_, working)| *working > 0.0));
        assert_eq!(history.last(), Some(&(0.0, 0.0)), "{work}: {history:?}");
    }
    assert!(scaling.run(0.0).iter().all(|(asked, _)| *asked == 0.0));
}

#[test]
fn a_coordinator_that_is_being_replaced_ends_no_worker() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let scaling = Scaling::of(&template);
    let nothing_told = Figures::from([("slots", 160.0)]);
    assert_eq!(Scaling::step(&scaling.waits, &scaling.first, &nothing_told, 160.0), None);
    assert_eq!(Scaling::step(&scaling.remains, &scaling.none, &nothing_told, 160.0), None);
    assert_eq!(scaling.remains["TreatMissingData"], "ignore");
    assert_eq!(evaluate(&scaling.tracked, &nothing_told), None);
}

#[test]
fn a_figure_of_the_group_that_is_late_or_wrong_ends_no_worker() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let scaling = Scaling::of(&template);
    let late = Figures::from([("backlog", 576_000.0)]);
    assert_eq!(Scaling::value(&scaling.waits, &late), None, "a minute without the figure raises the alarm");
    assert_eq!(Scaling::step(&scaling.waits, &scaling.first, &late, 160.0), None);
    assert_eq!(scaling.waits["TreatMissingData"], "notBreaching");
    assert_eq!(evaluate(&scaling.tracked, &late), None);
    // An alarm that is raised in error adds to the group.
    for backlog in [60.0, 576_000.0] {
        let wrong = Figures::from([("backlog", backlog), ("slots", 0.0)]);
        let capacity = Scaling::step(&scaling.waits, &scaling.first, &wrong, 160.0).unwrap();
        assert!(capacity >= 160.0, "{backlog}: {capacity}");
    }
}

#[test]
fn work_without_a_worker_that_has_announced_itself_is_told_of() {
    let Some(template) = Template::read("template.yaml", &given()) else { return };
    let alarm = template.properties("WithoutWorkers").unwrap();
    let slots = alarm["Metrics"].as_array().unwrap().iter().find(|metric| metric["Id"] == "slots").unwrap();
    assert_eq!(slots["MetricStat"]["Metric"]["MetricName"], "edp.announced.slots");
    for (figures, value) in [
        (Figures::from([("backlog", 600.0), ("slots", 0.0)]), Some(600.0)),
        (Figures::from([("backlog", 600.0), ("slots", 4.0)]), Some(0.0)),
        (Figures::from([("backlog", 0.0), ("slots", 0.0)]), Some(0.0)),
        // The coordinator is silent, which has its own alarm.
        (Figures::new(), None),
    ] {
        assert_eq!(Scaling::value(&alarm, &figures), value, "{figures:?}");
    }
}

#[test]
fn metric_math_is_evaluated() {
    let figures = Figures::from([("a", 6.0), ("b", 3.0)]);
    for (expression, value) in [
        ("a / b", Some(2.0)),
        ("IF(a > b, a / b, 0)", Some(2.0)),
        ("IF(a < b, 1, b)", Some(3.0)),
        ("FILL(c, 0) > -1", Some(1.0)),
        ("IF(FILL(c, -1) < 0, a, 0)", Some(6.0)),
        ("c", None),
        ("IF(c > 0, a, b)", None),
    ] {
        assert_eq!(evaluate(expression, &figures), value, "{expression}");
    }
}
