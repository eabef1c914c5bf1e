//! The tables of `doc/scale.md` and its plots. The text of the page is written by hand; each table stands between two
//! comments that name it, where [`filled`] puts it.

use crate::cases::{Changes, ONE_BATCH, PARTITIONS, ReleaseCase, SHORT_PAUSES, SLOTS, SimulatedCases, WHOLE};
use crate::ceilings::{Ceiling, ReleaseMeans, ceilings, verification};
use crate::costs::Costs;
use crate::measurements::Measurements;
use crate::plots::{Plot, PlotAxis, PlotLine};
use crate::release::ListOrder;
use std::fmt::Write as _;

/// Everything of the page that is computed.
#[derive(Debug)]
pub struct ScalePage {
    /// The tables, by their names.
    pub tables: Vec<(&'static str, String)>,
    /// The plots, by the names of their files.
    pub plots: Vec<(&'static str, String)>,
}

/// The comments around a table.
fn marks(name: &str) -> [String; 2] {
    [format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->")]
}

/// Puts the tables into the text of the page.
///
/// # Errors
/// Returns a description of the problem if the text has no place for a table.
pub fn filled(text: &str, tables: &[(&'static str, String)]) -> Result<String, String> {
    let mut text = text.to_owned();
    for (name, table) in tables {
        let [begin, end] = marks(name);
        let place = text.find(&begin).map(|at| at + begin.len());
        let place = place.and_then(|from| Some(from..from + text[from..].find(&end)?));
        let place = place.ok_or_else(|| format!("the page has no place for the table '{name}': {begin}{end}"))?;
        text.replace_range(place, table);
    }
    Ok(text)
}

/// A row of the tables that compare productions.
struct ComparedRow {
    name: String,
    case: ReleaseCase,
}

fn row(name: impl Into<String>, case: ReleaseCase) -> ComparedRow {
    ComparedRow { name: name.into(), case }
}

fn base() -> Vec<ComparedRow> {
    SLOTS.iter().map(|slots| row(thousands(f64::from(*slots)), ReleaseCase::usual(*slots))).collect()
}

/// The programs without one of the measures against what breaks first, and with further ones.
fn measures() -> Vec<ComparedRow> {
    let mut rows = Vec::new();
    for slots in [1000, 5000] {
        let usual = ReleaseCase::usual(slots);
        let none = ReleaseCase {
            order: ListOrder::List,
            grouped: false,
            second_copies: false,
            changes: [ONE_BATCH, SHORT_PAUSES],
            ..usual
        };
        let name = |what: &str| format!("{}: {what}", thousands(f64::from(slots)));
        rows.push(row(name("as the programs are"), usual));
        rows.push(row(name("short pauses, and as many calls as ever"), usual.with(SHORT_PAUSES)));
        if slots == 1000 {
            rows.extend([
                row(name("16 looks at once, one batch after the other"), usual.with(ONE_BATCH)),
                row(name("without groups (`--group never`)"), ReleaseCase { grouped: false, ..usual }),
                row(name("in the order of the list"), ReleaseCase { order: ListOrder::List, ..usual }),
                row(name("no second copies"), ReleaseCase { second_copies: false, ..usual }),
            ]);
        }
        if slots == 1000 {
            rows.push(row(name("none of all these"), none));
        } else {
            rows.push(row(name("ten tries of a request (`store.s3.attempts`)"), usual.with(TEN_TRIES)));
        }
        rows.push(row(name("132 partitions"), usual.with(PARTITIONS)));
    }
    rows
}

/// A request is tried ten times.
const TEN_TRIES: Changes = &[("tries", 10.0)];

fn mishaps() -> Vec<ComparedRow> {
    let free = ReleaseCase::free(1000);
    vec![
        row("no losses, no stragglers", free.with(&[("interruptions", 0.0), ("losses", 0.0), ("stragglers", 0.0)])),
        row("as assumed", free),
        row(
            "a bad hour: every instance taken back once, a fifth of them lost",
            free.with(&[("interruptions", 100.0), ("losses", 20.0)]),
        ),
        row("10 % stragglers", free.with(&[("stragglers", 10.0)])),
    ]
}

fn assumptions() -> Vec<ComparedRow> {
    let usual = ReleaseCase::usual(400);
    vec![
        row("as assumed", usual),
        row("latency of S3 halved (15 ms)", usual.with(&[("get_latency", 15.0), ("put_latency", 30.0)])),
        row(
            "latency as in the guideline of S3 (100 ms)",
            usual.with(&[("get_latency", 100.0), ("put_latency", 200.0)]),
        ),
        row("three slots for each core", usual.with(&[("slots_per_core", 3.0)])),
        row("three slots for each core, 6.25 Gbit/s", usual.with(&[("slots_per_core", 3.0), ("network", 6.25)])),
    ]
}

/// Simulates everything that the page shows.
pub fn page() -> ScalePage {
    let groups = [base(), measures(), mishaps(), assumptions()];
    let free = FREE_SLOTS.map(ReleaseCase::free);
    let wanted = groups.iter().flatten().map(|row| row.case).chain(free).collect();
    let cases = SimulatedCases::run(wanted);
    let [base, measures, mishaps, assumptions] =
        groups.map(|rows| rows.into_iter().map(|row| (row.name, cases.of(&row.case))).collect::<Vec<_>>());
    let tables = vec![
        ("results", base_table(&base)),
        ("ceilings", ceilings_table()),
        ("measures", comparison(&measures, "slots, and what is different")),
        ("reads", reads_table()),
        ("mishaps", mishaps_table(&mishaps)),
        ("assumptions", comparison(&assumptions, "400 slots")),
        ("figures", figures_table()),
    ];
    ScalePage { tables, plots: plots(&cases) }
}

/// The numbers of slots with which more partitions are simulated; with fewer, one of them is enough.
const FREE_SLOTS: [u32; 3] = [1000, 2000, 5000];

/// Writes a number with commas between thousands.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn time(seconds: f64) -> String {
    if seconds < 5400.0 { format!("{:.0} min", seconds / 60.0) } else { format!("{:.1} h", seconds / 3600.0) }
}

/// The number of granules that have failed, and when the production was given up because of them.
fn failures(measured: &Measurements) -> String {
    let failed = thousands(measured.failed as f64);
    measured.given_up.map_or(failed.clone(), |at| format!("{failed}, given up after {}", time(at)))
}

/// The resources that are used most, up to two of them.
fn fullest(measured: &Measurements) -> String {
    let mut words = Vec::new();
    for (name, share) in measured.resources().into_iter().take(2) {
        words.push(format!("{name} {}", percent(share.min(1.0))));
    }
    words.join(", ")
}

fn table(head: &str, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let columns = head.matches('|').count() - 1;
    let mut table = format!("{head}\n|{}\n", "---|".repeat(columns));
    for row in rows {
        // Writing to a text does not fail.
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

fn base_table(rows: &[(String, Measurements)]) -> String {
    let after = verification(&Costs::default());
    table(
        "| slots | until the last granule | with the final verification | granules a second | idle slots | cores in use | requests refused | granules failed | used most |",
        rows.iter().map(|(name, measured)| {
            vec![
                name.clone(),
                time(measured.seconds),
                time(measured.seconds + after),
                format!("{:.0}", measured.rate),
                percent(measured.idle()),
                percent(measured.cores()),
                thousands(measured.refused as f64),
                failures(measured),
                fullest(measured),
            ]
        }),
    )
}

fn comparison(rows: &[(String, Measurements)], what: &str) -> String {
    table(
        &format!(
            "| {what} | until the last granule | granules a second | idle slots | requests refused | granules failed | used most |"
        ),
        rows.iter().map(|(name, measured)| {
            vec![
                name.clone(),
                time(measured.seconds),
                format!("{:.0}", measured.rate),
                percent(measured.idle()),
                thousands(measured.refused as f64),
                failures(measured),
                fullest(measured),
            ]
        }),
    )
}

fn mishaps_table(rows: &[(String, Measurements)]) -> String {
    table(
        "| 1,000 slots | until the last granule | instances taken or lost | attempts lost | attempts | second copies | granules made |",
        rows.iter().map(|(name, measured)| {
            vec![
                name.clone(),
                format!("{:.0} s", measured.seconds),
                thousands(measured.taken as f64),
                thousands(measured.lost as f64),
                thousands(measured.attempts as f64),
                thousands(measured.copies as f64),
                thousands(measured.done as f64),
            ]
        }),
    )
}

fn ceilings_table() -> String {
    let usual = Costs::default();
    let alone = ReleaseMeans::new(&usual, true).alone;
    let with = |changes: &[(&str, f64)]| {
        let mut costs = usual.clone();
        for (name, value) in changes {
            costs.set(name, *value);
        }
        costs
    };
    let mut all: Vec<(String, Ceiling)> =
        ceilings(&usual, true).into_iter().map(|one| (format!("**{}**", one.resource), one)).collect();
    for (resource, what, costs, grouped) in [
        ("outcomes", "16 looks at once, one batch after the other", with(ONE_BATCH), true),
        ("GET of results", "each granule by itself (`--group never`)", usual.clone(), false),
        ("GET of results", "an input by one request", with(WHOLE), true),
    ] {
        let changed = ceilings(&costs, grouped).into_iter().filter(|one| one.resource == resource);
        all.extend(changed.map(|one| (format!("{resource}, with {what}"), one)));
    }
    all.sort_by(|one, other| one.1.rate.total_cmp(&other.1.rate));
    table(
        "| resource | granules a second | slots that make as many | since |",
        all.into_iter().map(|(name, ceiling)| {
            let slots = (ceiling.rate * alone / 10.0).round() * 10.0;
            vec![name, thousands(ceiling.rate), thousands(slots), ceiling.because]
        }),
    )
}

fn reads_table() -> String {
    let costs = Costs::default();
    let of = |name: &str, grouped: bool| {
        let means = ReleaseMeans::new(&costs, grouped);
        vec![
            name.to_owned(),
            thousands(means.granules * means.tasks),
            format!("{:.1} million", means.gets * means.granules / 1e6),
            format!("{:.1} TB", means.read * means.granules / 1e6),
            format!("{:.1} TB", means.written * means.granules / 1e6),
            format!("{:.0}", means.cpu * means.granules / 3600.0),
            format!("{:.2} s", means.alone),
        ]
    };
    table(
        "| Release 6 | task messages | GET requests | read | written | core-hours | slot time of a granule |",
        [
            of("native and latlon of a dataset and time together", true),
            of("each granule by itself (`--group never`)", false),
        ],
    )
}

fn figures_table() -> String {
    table(
        "| figure | value | unit | source | meaning |",
        Costs::FIGURES.iter().map(|figure| {
            let name = format!("`{}`", figure.name);
            vec![name, figure.value.to_string(), figure.unit.into(), figure.source.word().into(), figure.meaning.into()]
        }),
    )
}

/// Seconds of one step of the plot over time.
const STEP: f64 = 30.0;

fn plots(cases: &SimulatedCases) -> Vec<(&'static str, String)> {
    let costs = Costs::default();
    let lines = |of: fn(&Measurements) -> f64| {
        let line = |name: &str, slots: &[u32], case: fn(u32) -> ReleaseCase| PlotLine {
            name: name.into(),
            points: slots.iter().map(|slots| (f64::from(*slots), of(&cases.of(&case(*slots))))).collect(),
            is_limit: false,
        };
        vec![line("one partition", &SLOTS, ReleaseCase::usual), line("132 partitions", &FREE_SLOTS, ReleaseCase::free)]
    };
    let slots =
        || PlotAxis { title: "job slots", from: 10.0, to: 6000.0, is_log: true, ticks: SLOTS.map(f64::from).into() };
    let mut of_rate = lines(|measured| measured.rate);
    for ceiling in ceilings(&costs, true)
        .into_iter()
        .filter(|one| ["outcomes", "GET of results", "ledger"].contains(&one.resource))
    {
        let name = format!("{} {:.0}", ceiling.resource, ceiling.rate);
        of_rate.push(PlotLine { name, points: vec![(10.0, ceiling.rate), (6000.0, ceiling.rate)], is_limit: true });
    }
    let rate = Plot {
        title: "Granules a second by job slots",
        x: slots(),
        y: PlotAxis {
            title: "granules a second",
            from: 10.0,
            to: 4000.0,
            is_log: true,
            ticks: vec![10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0],
        },
        lines: of_rate,
    };
    let share = vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0];
    let idle = Plot {
        title: "Idle job slots",
        x: slots(),
        y: PlotAxis { title: "% of the slot time", from: 0.0, to: 100.0, is_log: false, ticks: share },
        lines: lines(|measured| 100.0 * measured.idle()),
    };
    let over_time = |name: &str, case: ReleaseCase| {
        let curve = cases.of(&case).curve;
        let end = curve.last().map_or(0.0, |last| last.0);
        let mut points = vec![(0.0, 0.0)];
        let (mut before, mut at) = (0, 0);
        for step in 1..=(end / STEP).ceil() as u32 {
            let until = f64::from(step) * STEP;
            while at < curve.len() && curve[at].0 <= until {
                at += 1;
            }
            let done = if at == 0 { 0 } else { curve[at - 1].1 };
            points.push(((until - STEP / 2.0) / 60.0, (done - before) as f64 / STEP));
            before = done;
        }
        PlotLine { name: name.into(), points, is_limit: false }
    };
    let usual = ReleaseCase::usual(1000);
    let time = Plot {
        title: "1,000 job slots: granules a second over time",
        x: PlotAxis {
            title: "minutes",
            from: 0.0,
            to: 25.0,
            is_log: false,
            ticks: (0..6).map(|at| f64::from(at) * 5.0).collect(),
        },
        y: PlotAxis {
            title: "granules a second",
            from: 0.0,
            to: 2500.0,
            is_log: false,
            ticks: (0..6).map(|at| f64::from(at) * 500.0).collect(),
        },
        lines: vec![
            over_time("one partition", usual),
            over_time("in the order of the list", ReleaseCase { order: ListOrder::List, ..usual }),
            over_time("132 partitions", ReleaseCase::free(1000)),
        ],
    };
    vec![("scale-slots.svg", rate.svg()), ("scale-idle.svg", idle.svg()), ("scale-time.svg", time.svg())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_are_put_into_their_places() {
        let tables = [("a", "| x |\n".to_owned()), ("b", String::new())];
        let text = "T\n<!-- begin a -->\nold\n<!-- end a -->\nU\n<!-- begin b -->\n<!-- end b -->\n";
        let new = filled(text, &tables).unwrap();
        assert_eq!(new, "T\n<!-- begin a -->\n| x |\n<!-- end a -->\nU\n<!-- begin b -->\n<!-- end b -->\n");
        assert_eq!(filled(&new, &tables).unwrap(), new);
        assert!(filled("T", &tables).unwrap_err().contains("'a'"));
        assert_eq!([0.0, 999.0, 1000.0, 538_734.0].map(thousands), ["0", "999", "1,000", "538,734"]);
    }
}
