#!/usr/bin/env python3
"""The catalogue of a release, read and computed without the programs under test.

  catalogue.py prepare  DIR --data DATA --tools TOOLS --release V4r4 --frequency AVG_MON --steps 732 [--only new]
                            [--match PATTERN] [--precision float64] [--input f8] [--list-points]
  catalogue.py skeleton DIR --data DATA --release V4r4 --frequency AVG_MON --steps all [--match PATTERN] [--holes]
  catalogue.py recipes  DIR tasks.json --mode corrected
  catalogue.py granules DIR tasks.json --judged FILE

`prepare` writes into DIR what a production of all time-varying datasets of a release needs: a configuration, a grid
directory, made-up model output of every variable (TOOLS/make_fields.py), and the job file. `skeleton` writes the same
with empty data files, for plans alone. `recipes` holds a task list against the one that follows from the groupings, the
steps and the calendar. `granules` looks at the layout of every granule, writes the recipes that TOOLS/check_granule.py
can judge to FILE, says why it leaves the others, and recomputes those here. Exit status 0 only if everything agrees.
Needs numpy and netCDF4; `granules` executes the pickles of the mapping factors.
"""
import argparse
import ast
import json
import os
import re
import subprocess
import sys

from release import (ENDS, LABELS, PERIODS, Points, Release, configuration, grid_directory, period_of, steps_of,
                     word_and_date)


def grid_with_list(release, target, extra):
    """The grid, with lines in the list of diagnostics for variables whose place nothing else tells."""
    source = grid_directory(release.data)
    os.makedirs(target)
    for name in os.listdir(source):
        if name != "available_diagnostics.log":
            os.symlink(os.path.join(source, name), os.path.join(target, name))
    with open(os.path.join(source, "available_diagnostics.log"), encoding="utf-8") as file:
        text = file.read().rstrip("\n")
    for number, (name, (point, level)) in enumerate(extra.items(), 1001):
        code = f"S{point}{'R' if level else ' '}     {level or 'M'}{'R' if level else '1'}"
        levels = 50 if level else 1
        text += f"\n{number:6d} |{name:8s}|{levels:3d} |       |{code}|1               |not in the list of Release 4"
    with open(os.path.join(target, "available_diagnostics.log"), "w", encoding="utf-8") as file:
        file.write(text + "\n")


def write_settings(release, a):
    """Everything but the model output; returns the points of the variables."""
    os.makedirs(a.directory, exist_ok=True)
    selection = (a.frequency, a.only, a.match)
    points = Points(release)
    extra = {name: points[name] for name in release.variables(*selection) if points.in_no_source(name)}
    for name, (point, level) in extra.items():
        print(f"{name}: not in the release's own lists, taken as {point}, {'3-D' if level else '2-D'}")
    grid_with_list(release, os.path.join(a.directory, "grid"), extra if a.list_points else {})
    with open(os.path.join(a.directory, "config.yaml"), "w", encoding="utf-8") as file:
        file.write(configuration(release, a.precision))
    with open(os.path.join(a.directory, "jobs.txt"), "w", encoding="utf-8") as file:
        for grid, index, grouping in release.datasets(*selection):
            file.write(f"[{index}, '{grid}', '{a.frequency}', 'all']  # {grouping['filename']}\n")
    with open(os.path.join(a.directory, "catalogue.json"), "w", encoding="utf-8") as file:
        json.dump({"data": os.path.abspath(a.data), "release": release.name, "frequency": a.frequency,
                   "precision": a.precision, "only": a.only, "match": a.match}, file)
    return points


def prepare(a):
    release = Release(a.data, a.release)
    points = write_settings(release, a)
    period, _ = PERIODS[a.frequency]
    names = release.variables(a.frequency, a.only, a.match)
    for name in names:
        if points[name][0] == "Z":
            print(f"{name}: at corners, filled with a field of centres")
    steps = steps_of(release, a.frequency, a.steps)
    fields = [f"{name}:{points.kind(name)}:{a.input}" for name in names]
    command = [sys.executable, os.path.join(a.tools, "make_fields.py"), "--grid", grid_directory(a.data), "--seed", "4",
               "--out", os.path.join(a.directory, "results", release.name), "--period", period, "--reuse", "1",
               "--steps", ",".join(str(step) for step in steps)] + fields
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"{len(names)} variables at {len(steps)} steps")
    return []


