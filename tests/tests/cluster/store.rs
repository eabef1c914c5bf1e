//! Granules that go to S3, while the store has the usual failures of stores.

use crate::fleet::Fleet;
use crate::scenario::{Dice, ScenarioEnd, begin, until_made};
use edp_tests::broker::Broker;
use edp_tests::s3::{FaultEffect, S3Call, S3Fault};
use std::time::Duration;

/// Number of times that each failure occurs.
const TIMES: usize = 2;

pub(crate) fn store_fails(fleet: &mut Fleet<'_>, _: &mut Broker, dice: &mut Dice) -> Result<ScenarioEnd, &'static str> {
    let effects = [
        FaultEffect::Answer(500, "InternalError"),
        FaultEffect::Answer(503, "SlowDown"),
        FaultEffect::Answer(409, "ConditionalRequestConflict"),
        FaultEffect::LoseReply,
        FaultEffect::CutUpload(1000),
        FaultEffect::Delay(Duration::from_millis(500)),
        FaultEffect::Swallow,
    ];
    let planned = TIMES * effects.len();
    let all = fleet.model.granules();
    let store = fleet.on_s3();
    for effect in effects {
        store.inject(S3Fault::new(S3Call::Put, TIMES, effect).after(dice.below(all / 2)));
    }
    let mut coordinator = begin(fleet);
    until_made(fleet, &mut coordinator, 1 + dice.below(all / 2));
    // The credentials so far have expired, and the file has new ones.
    fleet.store.as_ref().expect("a store").rotate();
    fleet.until_ended(&mut coordinator);
    let injected = fleet.store.as_ref().expect("a store").injected();
    assert!(injected >= planned / 2, "{injected} of {planned} faults");
    ScenarioEnd::good(coordinator, injected + 1)
}
