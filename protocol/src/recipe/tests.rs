//! Tests of recipes and their ids.

use super::*;
use proptest::prelude::*;

fn recipe() -> Recipe {
    let text = r#"{
        "granule": "out/V4r4/latlon/mon_mean/A/A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc",
        "variables": {"Z": [["res/d/Z.data", "res/d/Z.meta"]], "B": [["res/d/B.data", "res/d/B.meta"]]},
        "ecco_grid_loc": "grid", "ecco_mapping_factors_loc": null, "ecco_metadata_loc": "metadata",
        "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"},
        "recipe": {"id": "", "format": 4, "mode": "corrected", "options": {}, "time_units": "hours since 1992-01-01T12:00:00",
            "digests": {"configuration": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "metadata": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "grid": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},
            "inputs": {"d/Z.data": {"size": 8}}, "roots": {"source": "res", "destination": "out"},
            "production_date": "2020-01-01T00:00:00Z"}}"#;
    serde_json::from_str(text).unwrap()
}

fn plan_of(recipe: &mut Recipe) -> &mut Plan {
    recipe.recipe.as_mut().unwrap()
}

#[test]
fn roots_dates_and_versions_of_inputs_are_no_part_of_the_id() {
    let a = recipe();
    let id = a.computed_id().unwrap();
    let mut b = recipe();
    b.granule = b.granule.replacen("out", "s3://bucket/x", 1);
    for inputs in b.variables.values_mut() {
        for path in inputs.iter_mut().flatten() {
            *path = path.replacen("res", "/elsewhere", 1);
        }
    }
    let plan = b.recipe.as_mut().unwrap();
    plan.roots = Roots { source: "/elsewhere/".into(), destination: "s3://bucket/x".into() };
    plan.production_date = "2021-01-01T00:00:00Z".into();
    plan.id = "anything".into();
    assert_eq!(b.computed_id().unwrap(), id);
    // Results that were copied to another disk or to S3 make the same granules.
    let version = plan_of(&mut b).inputs.get_mut("d/Z.data").unwrap();
    *version = Version { etag: Some("e".into()), modified: Some("2020-01-01T00:00:00Z".into()), ..version.clone() };
    assert_eq!(b.computed_id().unwrap(), id);
    plan_of(&mut b).inputs.clear();
    assert_eq!(b.computed_id().unwrap(), id);
}

#[test]
fn all_that_decides_the_content_is_part_of_the_id() {
    let id = recipe().computed_id().unwrap();
    let changes: [fn(&mut Recipe); 7] = [
        |r| r.granule = r.granule.replace("1992-01", "1992-02"),
        |r| r.variables.reverse(),
        |r| r.dynamic_metadata.summary.push('.'),
        |r| r.recipe.as_mut().unwrap().mode = Mode::Edp2024,
        |r| r.recipe.as_mut().unwrap().digests.grid = Digest::of(b"other"),
        |r| plan_of(r).inputs.get_mut("d/Z.data").unwrap().sha256 = Some(Digest::of(b"content")),
        |r| drop(r.recipe.as_mut().unwrap().options.insert("vertical".into(), "faces".into())),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut changed = recipe();
        change(&mut changed);
        assert_ne!(changed.computed_id().unwrap(), id, "change {i}");
    }
}

