#![allow(clippy::unwrap_used)]
use super::frame::MAGIC;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn task() -> TaskMessage {
    TaskMessage {
        production: "default".into(),
        recipe_id: "00ff".into(),
        attempt: 2,
        alone: true,
        deadline: 900,
        look: ExistingCheck::Bytes("0a".repeat(32)),
        recipe: b"{}".to_vec(),
    }
}

fn task_messages() -> impl Strategy<Value = TaskMessage> {
    let look = proptest::sample::select(vec![
        ExistingCheck::Identity,
        ExistingCheck::Content,
        ExistingCheck::Bytes("0a".repeat(32)),
    ]);
    ("[a-z]{0,9}", ".{0,70}", 1..u32::MAX, any::<bool>(), any::<u32>(), look, vec(any::<u8>(), 0..200)).prop_map(
        |(production, recipe_id, attempt, alone, deadline, look, recipe)| TaskMessage {
            production,
            recipe_id,
            attempt,
            alone,
            deadline,
            look,
            recipe,
        },
    )
}

fn events() -> impl Strategy<Value = TaskEvent> {
    let stage =
        (".{0,9}", 0.0..1e9, any::<u64>()).prop_map(|(name, seconds, bytes)| StageTotal { name, seconds, bytes });
    let input =
        (".{0,9}", any::<u64>(), "([0-9a-f]{64})?").prop_map(|(path, size, sha256)| InputRead { path, size, sha256 });
    let chunks =
        (".{0,9}", vec(any::<(u64, u64)>(), 0..9)).prop_map(|(variable, places)| ChunkPlaces { variable, places });
    let done = (any::<bool>(), ".{0,9}", vec(stage, 0..4), vec(input, 0..4), vec(chunks, 0..4), vec(".*", 0..3))
        .prop_map(|(already, location, stages, inputs, chunks, warnings)| {
            TaskEvent::Done(Done {
                already,
                older: 1,
                location,
                size: 7,
                sha256: "ab".repeat(32),
                stages,
                inputs,
                chunks,
                warnings,
            })
        });
    let kinds = [
        FailureKind::Permanent,
        FailureKind::Transient,
        FailureKind::Held,
        FailureKind::Conflict,
        FailureKind::Returned,
        FailureKind::Lost,
        FailureKind::NotFound,
        FailureKind::Denied,
    ];
    let failed = (proptest::sample::select(kinds.to_vec()), vec(".*", 0..4))
        .prop_map(|(kind, reason)| TaskEvent::Failed(Failed { kind, reason }));
    prop_oneof![Just(TaskEvent::Started), done, failed]
}

proptest! {
    #[test]
    fn task_messages_come_back(task in task_messages()) {
        prop_assert_eq!(TaskMessage::decode(CONTENT_TYPE, &task.encode().unwrap()).unwrap(), task);
    }

    #[test]
    fn task_groups_come_back(tasks in vec(task_messages(), 1..=MAX_GROUP)) {
        let group = TaskGroup { tasks };
        prop_assert_eq!(TaskGroup::decode(CONTENT_TYPE, &group.encode().unwrap()).unwrap(), group);
    }

    #[test]
    fn reports_come_back(event in events(), recipe_id in ".{0,64}", attempt: u32, worker in "[-_.a-zA-Z0-9]{1,128}") {
        let outcome = Outcome { recipe_id, attempt, worker, build: "edp 0.1".into(), event };
        prop_assert_eq!(Outcome::decode(CONTENT_TYPE, &outcome.encode().unwrap()).unwrap(), outcome);
    }

    #[test]
    fn no_body_makes_it_panic(body in vec(any::<u8>(), 0..400), kind in 1_u8..4, content_type in ".{0,200}") {
        let _ = TaskMessage::decode(&content_type, &body);
        let _ = TaskMessage::decode(JSON, &body);
        let framed: Vec<u8> = [&MAGIC[..], &[VERSION, kind], &body].concat();
        let _ = TaskMessage::decode(CONTENT_TYPE, &framed);
        let _ = TaskGroup::decode(CONTENT_TYPE, &framed);
        let _ = Outcome::decode(CONTENT_TYPE, &framed);
    }

    #[test]
    fn damage_is_found_or_harmless(event in events(), place: prop::sample::Index, byte: u8) {
        let outcome =
            Outcome { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
        let mut body = outcome.encode().unwrap();
        let place = place.index(body.len());
        body[place] = byte;
        let _ = Outcome::decode(CONTENT_TYPE, &body);
        prop_assert!(Outcome::decode(CONTENT_TYPE, &body[..place]).is_err());
    }
}

#[test]
fn a_recipe_in_json_is_an_order() {
    let recipe = r#"{"granule": "out/a.nc", "variables": {"B": [["res/B.data", "res/B.meta"]]},
        "ecco_cfg_loc": "c", "ecco_grid_loc": "g", "ecco_mapping_factors_loc": "f", "ecco_metadata_loc": "m",
        "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"}}"#;
    for content_type in [JSON, "", "text/plain"] {
        let task = TaskMessage::decode(content_type, recipe.as_bytes()).unwrap();
        assert_eq!((task.attempt, task.recipe_id.as_str()), (1, ""));
        assert!(task.recipe.starts_with(b"{\"granule\":"));
        assert_eq!(task.recipe().unwrap().granule, "out/a.nc");
        assert_eq!(TaskMessage::decode(CONTENT_TYPE, &task.encode().unwrap()).unwrap(), task);
    }
}

