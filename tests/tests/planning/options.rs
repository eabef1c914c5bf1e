//! Options that change the content of a granule: ranges over the whole record, and depths of upper faces.

use super::*;

/// Returns the two values of an attribute of single precision.
fn limits(file: &netcdf::File, variable: &str) -> Option<[f32; 2]> {
    let variable = file.variable(variable).unwrap();
    let value = |name: &str| match variable.attribute_value(name)?.unwrap() {
        netcdf::AttributeValue::Float(value) => Some(value),
        other => panic!("{name}: {other:?}"),
    };
    Some([value("valid_min")?, value("valid_max")?])
}

fn actual(file: &netcdf::File, variable: &str) -> [f32; 2] {
    match file.variable(variable).unwrap().attribute_value("actual_range").unwrap().unwrap() {
        netcdf::AttributeValue::Floats(pair) => pair.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn valid_ranges_of_the_record_go_into_every_granule() {
    let run = Run::new();
    let both = ["--dataset", "OCEAN_VELOCITY", "--dataset", "SEA_ICE_CONC_THICKNESS", "--frequency", "month"];
    let plain = run.plan(&both);
    assert_eq!(plain.recipes.len(), 12);
    produce(&plain, 0);
    let table = run.fixture.path("ranges.json");
    let mut command = coordinator();
    expect(command.arg("ranges").arg(&plain.list).arg("--ranges-out").arg(&table), 0);
    // The same options instead of the list, and standard output instead of a file.
    let direct = expect(coordinator().arg("ranges").args(run.options()).args(both).args(["--slots", "1"]), 0);
    assert_eq!(direct.stdout, fs::read(&table).unwrap());
    let found = json(&direct);
    assert_eq!(found["collections"].as_array().unwrap().len(), 4);
    for collection in found["collections"].as_array().unwrap() {
        assert_eq!(collection["over"]["granules"], 3);
        assert_eq!(collection["over"]["type"], "float32");
        assert_eq!(collection["over"]["time_coverage_start"], "1992-01-01T12:00:00");
        assert_eq!(collection["over"]["time_coverage_end"], "1992-04-01T00:00:00");
        // Two rotated outputs share their inputs.
        assert_eq!(collection["over"]["files"], 3 * 2 * 3);
        let of = |recipe: &&Recipe| {
            let (dataset, grid) = (collection["dataset"].as_str().unwrap(), collection["grid"].as_str().unwrap());
            recipe.granule.contains(&format!("/{grid}/mon_mean/{dataset}/"))
        };
        for (variable, range) in collection["variables"].as_object().unwrap() {
            let pairs: Vec<_> =
                plain.recipes.iter().filter(of).map(|r| actual(&netcdf::open(&r.granule).unwrap(), variable)).collect();
            assert_eq!(pairs.len(), 3);
            let low = pairs.iter().map(|pair| pair[0]).fold(f32::INFINITY, f32::min);
            let high = pairs.iter().map(|pair| pair[1]).fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(
                (range["min"].as_f64(), range["max"].as_f64()),
                (Some(low.into()), Some(high.into())),
                "{variable}"
            );
            assert_eq!(range["granules"], 3);
        }
    }
    let path = table.display().to_string();
    let ranged = run.plan(&and(&both, &["--valid-range", &path]));
    for (with, without) in ranged.recipes.iter().zip(&plain.recipes) {
        assert_ne!(with.plan().unwrap().id, without.plan().unwrap().id);
    }
    // These are other recipes, so other granules; the old ones are not overwritten without a request.
    assert_eq!(count(&produce(&ranged, 3), "conflict"), 12);
    fs::remove_dir_all(run.fixture.path("out")).unwrap();
    assert_eq!(count(&produce(&ranged, 0), "made"), 12);
    for recipe in &ranged.recipes {
        let file = netcdf::open(&recipe.granule).unwrap();
        for variable in recipe.variables.keys() {
            let ([low, high], [min, max]) = (actual(&file, variable), limits(&file, variable).unwrap());
            assert!(min <= low && high <= max, "{variable}");
            let names: Vec<_> = file.variable(variable).unwrap().attributes().map(|a| a.name().to_owned()).collect();
            assert_eq!(names[..4], ["_FillValue", "actual_range", "valid_min", "valid_max"]);
        }
    }
    expect(coordinator().arg("verify").arg(&ranged.list), 0);
}

#[test]
fn a_value_beyond_the_valid_range_never_gets_into_a_granule() {
    let run = Run::new();
    let window = and(&SSH, &["--from", "1992-02-01"]);
    let options = run.options();
    let table = run.fixture.path("ranges.json");
    expect(coordinator().arg("ranges").args(&options).args(&window).arg("--ranges-out").arg(&table), 0);
    // The values of January are raised out of the range of the later months.
    let january = run.file("ETAN", MONTHS[0], "data");
    let lifted: Vec<u8> = fs::read(&january).unwrap().chunks(4).flat_map(|_| 77.5_f32.to_be_bytes()).collect();
    fs::write(&january, lifted).unwrap();
    let path = table.display().to_string();
    let planned = run.plan(&and(
        &["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "month"],
        &["--valid-range", &path],
    ));
    let report = produce(&planned, 3);
    let failed: Vec<_> =
        report["entries"].as_array().unwrap().iter().filter(|entry| entry["state"] == "failed").collect();
    let reason = failed[0]["reason"].as_str().unwrap();
    assert_eq!(failed.len(), 1);
    assert!(reason.contains("1992-01") && reason.contains("valid range"), "{reason}");
    assert_eq!(failed[0]["attempts"], 1, "the same recipe would fail again");
    assert!(files(&run.fixture.path("out")).keys().all(|name| name.ends_with(".nc")));
}

#[test]
fn a_table_of_ranges_fits_the_plan_or_is_refused() {
    let run = Run::new();
    let table = run.fixture.path("ranges.json");
    let path = table.display().to_string();
    expect(coordinator().arg("ranges").args(run.options()).args(SSH).arg("--ranges-out").arg(&table), 0);
    let said = run.refused(&and(&VELOCITY, &["--valid-range", &path]));
    assert!(said.contains("AVG_MON of latlon OCEAN_VELOCITY: it is not in the table"), "{said}");
    let said = run.refused(&and(&SSH, &["--valid-range", &path, "--compatibility", "edp-2024"]));
    assert!(said.contains("--valid-range") && said.contains("edp-2024"), "{said}");
    let mut changed = json(&expect(coordinator().arg("ranges").args(run.options()).args(SSH), 0));
    changed["collections"][0]["over"]["digests"]["grid"] = "0".repeat(64).into();
    fs::write(&table, changed.to_string()).unwrap();
    assert!(run.refused(&and(&SSH, &["--valid-range", &path])).contains("another grid"));
    fs::write(&table, "[]").unwrap();
    assert!(run.refused(&and(&SSH, &["--valid-range", &path])).contains("ranges.json: not a table"));
    let said = text(&expect(
        coordinator().arg("ranges").args(run.options()).args(SSH).args(["--compatibility", "edp-2024"]),
        2,
    ));
    assert!(said.contains("edp-2024"), "{said}");
}

#[test]
fn a_table_of_ranges_is_whole_or_not_written() {
    let run = Run::new();
    let data = run.file("SSH", MONTHS[1], "data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 4]).unwrap();
    let table = run.fixture.path("ranges.json");
    let ranges = |more: &[&str]| {
        let mut command = coordinator();
        command.arg("ranges").args(run.options()).args(SSH).args(more).arg("--ranges-out").arg(&table);
        text(&expect(&mut command, 3))
    };
    let said = ranges(&[]);
    assert!(said.contains(&data.display().to_string()) && said.contains("no table is written"), "{said}");
    assert!(!table.exists());
    ranges(&["--keep-going"]);
    let found: serde_json::Value = serde_json::from_slice(&fs::read(&table).unwrap()).unwrap();
    assert_eq!(found["collections"][0]["over"]["granules"], 2);
}

#[test]
fn variables_at_upper_faces_may_have_depths_of_their_own() {
    let run = Run::new();
    let both = ["--dataset", "OCEAN_VELOCITY", "--dataset", "OCEAN_TEMPERATURE_SALINITY", "--frequency", "month"];
    let plain = run.plan(&both);
    assert_eq!(run.plan(&and(&both, &["--vertical", "centres"])).recipes, plain.recipes);
    produce(&plain, 0);
    let values = |recipe: &Recipe| {
        netcdf::open(&recipe.granule).unwrap().variable("WVEL").unwrap().get_values::<f32, _>(..).unwrap()
    };
    let is_velocity = |recipe: &&Recipe| recipe.granule.contains("/latlon/") && recipe.granule.contains("VELOCITY");
    let before = values(plain.recipes.iter().find(is_velocity).unwrap());
    fs::rename(run.fixture.path("out"), run.fixture.path("plain")).unwrap();
    let faces = run.plan(&and(&both, &["--vertical", "faces"]));
    for (with, without) in faces.recipes.iter().zip(&plain.recipes) {
        // Native granules have all depths anyway.
        assert_eq!(with == without, with.granule.contains("/native/"), "{}", with.granule);
    }
    assert_eq!(count(&produce(&faces, 0), "made"), 12);
    expect(coordinator().arg("verify").arg(&faces.list), 0);
    let recipe = faces.recipes.iter().find(is_velocity).unwrap();
    assert_eq!(values(recipe), before);
    let file = netcdf::open(&recipe.granule).unwrap();
    let dimensions =
        |name: &str| file.variable(name).unwrap().dimensions().iter().map(|d| d.name()).collect::<Vec<_>>();
    assert_eq!(dimensions("WVEL"), ["time", "Zl", "latitude", "longitude"]);
    assert_eq!(dimensions("EVEL"), ["time", "Z", "latitude", "longitude"]);
    let bounds = file.variable("Z_bnds").unwrap().get_values::<f32, _>(..).unwrap();
    let upper: Vec<f32> = bounds.chunks(2).map(|pair| pair[0]).collect();
    let depths = file.variable("Zl").unwrap();
    assert_eq!(depths.get_values::<f32, _>(..).unwrap(), upper);
    assert!(upper[0] == 0.0 && upper[1] < 0.0);
    let text = |name: &str| match depths.attribute_value(name) {
        Some(Ok(netcdf::AttributeValue::Str(text))) => Some(text),
        _ => None,
    };
    assert_eq!(text("positive").as_deref(), Some("up"));
    assert_eq!(text("units").as_deref(), Some("m"));
    assert_eq!(text("long_name").as_deref(), Some("depth of the upper face of the grid cell"));
    assert_eq!(text("bounds"), None);
    let comment = file.variable("WVEL").unwrap().attribute_value("comment").unwrap().unwrap();
    assert!(!format!("{comment:?}").contains("upper faces of the cells whose"), "{comment:?}");
    let scalar =
        faces.recipes.iter().find(|r| r.granule.contains("/latlon/") && r.granule.contains("SALINITY")).unwrap();
    let file = netcdf::open(&scalar.granule).unwrap();
    assert!(file.variable("Zl").is_none() && file.dimension("Zl").is_none() && file.variable("Z").is_some());
    let said = run.refused(&and(&VELOCITY, &["--vertical", "faces", "--compatibility", "edp-2024"]));
    assert!(said.contains("--vertical faces") && said.contains("edp-2024"), "{said}");
}

#[test]
fn vectors_may_get_their_direction_where_they_are_shown() {
    let run = Run::new();
    let both = ["--dataset", "OCEAN_VELOCITY", "--dataset", "OCEAN_TEMPERATURE_SALINITY", "--frequency", "month"];
    let plain = run.plan(&both);
    assert_eq!(run.plan(&and(&both, &["--vectors", "source"])).recipes, plain.recipes);
    let is_vector = |recipe: &&Recipe| recipe.granule.contains("/latlon/") && recipe.granule.contains("VELOCITY");
    // Both components are read at once, and the comment of the first one.
    let velocity = |recipes: &[Recipe]| {
        let file = netcdf::open(&recipes.iter().find(is_vector).unwrap().granule).unwrap();
        let values = |name: &str| file.variable(name).unwrap().get_values::<f32, _>(..).unwrap();
        let comment = format!("{:?}", file.variable("EVEL").unwrap().attribute_value("comment").unwrap().unwrap());
        (values("EVEL"), values("NVEL"), values("WVEL"), comment)
    };
    produce(&plain, 0);
    let (east, north, up, comment) = velocity(&plain.recipes);
    assert!(comment.contains("at the cell of the native grid"), "{comment}");
    fs::rename(run.fixture.path("out"), run.fixture.path("plain")).unwrap();
    let target = run.plan(&and(&both, &["--vectors", "target"]));
    for (with, without) in target.recipes.iter().zip(&plain.recipes) {
        assert_eq!(with != without, is_vector(&with), "{}", with.granule);
    }
    produce(&target, 0);
    expect(coordinator().arg("verify").arg(&target.list), 0);
    let (turned_east, turned_north, same, comment) = velocity(&target.recipes);
    assert!(comment.contains("at the cell of this grid"), "{comment}");
    assert_eq!(same, up, "what is no component of a horizontal vector stays as it is");
    // The nearest cell supplies the vector, so its length remains, but not its direction.
    let fill = edp_engine::granule::field::FILL as f32;
    let mut different = 0;
    for (at, (((e, n), turned_e), turned_n)) in east.iter().zip(&north).zip(&turned_east).zip(&turned_north).enumerate()
    {
        assert_eq!(*e == fill, *turned_e == fill, "cell {at}: land stays land");
        if *e != fill {
            // The part of the vector that is not tangential at the target is lost.
            let square = |x: f32, y: f32| f64::from(x) * f64::from(x) + f64::from(y) * f64::from(y);
            assert!(square(*turned_e, *turned_n) <= square(*e, *n) * 1.000_001 + 1e-18, "cell {at}");
            different += usize::from(e != turned_e);
        }
    }
    assert!(different > 0);
    let said = run.refused(&and(&VELOCITY, &["--vectors", "target", "--compatibility", "edp-2026"]));
    assert!(said.contains("--vectors target") && said.contains("edp-2026"), "{said}");
}