/// A task as people write it.
fn invariant(strip: &str) -> Recipe {
    let text = format!(
        r#"{{"granule": "out/G_ECCO_V4r6_native_llc0090.nc", "input_netcdf": "in/g.nc", "strip_attributes": {strip},
        "dynamic_metadata": {{"name": "n", "dimension": "3D", "summary": "s", "time_coverage_resolution": "time-INVARIANT"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn attributes_are_stripped_as_each_mode_reads_the_key() {
    for (strip, edp, ours) in [
        ("true", true, Some(true)),
        ("false", false, Some(false)),
        ("null", false, Some(false)),
        ("\"True\"", true, Some(true)),
        ("\"False\"", true, Some(false)),
        ("\"NO\"", true, Some(false)),
        ("\"1\"", true, Some(true)),
        ("\"\"", false, Some(false)),
        ("\"maybe\"", true, None),
    ] {
        let recipe = invariant(strip);
        assert_eq!(recipe.strips_attributes(Mode::Edp2026).unwrap(), edp, "{strip}");
        assert_eq!(recipe.strips_attributes(Mode::Corrected).ok(), ours, "{strip}");
    }
    // A number or a list is neither, and the key is named.
    for strip in ["1", "[true]", "{}"] {
        let list = format!(r#"[{{"granule": "g", "strip_attributes": {strip}, "dynamic_metadata": {{}}}}]"#);
        let error = parse_list("x", list.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("strip_attributes is neither true, false nor a text"), "{error}");
    }
    let error = invariant(r#""\u001b[2J""#).strips_attributes(Mode::Corrected).unwrap_err().to_string();
    assert!(error.contains("strip_attributes") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn the_id_of_a_time_invariant_recipe_covers_its_input_and_what_is_stripped() {
    let planned = |strip: &str, input: &str, mode| {
        let mut invariant = invariant(strip);
        invariant.input_netcdf = Some(input.into());
        let mut plan = recipe().recipe.unwrap();
        (plan.mode, plan.roots.source) = (mode, "in".into());
        invariant.recipe = Some(plan);
        invariant.computed_id().unwrap()
    };
    let id = planned("true", "in/g.nc", Mode::Edp2026);
    assert_ne!(planned("\"False\"", "in/g.nc", Mode::Edp2026), id, "as it is written");
    assert_ne!(planned("false", "in/g.nc", Mode::Edp2026), id);
    assert_ne!(planned("true", "in/h.nc", Mode::Edp2026), id);
    assert_ne!(planned("true", "in/g.nc", Mode::Corrected), planned("\"no\"", "in/g.nc", Mode::Corrected));
    assert_eq!(invariant("true").input_paths().collect::<Vec<_>>(), ["in/g.nc"]);
}

#[test]
fn time_name_and_input_of_a_recipe_agree() {
    let name = |name: &str| GranuleName::parse(name).unwrap();
    let (timed, timeless) = ("A_snap_1992-01-01_ECCO_V4r6_native_llc0090.nc", "G_ECCO_V4r6_native_llc0090.nc");
    assert_eq!(invariant("true").contradiction_in_time(&name(timeless)), None);
    assert_eq!(recipe().contradiction_in_time(&name(timed)), None);
    for (change, of, expected) in [
        ((|_| ()) as fn(&mut Recipe), timed, "its name must be"),
        (|r| r.input_netcdf = None, timeless, "must name its data"),
        (|r| r.variables = recipe().variables, timeless, "not both"),
        (|r| r.input_netcdf = Some(format!("./{}", r.granule)), timeless, "is one of its inputs"),
        (|r| r.dynamic_metadata.time_coverage_resolution = None, timeless, "must be TIME-INVARIANT"),
        (|r| r.dynamic_metadata.time_coverage_resolution = None, timed, "'input_netcdf' is for"),
    ] {
        let mut changed = invariant("true");
        change(&mut changed);
        assert!(changed.contradiction_in_time(&name(of)).unwrap().contains(expected), "{expected}");
    }
}

#[test]
fn an_edited_recipe_is_refused() {
    let mut r = recipe();
    r.recipe.as_mut().unwrap().id = r.computed_id().unwrap();
    r.check_identity().unwrap();
    r.dynamic_metadata.name = "other".into();
    assert!(matches!(r.check_identity(), Err(RecipeError::Id { .. })));
}

/// The id of a recipe of output version 1, as the program of that version computed it.
#[test]
fn recipes_of_an_earlier_output_version_keep_their_id() {
    let mut old = recipe();
    plan_of(&mut old).format = 1;
    let id = old.computed_id().unwrap();
    assert_eq!(id, "7171a7eab05e4359e05f763ab63e69050c155b7b173af4f3905220396d09a109");
    let mut second = recipe();
    plan_of(&mut second).format = 2;
    let of_second = second.computed_id().unwrap();
    let mut third = recipe();
    plan_of(&mut third).format = 3;
    let of_third = third.computed_id().unwrap();
    assert_eq!(recipe().earlier_ids().unwrap(), [(3, of_third), (2, of_second), (1, id.clone())]);
    assert!(old.earlier_ids().unwrap().is_empty());
    plan_of(&mut old).inputs.get_mut("d/Z.data").unwrap().size = 9;
    assert_ne!(old.computed_id().unwrap(), id);
    let error = old.check_identity().unwrap_err().to_string();
    assert!(error.contains("version 1") && error.contains("plan again"), "{error}");
    let mut new = recipe();
    plan_of(&mut new).format = 9;
    let error = check_versions("t.json", &[recipe(), new, old]).unwrap_err().to_string();
    assert!(error.starts_with("t.json: 2 of its 3 recipes") && error.contains("a newer one"), "{error}");
    check_versions("t.json", &[recipe()]).unwrap();
    assert!(recipe().change(|plan| plan.format = 1).is_ok());
}

#[test]
fn a_production_date_that_is_none_is_refused_and_not_printed_raw() {
    for date in [
        "2099 EVIL\u{1b}[2J",
        "",
        "2020-01-01",
        "2020-13-01T00:00:00Z",
        "2020-01-01T00:00:60Z ",
        "2020-01-01T00:00:60Z",
        "2020-01-01t00:00:00Z",
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00:00z",
        "2020-01-01T0:00:00+00Z",
        "-2020-01-01T00:00:0Z",
        &"9".repeat(1000),
    ] {
        let mut r = recipe();
        plan_of(&mut r).production_date = date.into();
        let error = parse_list("x", format_list(&[r.clone()]).unwrap().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("production_date") && !error.contains('\u{1b}') && error.len() < 400, "{error}");
        assert!(matches!(r.check_identity(), Err(RecipeError::Date { .. })));
    }
}

#[test]
fn a_granule_whose_path_has_unseen_characters_has_no_id() {
    for name in ["\u{1b}[2J.nc", "a\n.nc", "x\u{9b}/a.nc", "\u{202e}cn.a"] {
        let mut r = recipe();
        r.granule = format!("{}/{name}", r.plan().unwrap().roots.destination);
        let error = r.computed_id().unwrap_err();
        assert!(matches!(error, RecipeError::Unseen { .. }), "{error}");
        assert!(!error.to_string().contains(is_unsafe), "{error}");
    }
}

proptest::proptest! {
    /// A date that is accepted is written as it was, and stands for the time that it states.
    #[test]
    fn production_dates_survive_a_round_trip(
        seconds in -62_167_219_200_i64..253_402_300_799,
        text in "[0-9T:Z.+-]{18,22}|[12][0-9]{3}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9][Zz]",
    ) {
        let date = jiff::Timestamp::from_second(seconds).unwrap().to_string();
        proptest::prop_assert!(is_production_date(&date), "{}", date);
        if is_production_date(&text) {
            proptest::prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().to_string(), text);
        }
    }
}

#[test]
fn options_are_part_of_the_id_to_the_last_bit() {
    let mut r = recipe();
    r.set_option("valid_range", serde_json::json!({"B": null, "Z": [-1.731_275_796_890_258_8, 0.1 + 0.2]})).unwrap();
    assert_ne!(r.computed_id().unwrap(), recipe().computed_id().unwrap());
    let list = format_list(&[r.clone()]).unwrap();
    let back = parse_list("x", list.as_bytes()).unwrap().remove(0);
    back.check_identity().unwrap();
    assert_eq!(back, r);
    r.set_option("colour", "red".into()).unwrap();
    assert!(matches!(r.check_identity(), Err(RecipeError::Option { option, .. }) if option == "colour"));
    let mut r = recipe();
    assert!(!r.plan().unwrap().keeps_faces());
    r.set_option("vertical", "faces".into()).unwrap();
    assert!(r.plan().unwrap().keeps_faces());
}

#[test]
fn encoders_and_chunks_are_known_words_that_count_in_the_id() {
    let plain = recipe();
    assert_eq!(plain.plan().unwrap().encoder(), Ok(FieldEncoder::Planes));
    assert_eq!(plain.plan().unwrap().chunks(), Ok(ChunkShapes::Edp));
    let mut ids = vec![plain.computed_id().unwrap()];
    for (option, word) in [("encoder", "libdeflate"), ("chunks", "maps"), ("chunks", "columns")] {
        let mut r = recipe();
        r.set_option(option, word.into()).unwrap();
        r.check_identity().unwrap();
        ids.push(r.computed_id().unwrap());
        // Under earlier output versions there was no choice.
        assert_eq!(r.earlier_ids().unwrap(), plain.earlier_ids().unwrap());
        r.set_option(option, "fast".into()).unwrap();
        assert!(r.check_identity().unwrap_err().to_string().contains("'fast': use one of"), "{option}");
        r.set_option(option, 5.into()).unwrap();
        assert!(matches!(r.check_identity(), Err(RecipeError::Choice { .. })), "{option}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let mut edp = recipe();
    plan_of(&mut edp).mode = Mode::Edp2026;
    assert_eq!(edp.plan().unwrap().encoder(), Ok(FieldEncoder::Libdeflate));
    for (mut r, option, word) in [
        (recipe(), "encoder", "planes"),
        (recipe(), "chunks", "edp"),
        (edp.clone(), "encoder", "planes"),
        (edp.clone(), "encoder", "libdeflate"),
        (edp, "chunks", "maps"),
    ] {
        plan_of(&mut r).format = output_version(r.plan().unwrap().mode);
        r.set_option(option, word.into()).unwrap();
        assert!(matches!(r.check_identity(), Err(RecipeError::Choices { .. })), "{option} {word}");
    }
}

#[test]
fn paths_outside_the_roots_are_refused() {
    let mut at_the_top = recipe();
    at_the_top.recipe.as_mut().unwrap().roots.source = "/".into();
    assert_eq!(at_the_top.input_below_root("/data/x").unwrap(), "data/x");
    assert!(at_the_top.input_below_root("data/x").is_err());
    for path in ["res/../etc/passwd", "/etc/passwd", "resx/d", "res", "res//d", "res/./d"] {
        assert!(recipe().input_below_root(path).is_err(), "{path}");
    }
}

#[test]
fn lists_survive_a_round_trip_with_the_order_of_variables() {
    let list = format_list(&[recipe()]).unwrap();
    assert!(list.starts_with("[\n    {\n        \"granule\""));
    let back = parse_list("x", list.as_bytes()).unwrap();
    assert_eq!(back, [recipe()]);
    assert_eq!(back[0].variables.keys().collect::<Vec<_>>(), ["Z", "B"]);
    let twice = format_list(&[recipe(), recipe()]).unwrap();
    assert!(matches!(parse_list("x", twice.as_bytes()), Err(RecipeError::Duplicate { first: 1, second: 2, .. })));
}

#[test]
fn a_recipe_for_two_destinations_is_refused() {
    let mut elsewhere = recipe();
    let plan = elsewhere.recipe.as_mut().unwrap();
    let below = elsewhere.granule.strip_prefix(&plan.roots.destination).unwrap().to_owned();
    plan.roots.destination = "elsewhere".into();
    elsewhere.granule = format!("elsewhere{below}");
    assert_eq!(elsewhere.computed_id().unwrap(), recipe().computed_id().unwrap());
    let list = format_list(&[recipe(), elsewhere]).unwrap();
    let error = parse_list("x", list.as_bytes()).unwrap_err();
    assert!(matches!(error, RecipeError::Destinations { first: 1, second: 2, .. }), "{error}");
    assert!(error.to_string().contains("elsewhere/"), "{error}");
}

proptest! {
    #[test]
    fn no_list_makes_it_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let _ = parse_list("x", &bytes);
        let mut list = format_list(&[recipe()]).unwrap().into_bytes();
        let at = at.index(list.len());
        list[at] = byte;
        if let Ok(recipes) = parse_list("x", &list) {
            let _ = recipes[0].computed_id().and_then(|_| recipes[0].check_identity());
            prop_assert_eq!(parse_list("x", format_list(&recipes).unwrap().as_bytes()).unwrap(), recipes);
        }
        prop_assert!(parse_list("x", &list[..cut.index(list.len() - 2)]).is_err());
    }

    // A path that counts as below a root never leaves it when it is joined to it.
    #[test]
    fn nothing_leaves_its_root(path in "(res)?[a./ ]{0,9}", root in "(res|[.]|/|[./a]{0,4})") {
        if let Ok(rest) = below("g", &path, &root) {
            prop_assert!(!rest.starts_with('/') && !rest.split('/').any(|part| part == ".." || part.is_empty()));
            prop_assert!(path.ends_with(rest));
        }
    }
}

#[test]
fn the_mode_of_a_list_of_edp_shows_in_what_it_names() {
    let mut written_by_edp = recipe();
    assert_eq!(written_by_edp.generation(), Mode::Edp2024);
    written_by_edp.ecco_cfg_loc = Some("config.yaml".into());
    assert_eq!(written_by_edp.generation(), Mode::Edp2026);
}