#[test]
fn a_group_of_one_is_the_message_itself_and_no_group_is_empty_or_endless() {
    let group = |count: usize| TaskGroup { tasks: vec![task(); count] };
    assert_eq!(group(1).encode().unwrap(), task().encode().unwrap());
    assert_eq!(TaskGroup::decode(CONTENT_TYPE, &task().encode().unwrap()).unwrap(), group(1));
    let two = group(2).encode().unwrap();
    assert!(two.starts_with(b"EDPW\x02\x03\x02\x07default\x0400ff\x02"), "{two:?}");
    assert!(matches!(TaskMessage::decode(CONTENT_TYPE, &two), Err(WireError::Kind { found: 3, expected: 1 })));
    for count in [0, MAX_GROUP + 1] {
        assert!(group(count).encode().unwrap_err().to_string().contains("a group has 1 to 16"), "{count}");
    }
    let empty = [&MAGIC[..], &[VERSION, 3, 0]].concat();
    assert!(TaskGroup::decode(CONTENT_TYPE, &empty).unwrap_err().to_string().contains("0 task messages"));
    let large = TaskMessage { recipe: vec![b' '; MAX_RECIPE], ..task() };
    assert!(matches!(TaskGroup { tasks: vec![large.clone(), large] }.encode(), Err(WireError::BodySize { .. })));
}

#[test]
fn frames_keep_their_bytes() {
    let frame = task().encode().unwrap();
    assert_eq!(
        frame,
        [b"EDPW\x02\x01\x07default\x0400ff\x02\x01\xfb\x84\x03\x02\x40", "0a".repeat(32).as_bytes(), b"\x02{}"]
            .concat()
    );
}

