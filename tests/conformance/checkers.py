#!/usr/bin/env python3
"""Checkers of conventions, and readers that interpret them, on granules of mode `corrected`.

  checkers.py [--without-acdd] GRANULE... [--undescribed GRANULE...]

compliance-checker: CF-1.8 takes no points of latlon granules and at most 8 of native ones, with nothing of high
priority; ACDD-1.3, which judges the texts of metadata, takes at most 9 and 6. cfchecks has no errors and no warnings. cfdm, iris and, for native granules,
xgcm find every variable with its coordinates. The points of `--undescribed` granules, whose metadata lack variables,
are printed only, and cfchecks may miss their names. doc/compliance.md has the reasons for what remains. Exit status 0
only if all of that holds. Nothing is fetched: the table of standard names is that of compliance-checker, and those of
area types and regions, which granules do not name, are empty.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings

import cfdm
import compliance_checker
import iris
import netCDF4
import xarray
import xgcm
from compliance_checker.runner import CheckSuite, ComplianceChecker

# points that are lost at most, by checker, on latlon and on native granules
POINTS = {"cf:1.8": {"latlon": 0, "native": 8}, "acdd:1.3": {"latlon": 9, "native": 6}}

AREA_TYPES = """<?xml version="1.0"?>
<area_type_table><version_number>0</version_number><date>2000-01-01T00:00:00Z</date></area_type_table>
"""
REGIONS = """<?xml version="1.0"?>
<standardized_region_list><version_number>0</version_number><date>2000-01-01T00:00:00Z</date></standardized_region_list>
"""


class Granule:
    """What a granule holds, as the netCDF library reads it."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)
        with netCDF4.Dataset(path) as file:
            self.data = {name: variable.dimensions for name, variable in file.variables.items()
                         if variable.dimensions[:1] == ("time",) and name not in ("time", "time_bnds")}
        (dimensions, *_) = self.data.values()
        self.grid = "latlon" if "latitude" in dimensions else "native"
        self.three_d = any(len(dimensions) == (5 if self.grid == "native" else 4) for dimensions in self.data.values())


def lost_points(granule, directory, described, limited):
    """Points that compliance-checker takes, held against the limits."""
    report = os.path.join(directory, "report.json")
    ComplianceChecker.run_checker(granule.path, list(POINTS), 0, "normal", output_filename=report, output_format="json")
    with open(report, encoding="utf-8") as file:
        found = json.load(file)
    problems, texts = [], []
    for checker, limits in POINTS.items():
        result = found[checker]
        lost = result["possible_points"] - result["scored_points"]
        texts.append(f"{checker} -{lost}")
        if described and lost > limits[granule.grid] and checker in limited:
            problems.append(f"{checker}: {lost} points lost, at most {limits[granule.grid]} are expected")
        high = [check["name"] for check in result["high_priorities"] if check["value"][0] < check["value"][1]]
        if described and high and checker.startswith("cf"):
            problems.append(f"{checker}: of high priority: {', '.join(high)}")
    print(f"{granule.name}: {', '.join(texts)}")
    return problems


def cf_warnings(granules, directory):
    """What cfchecks says of each granule."""
    tables = {"area.xml": AREA_TYPES, "regions.xml": REGIONS}
    for name, text in tables.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    names = os.path.join(os.path.dirname(compliance_checker.__file__), "data", "cf-standard-name-table.xml")
    command = [sys.executable, os.path.join(os.path.dirname(sys.executable), "cfchecks"), "-v", "auto", "-s", names,
               "-a", os.path.join(directory, "area.xml"), "-r", os.path.join(directory, "regions.xml")]
    output = subprocess.run(command + [granule.path for granule in granules], capture_output=True, text=True, check=False)
    parts = re.split(r"(?m)^CHECKING NetCDF FILE: ", output.stdout)[1:]
    if len(parts) != len(granules):
        return {granule.path: [f"cfchecks: {output.stdout[-500:]} {output.stderr[-500:]}"] for granule in granules}
    found = {}
    for granule, part in zip(granules, parts):
        lines = re.findall(r"(?m)^((?:FATAL|ERROR|WARN): .*)$", part)
        counts = dict(re.findall(r"(ERRORS detected|WARNINGS given): (\d+)", part))
        if len(counts) != 2:
            lines.append("it did not come to its end")
        found[granule.path] = [f"cfchecks: {line}" for line in lines]
    return found


