//! The figures that are constants of the programs have the values that the programs have. Where such a constant is changed,
//! its figure in `src/costs.rs` follows, and `EDP_REFERENCES=update cargo test -p edp-scale --test page` brings the page up to
//! date.

use edp_scale::Costs;
use std::path::Path;

#[test]
fn figures_from_the_code_are_those_of_the_code() {
    let costs = Costs::default();
    let part = |parts: f64| format!("{}", (parts * 1e6 / f64::from(1 << 20)).round());
    let plain = |value: f64| value.to_string();
    assert_eq!((costs.window_most, costs.copy_least), (20_000.0, 30.0));
    for (file, before, value, after) in [
        ("protocol/s3/src/read.rs", "const PART: usize = ", part(costs.part), " << 20;"),
        ("protocol/s3/src/read.rs", "const AT_ONCE: usize = ", plain(costs.parts_at_once), ";"),
        ("protocol/s3/src/link.rs", "const SLOW_PAUSE: Duration = Duration::from_secs(", plain(costs.slow_pause), ")"),
        ("protocol/s3/src/pace.rs", "const MOST: usize = ", plain(costs.calls), ";"),
        ("protocol/s3/src/pace.rs", ".max(", plain(costs.least_calls), ");"),
        ("protocol/store/src/settings.rs", "attempts: u32 = ", plain(costs.tries), ","),
        ("protocol/queue/src/settings.rs", "window: u32 = ", plain(costs.window), ","),
        ("worker/engine/src/granule/inputs.rs", "const HEADERS_AT_ONCE: usize = ", plain(costs.headers_at_once), ";"),
        ("coordinator/production/src/drive_options.rs", "const BATCH: usize = ", plain(costs.batch), ";"),
        (
            "coordinator/production/src/drive_options.rs",
            "const FOR_EACH_SLOT: u64 = ",
            plain(costs.window_per_slot),
            ";",
        ),
        (
            "coordinator/production/src/outcomes.rs",
            "const GATHER: Duration = Duration::from_millis(",
            plain(costs.gather),
            ")",
        ),
        ("coordinator/production/src/arrivals.rs", "const AT_ONCE: usize = ", plain(costs.looks_at_once), ";"),
        ("coordinator/production/src/outcomes.rs", "const BATCHES: usize = ", plain(costs.batches_at_once), ";"),
        ("coordinator/production/src/ledger/stragglers.rs", "const SLOWER: i64 = ", plain(costs.copy_factor), ";"),
        ("coordinator/production/src/ledger/stragglers.rs", "const LEAST: i64 = ", "30_000".into(), ";"),
        ("protocol/queue/src/settings.rs", "heartbeat: u16 = ", plain(costs.detection / 2.0), ","),
        ("protocol/program/src/settings.rs", "max_failure_share: u8 = ", plain(costs.failure_share), ","),
        ("protocol/program/src/settings.rs", "failure_sample: u64 = ", plain(costs.failure_sample), ";"),
        ("coordinator/production/src/drive_options.rs", "const MOST_FOR_SLOTS: u64 = ", "20_000".into(), ";"),
        ("coordinator/production/src/verify.rs", "{ 2 } else { ", plain(costs.verify_at_once), " };"),
        ("coordinator/production/src/ledger/retries.rs", "attempts: ", plain(costs.attempts), ","),
        (
            "coordinator/production/src/ledger/retries.rs",
            "first_wait: Duration::from_secs(",
            plain(costs.first_wait),
            ")",
        ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let wanted = format!("{before}{value}{after}");
        assert!(text.contains(&wanted), "{file} has no '{wanted}': change the figure in src/costs.rs");
    }
}