/// Frames that earlier releases wrote are understood by this one.
#[test]
fn kinds_of_failure_keep_their_numbers() {
    for (kind, number) in [
        (FailureKind::Permanent, 0),
        (FailureKind::Transient, 1),
        (FailureKind::Held, 2),
        (FailureKind::Conflict, 3),
        (FailureKind::Returned, 4),
        (FailureKind::Lost, 5),
        (FailureKind::NotFound, 6),
        (FailureKind::Denied, 7),
    ] {
        let event = TaskEvent::Failed(Failed { kind, reason: Vec::new() });
        let outcome = Outcome { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
        let body = [b"EDPW\x02\x02\x011\x01\x01w\x01b\x02".as_slice(), &[number, 0]].concat();
        assert_eq!(outcome.encode().unwrap(), body);
        assert_eq!(Outcome::decode(CONTENT_TYPE, &body).unwrap(), outcome);
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    // a string of 2^63 bytes, a list of 2^32 entries
    for lie in [&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80][..], &[0, 1, 0, 0, 2, 0, 0xfd, 0, 0, 0, 0, 1, 0, 0, 0]] {
        for kind in [1, 2, 3] {
            let body = [&MAGIC[..], &[VERSION, kind], lie].concat();
            assert!(TaskMessage::decode(CONTENT_TYPE, &body).is_err() && Outcome::decode(CONTENT_TYPE, &body).is_err());
            assert!(TaskGroup::decode(CONTENT_TYPE, &body).is_err());
        }
    }
    let event =
        TaskEvent::Failed(Failed { kind: FailureKind::Permanent, reason: vec![String::new(); MAX_ENTRIES + 1] });
    let outcome = Outcome { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
    let error = Outcome::decode(CONTENT_TYPE, &outcome.encode().unwrap()).unwrap_err().to_string();
    assert!(error.contains("65536"), "{error}");
}

#[test]
fn what_is_not_ours_is_named() {
    let mut frame = task().encode().unwrap();
    assert!(matches!(Outcome::decode(CONTENT_TYPE, &frame), Err(WireError::Kind { found: 1, expected: 2 })));
    frame.push(0);
    assert!(TaskMessage::decode(CONTENT_TYPE, &frame).unwrap_err().to_string().contains("1 bytes too many"));
    frame[4] = 9;
    assert!(matches!(TaskMessage::decode(CONTENT_TYPE, &frame), Err(WireError::Version { found: 9 })));
    assert!(matches!(TaskMessage::decode("text/plain", b"hello world"), Err(WireError::Foreign { .. })));
    assert!(matches!(TaskMessage::decode("", &vec![0; MAX_BODY + 1]), Err(WireError::BodySize { .. })));
    let large = TaskMessage { recipe: vec![b' '; MAX_RECIPE + 1], ..task() };
    assert!(matches!(large.encode(), Err(WireError::RecipeSize { .. })));
    assert!(matches!(TaskMessage::decode(JSON, &large.recipe), Err(WireError::RecipeSize { .. })));
    assert!(TaskMessage { attempt: 0, ..task() }.encode().is_err());
    assert!(TaskMessage { recipe_id: "x".repeat(MAX_NAME + 1), ..task() }.encode().is_err());
    assert!(matches!(TaskMessage::decode("", b"{\"granule\": 1}"), Err(WireError::Recipe(_))));
}

#[test]
fn reports_say_nothing_without_bounds() {
    let outcome = |done: Done| Outcome {
        recipe_id: "1".into(),
        attempt: 1,
        worker: "w".into(),
        build: "b".into(),
        event: TaskEvent::Done(done),
    };
    let digest = |sha256: String| Done { sha256, ..Done::default() };
    assert!(outcome(digest("0a".repeat(32))).encode().is_ok() && outcome(Done::default()).encode().is_ok());
    let input = |path: &str, sha256: &str| InputRead { path: path.into(), size: 1, sha256: sha256.into() };
    let stage = StageTotal { name: "make".into(), seconds: 1.0, bytes: 1 };
    let [long, place] = ["x".repeat(MAX_NAME + 1), "x".repeat(MAX_PLACE + 1)];
    for done in [
        digest("ab".into()),
        digest("0a".repeat(33)),
        digest("x".repeat(3_900_000)),
        Done { inputs: vec![input("a", "abc")], ..Done::default() },
        Done { inputs: vec![input(&place, "")], ..Done::default() },
        Done { location: place.clone(), ..Done::default() },
        Done { stages: vec![stage.clone(); MAX_STAGES + 1], ..Done::default() },
        Done { stages: vec![StageTotal { name: long.clone(), ..stage.clone() }], ..Done::default() },
        Done { stages: vec![StageTotal { seconds: f64::NAN, ..stage.clone() }], ..Done::default() },
        Done { chunks: vec![ChunkPlaces { variable: long.clone(), places: Vec::new() }], ..Done::default() },
    ] {
        assert!(outcome(done).encode().is_err());
    }
    let good = outcome(Done::default());
    for worker in ["", "a,b", "a b", "a\u{1b}[2J", "ä", &"x".repeat(MAX_WORKER + 1)] {
        assert!(Outcome { worker: worker.into(), ..good.clone() }.encode().is_err(), "{worker}");
    }
    for build in ["\u{7}", &"x".repeat(MAX_BUILD + 1)] {
        assert!(Outcome { build: build.into(), ..good.clone() }.encode().is_err(), "{build}");
    }
    let reason = vec!["x".repeat(MAX_OUTCOME)];
    let large = TaskEvent::Failed(Failed { kind: FailureKind::Permanent, reason });
    assert!(matches!(Outcome { event: large, ..good }.encode(), Err(WireError::BodySize { .. })));
}

#[test]
fn a_body_that_was_not_kept_is_told_by_its_size() {
    let error = Outcome::decode(&not_kept(5 << 20), b"").unwrap_err();
    assert!(matches!(error, WireError::BodySize { size: 5_242_880, limit: MAX_OUTCOME }), "{error}");
    assert!(matches!(TaskMessage::decode(&not_kept(5 << 20), b""), Err(WireError::BodySize { .. })));
}

#[test]
fn an_order_is_of_the_recipe_that_is_in_it() {
    let text = r#"{"granule": "out/a.nc", "variables": {"B": [["res/B.data", "res/B.meta"]]},
        "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"},
        "recipe": {"id": "", "format": 4, "mode": "corrected", "time_units": "hours since 1992-01-01T12:00:00",
            "digests": {"configuration": "C", "metadata": "C", "grid": "C"}, "inputs": {},
            "roots": {"source": "res", "destination": "out"}, "production_date": "2020-01-01T00:00:00Z"}}"#;
    let mut recipe: Recipe = serde_json::from_str(&text.replace('C', &"c".repeat(64))).unwrap();
    let id = recipe.computed_id().unwrap();
    recipe.recipe.as_mut().unwrap().id.clone_from(&id);
    let of = |recipe: &Recipe, id: &str| TaskMessage { recipe_id: id.into(), recipe: json(recipe).unwrap(), ..task() };
    assert_eq!(of(&recipe, &id).identified().unwrap(), recipe);
    for other in ["", "0", &"0".repeat(64)] {
        assert!(matches!(of(&recipe, other).identified(), Err(WireError::OtherRecipe { .. })), "{other}");
    }
    let mut edited = recipe.clone();
    edited.dynamic_metadata.summary = "another".into();
    assert!(matches!(of(&edited, &id).identified(), Err(WireError::Identity(RecipeError::Id { .. }))));
    let mut foreign = recipe.clone();
    foreign.recipe = None;
    assert!(matches!(of(&foreign, "").identified(), Err(WireError::Identity(RecipeError::NoPlan { .. }))));
    foreign = recipe;
    foreign.recipe.as_mut().unwrap().id = String::new();
    assert!(matches!(of(&foreign, "").identified(), Err(WireError::OtherRecipe { .. })));
}
