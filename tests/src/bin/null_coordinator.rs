//! Runs a production of recipes that nobody can make, and prints its memory use: `null_coordinator URL PRODUCTION
//! LEDGER RECIPES`. Its granules exist nowhere, so there is nothing to verify.

use edp_production::director::{self, Budget, DriveOptions, ProductionEnd};
use edp_production::ledger::retries::Policy;
use edp_production::ledger::{Ledger, RecipeState};
use edp_production::ledger_handle::LedgerHandle;
use edp_production::monitor::ProductionMonitor;
use edp_program::settings::TaskGrouping;
use edp_queue::QueueSettings;
use edp_queue::{Link, QueueOptions};
use edp_store::Stores;
use edp_tests::null;
use std::time::Instant;

/// Number of recipes that are listed together.
const PAGE: usize = 1000;

fn main() {
    let begun = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, production, path, recipes] = &arguments[..] else { panic!("URL PRODUCTION LEDGER RECIPES") };
    let recipes: usize = recipes.parse().expect("a number of recipes");
    let mut ledger = Ledger::open(path.as_ref(), production, Policy::default()).expect("the ledger");
    let before = ledger.counts().expect("its counts").of(RecipeState::Done) as usize;
    for first in (0..recipes).step_by(PAGE) {
        let page: Vec<_> = (first..recipes.min(first + PAGE)).map(null::recipe).collect();
        ledger.add(&page).expect("the ledger takes the list");
    }
    println!("listed {before} done, after {:.2} s", begun.elapsed().as_secs_f64());
    let settings = QueueSettings { url: Some(url.parse().expect("an address")), ..QueueSettings::default() };
    let options = QueueOptions::from_settings(&settings, production.parse().expect("a name")).expect("settings");
    let plan = DriveOptions {
        production: production.clone(),
        window: 1000,
        deadline: 900,
        mixed_builds: false,
        group: TaskGrouping::default(),
        local: false,
        budget: Budget::default(),
        content: false,
        // There are no granules to look for.
        look: false,
        monitor: ProductionMonitor::default(),
    };
    let runtime = edp_worker::console::runtime().expect("a runtime");
    let mut settled = before;
    let progress = |one: &edp_production::ledger::Settled| {
        assert_eq!(one.state, RecipeState::Done, "{one:?}");
        if settled == before {
            println!("first outcome after {:.2} s", begun.elapsed().as_secs_f64());
        }
        settled += 1;
        if settled * 20 / recipes != (settled - 1) * 20 / recipes {
            let [resident, highest] = memory();
            let seconds = begun.elapsed().as_secs_f64();
            println!("settled {settled} {seconds:.2} {resident} {highest}");
        }
    };
    let left = runtime.block_on(async {
        let ledger = LedgerHandle::open(ledger).expect("the ledger's thread");
        let link = Link::amqp(options).expect("a link");
        let growth = std::future::ready(Ok(()));
        let stores = Stores::default();
        let left = director::drive(&plan, &ledger, &link, &stores, progress, growth, std::future::pending()).await;
        link.close().await;
        left.expect("a production that ends")
    });
    assert_eq!((left, settled), (ProductionEnd::Settled, recipes));
}

/// Returns the present and the largest resident memory in KiB.
fn memory() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process's memory");
    ["VmRSS:", "VmHWM:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    })
}