def skeleton(a):
    """Results without values: a plan looks at names, sizes and headers alone."""
    release = Release(a.data, a.release)
    points = write_settings(release, a)
    period, folder = PERIODS[a.frequency]
    names = release.variables(a.frequency, a.only, a.match)
    steps = steps_of(release, a.frequency, a.steps)
    for at, name in enumerate(names):
        sizes = [90, 1170] + ([50] if points[name][1] else [])
        rows = ",\n".join(f" {size:5d},{1:5d},{size:5d}" for size in sizes)
        directory = os.path.join(a.directory, "results", release.name, folder, f"{name}_{period}")
        os.makedirs(directory)
        length = 4
        for size in sizes:
            length *= size
        for number, step in enumerate(steps):
            if a.holes and (at + number) % 5 == 2:
                continue
            stem = os.path.join(directory, f"{name}_{period}.{step:010d}")
            with open(stem + ".data", "wb") as data:
                data.truncate(length)
            with open(stem + ".meta", "w", encoding="ascii") as meta:
                meta.write(f" nDims = [ {len(sizes):3d} ];\n dimList = [\n{rows}\n ];\n dataprec = [ 'float32' ];\n"
                           f" nrecords = [ {1:6d} ];\n timeStepNumber = [ {step:10d} ];\n")
    print(f"{len(names)} variables at {len(steps)} steps")
    return []


def expected_recipes(directory, mode):
    """The task list that must come out, by granule and in order, without what only the planner knows."""
    release, setting = setting_of(directory)
    frequency = setting["frequency"]
    period, folder = PERIODS[frequency]
    text = configuration(release, setting["precision"])
    recipes, steps = {}, {}
    for grid, _, grouping in release.datasets(frequency, setting["only"], setting["match"]):
        outputs = release.outputs(grid, grouping)
        for source in {source for sources in outputs.values() for source in sources} - set(steps):
            place = os.path.join(directory, "results", release.name, folder, f"{source}_{period}")
            names = os.listdir(place) if os.path.isdir(place) else []
            steps[source] = {int(name[-15:-5]) for name in names if name.endswith(".data")}
        # a vector needs both its components
        at = {output: set.intersection(*(steps[source] for source in sources)) for output, sources in outputs.items()}
        tail = re.search(rf"(?m)^dataset_description_tail_{grid}: '(.*)'$", text).group(1)
        for step in sorted(set.union(*at.values())):
            times = period_of(release, frequency, mode, step)
            if times is None:
                continue
            word, date = word_and_date(frequency, mode, times)
            name = f"{grouping['filename']}_{word}_{date}_ECCO_{release.name}_{grid}_{LABELS[grid]}.nc"
            granule = f"{release.name}/{grid}/{word}/{grouping['filename']}/{name}"
            stem = lambda source: f"{release.name}/{folder}/{source}_{period}/{source}_{period}.{step:010d}"
            pair = lambda source: [stem(source) + ".data", stem(source) + ".meta"]
            # of two equal names the later one is kept, in its own place
            recipes.pop(granule, None)
            recipes[granule] = {
                "variables": {output: list(map(pair, outputs[output])) for output in outputs if step in at[output]},
                "missing": [output for output in outputs if step not in at[output]],
                "dynamic_metadata": dynamic_metadata(release, grid, grouping, frequency, times, tail),
            }
    return recipes


def dynamic_metadata(release, grid, grouping, frequency, times, tail):
    adjective, duration, long_name = {
        "AVG_MON": ("monthly-averaged", "P1M", "center time of averaging period"),
        "AVG_DAY": ("daily-averaged", "P1D", "center time of averaging period"),
        "SNAP": ("instantaneous", "PT0S", "snapshot time"),
    }[frequency]
    start, end, center = (f"{time:%Y-%m-%dT%H:%M:%S}" for time in times)
    dynamic = {
        "name": grouping["name"], "dimension": grouping["dimension"], "time_coverage_start": start,
        "time_coverage_end": end, "time_coverage_center": center, "time_long_name": long_name,
        "time_coverage_duration": duration, "time_coverage_resolution": duration,
        "summary": " ".join(f"This dataset contains {adjective} {grouping['name']} {tail}".split()),
    }
    if "comment" in grouping:
        dynamic["comment"] = grouping["comment"]
    if release.map_of(grid, grouping, "field_components"):
        dynamic["field_components"] = release.map_of(grid, grouping, "field_components")
        dynamic["field_orientations"] = release.map_of(grid, grouping, "field_orientations")
    return dynamic