def cfdm_problems(granule):
    """Every data variable is a field without findings, with all its coordinates."""
    fields = {field.nc_get_variable(): field for field in cfdm.read(granule.path)}
    problems = []
    for name, dimensions in granule.data.items():
        if name not in fields:
            problems.append(f"cfdm: no field {name}")
            continue
        field = fields[name]
        findings = {key: value for key, value in field.dataset_compliance().items() if key != "CF version"}
        if findings:
            problems.append(f"cfdm: {name}: {findings}")
        names = {construct.identity() for construct in field.coordinates().values()}
        expected = {"time", "latitude", "longitude"}
        at_corners = dimensions[-2:] == ("j_g", "i_g")
        missing = expected - names if not at_corners else expected - names - {"latitude", "longitude"}
        if missing:
            problems.append(f"cfdm: {name} has no {', '.join(sorted(missing))}, but {sorted(names)}")
        has_depth = "height_above_mean_sea_level" in names
        if has_depth != (len(dimensions) > len(short_form(granule))):
            problems.append(f"cfdm: {name}: height {'not ' * (not has_depth)}found")
        if not field.cell_methods():
            problems.append(f"cfdm: {name} has no cell method")
    return problems


def short_form(granule):
    """Dimensions of a 2-D variable of the granule."""
    return ("time", "latitude", "longitude") if granule.grid == "latlon" else ("time", "tile", "j", "i")


def iris_problems(granule):
    """Every data variable is a cube with its coordinates; only the global `coordinates` is none of its attributes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = {id(problem) for problem in load_problems(granule)}
        cubes = {cube.var_name: cube for cube in iris.load(granule.path)}
    problems = []
    for name, dimensions in granule.data.items():
        if name not in cubes:
            problems.append(f"iris: no cube {name}")
            continue
        standard = {coordinate.standard_name for coordinate in cubes[name].coords()}
        missing = {"time", "latitude", "longitude"} - standard
        if missing and dimensions[-2:] != ("j_g", "i_g"):
            problems.append(f"iris: {name} has no {', '.join(sorted(missing))}")
        if len(dimensions) != cubes[name].ndim:
            problems.append(f"iris: {name} has the shape {cubes[name].shape}, dimensions {dimensions}")
    for problem in load_problems(granule):
        if id(problem) not in before and not (isinstance(problem.loaded, dict) and list(problem.loaded) == ["coordinates"]):
            problems.append(f"iris: {problem.loaded}: {problem.stack_trace}")
    return problems


def load_problems(granule):
    """What iris could not load of a file so far."""
    by_file = iris.loading.LOAD_PROBLEMS.problems_by_file
    return [problem for path, problems in by_file.items() if granule.name in str(path) for problem in problems]


def xgcm_problems(granule):
    """The axes of the staggered grid, found by their attributes alone; a velocity can be moved to the centres."""
    problems = []
    wanted = {"X": {"center": "i", "left": "i_g"}, "Y": {"center": "j", "left": "j_g"}, "T": {"center": "time"}}
    if granule.three_d:
        wanted["Z"] = {"center": "k", "left": "k_l", "right": "k_u", "outer": "k_p1"}
    with xarray.open_dataset(granule.path) as dataset:
        grid = xgcm.Grid(dataset)
        axes = {name: dict(axis.coords) for name, axis in grid.axes.items()}
        if axes != wanted:
            problems.append(f"xgcm: {axes}, expected {wanted}")
        for name, dimensions in granule.data.items():
            for axis, edge, centre in (("X", "i_g", "i"), ("Y", "j_g", "j")):
                if edge in dimensions and centre not in grid.interp(dataset[name], axis, padding="fill").dims:
                    problems.append(f"xgcm: {name} cannot be moved along {axis}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("granules", nargs="*", default=[])
    parser.add_argument("--undescribed", nargs="*", default=[])
    parser.add_argument("--without-acdd", action="store_true")
    a = parser.parse_args()
    granules = [Granule(path) for path in a.granules + a.undescribed]
    if not granules:
        parser.error("no granules")
    CheckSuite.load_all_available_checkers()
    limited = [checker for checker in POINTS if not (a.without_acdd and checker.startswith("acdd"))]
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        of_cfchecks = cf_warnings(granules, directory)
        for granule in granules:
            described = granule.path in a.granules
            problems = lost_points(granule, directory, described, limited)
            problems += [line for line in of_cfchecks[granule.path]
                         if described or "No standard_name or long_name" not in line]
            problems += cfdm_problems(granule) + iris_problems(granule)
            if granule.grid == "native":
                problems += xgcm_problems(granule)
            for line in problems:
                print(f"{granule.name}: {line}")
            wrong += bool(problems)
    print(f"{len(granules) - wrong} of {len(granules)} granules are understood by all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