def recipes(a):
    found = read_json(a.tasks)
    expected = expected_recipes(a.directory, a.mode)
    problems = [] if expected else ["no recipes are expected"]
    names = ["/".join(recipe["granule"].split("/")[-5:]) for recipe in found]
    if names != list(expected):
        missing, extra = [n for n in expected if n not in names], [n for n in names if n not in expected]
        problems.append(f"{len(names)} recipes, expected {len(expected)}, or in another order")
        problems.append(f"missing {missing[:3]}, not expected {extra[:3]}")
    for name, recipe in zip(names, found):
        want = expected.get(name)
        if want is None:
            continue
        got = {"variables": below_root(recipe), "missing": recipe["recipe"].get("missing", []),
               "dynamic_metadata": recipe["dynamic_metadata"]}
        for key in want:
            if got[key] != want[key] or key == "variables" and list(got[key]) != list(want[key]):
                problems.append(f"{name}: {key}: {json.dumps(got[key])[:600]}, expected {json.dumps(want[key])[:600]}")
    counts = {grid: sum(f"/{grid}/" in name for name in names) for grid in LABELS}
    print(f"{len(found)} recipes {counts} of {a.mode}")
    return problems


def below_root(recipe):
    """Inputs of a recipe by their path below the source root."""
    root = recipe["recipe"]["roots"]["source"].rstrip("/") + "/"
    inside = lambda path: path[len(root):] if path.startswith(root) else path
    return {name: [list(map(inside, pair)) for pair in inputs] for name, inputs in recipe["variables"].items()}


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def setting_of(directory):
    """Release and options that `prepare` or `skeleton` was called with."""
    setting = read_json(os.path.join(directory, "catalogue.json"))
    return Release(setting["data"], setting["release"]), setting


def granules(a):
    from granules import Model, granule_problems, layout_problems, unjudged  # plans need no numpy

    release, setting = setting_of(a.directory)
    points = Points(release)
    all_recipes = read_json(a.tasks)
    judged, problems, model = [], [], None
    for recipe in all_recipes:
        name = os.path.basename(recipe["granule"])
        problems += [f"{name}: {line}" for line in layout_problems(recipe, points)]
        why = unjudged(recipe, points, setting["precision"])
        if why is None:
            judged.append(recipe)
            continue
        model = model or Model(recipe["ecco_grid_loc"], recipe["ecco_mapping_factors_loc"])
        found = granule_problems(recipe, model, points, setting["precision"])
        print(f"{'differs' if found else 'agrees'}  {name} (computed here: {why})")
        problems += [f"{name}: {line}" for line in found]
    with open(a.judged, "w", encoding="utf-8") as file:
        json.dump(judged, file)
    print(f"{len(judged)} of {len(all_recipes)} granules are for check_granule.py")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "skeleton"):
        command = commands.add_parser(name)
        command.add_argument("directory")
        command.add_argument("--data", required=True)
        command.add_argument("--release", required=True, choices=sorted(ENDS))
        command.add_argument("--frequency", required=True, choices=sorted(PERIODS))
        command.add_argument("--steps", required=True)
        command.add_argument("--only", default="all", choices=["all", "new"])
        command.add_argument("--match", default="")
        command.add_argument("--precision", default="float32")
        command.add_argument("--list-points", action="store_true")
        if name == "prepare":
            command.add_argument("--tools", required=True)
            command.add_argument("--input", default="f4", choices=["f4", "f8"])
        else:
            command.add_argument("--holes", action="store_true")
    command = commands.add_parser("recipes")
    command.add_argument("directory")
    command.add_argument("tasks")
    command.add_argument("--mode", required=True, choices=["corrected", "edp-2024", "edp-2026"])
    command = commands.add_parser("granules")
    command.add_argument("directory")
    command.add_argument("tasks")
    command.add_argument("--judged", required=True)
    a = parser.parse_args()
    a.directory = os.path.abspath(a.directory)
    problems = {"prepare": prepare, "skeleton": skeleton, "recipes": recipes, "granules": granules}[a.command](a)
    for line in problems[:40]:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
