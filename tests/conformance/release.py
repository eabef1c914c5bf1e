"""What a release says of its datasets, variables and times, read without the programs under test."""
import ast
import datetime
import glob
import json
import os
import re

PERIODS = {"AVG_MON": ("mon_mean", "diags_monthly"), "AVG_DAY": ("day_mean", "diags_daily"),
           "SNAP": ("day_snap", "diags_inst")}
START = datetime.datetime(1992, 1, 1, 12)
ENDS = {"V4r4": "2017-12-31T12:00:00", "V4r5": "2017-12-31T12:00:00", "V4r6": "2025-12-31T12:00:00"}
TABLES = {"V4r4": "PODAAC_datasets-revised_20210226.5.csv", "V4r5": "PODAAC_dataset_table_V4r5_20230103.csv",
          "V4r6": "PODAAC_dataset_table_V4r6_prelim.csv"}
LABELS = {"native": "llc0090", "latlon": "0p50deg"}
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


class Release:
    """Groupings and points of one release."""

    def __init__(self, data, name):
        self.data, self.name = data, name
        self.metadata = os.path.join(data, "metadata", name)
        self.end = datetime.datetime.fromisoformat(ENDS[name])
        self.groupings = {grid: self.read(f"*groupings_for_{grid}_datasets.json") for grid in ("native", "latlon")}

    def read(self, pattern):
        (path,) = glob.glob(os.path.join(self.metadata, pattern))
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    @property
    def last(self):
        """Number of the model's last step."""
        return (self.end - START) // HOUR

    def map_of(self, grid, grouping, key):
        """A map about rotated outputs, which are made on latlon only; one copy of a release has it as a text."""
        found = grouping.get(key) if grid == "latlon" else None
        return ast.literal_eval(found) if isinstance(found, str) else found or {}

    def outputs(self, grid, grouping):
        """Output variables in file order with the model variables each is made of; a renamed one is last."""
        maps = self.map_of(grid, grouping, "field_components")
        outputs = {}
        for field in (field.strip() for field in grouping["fields"].split(",")):
            outputs[field] = [maps[field]["x"], maps[field]["y"]] if field in maps else [field]
        if grouping.get("variable_rename"):
            old, new = grouping["variable_rename"].split(":")
            outputs[new] = outputs.pop(old)
        return outputs

    def datasets(self, frequency, only="all", match=""):
        """(grid, index, grouping) of every dataset that varies with time and is offered at the frequency.

        Groupings without frequencies are means. With `only="new"` those that Release 4 has just so are left out.
        """
        known = set()
        if only == "new":
            fourth = Release(self.data, "V4r4")
            known = {fourth.identity(grid, g) for grid, list_ in fourth.groupings.items() for g in list_}
        for grid, groupings in self.groupings.items():
            for index, grouping in enumerate(groupings):
                offered = [word.strip() for word in (grouping.get("frequency") or "AVG_DAY, AVG_MON").split(",")]
                wanted = frequency in offered and re.search(match, grouping["filename"])
                if wanted and self.identity(grid, grouping) not in known:
                    yield grid, index, grouping

    def identity(self, grid, grouping):
        return grid, grouping["filename"], tuple(sorted((k, tuple(v)) for k, v in self.outputs(grid, grouping).items()))

    def variables(self, *selection):
        """Every model variable of the selected datasets, each once."""
        found = {}
        for grid, _, grouping in self.datasets(*selection):
            for sources in self.outputs(grid, grouping).values():
                found.update(dict.fromkeys(sources))
        return list(found)


class Points:
    """Where on the grid a model variable lives: the model's list, else the metadata."""

    def __init__(self, release):
        self.listed, self.described, self.borrowed = {}, {}, {}
        with open(os.path.join(grid_directory(release.data), "available_diagnostics.log"), encoding="utf-8") as log:
            for line in log:
                part = line.split("|")
                if part[0].strip().isdigit():
                    code = part[4]
                    three = code[9] in "RL"
                    self.listed[part[1].strip()] = code[1], code[8] if three else None
        for entries, owner in ((self.described, release), (self.borrowed, Release(release.data, "V4r6"))):
            for entry in owner.read("*variable_metadata.json"):
                if entry.get("grid_location"):
                    point = {"c": "M", "w": "M", "u": "U", "v": "V", "z": "Z"}[entry["grid_location"]]
                    level = "L" if entry["grid_location"] == "w" else "M"
                    entries[entry["name"]] = point, level if entry["grid_dimension"] == "3D" else None

    def __getitem__(self, name):
        for entries in (self.listed, self.described, self.borrowed):
            if name in entries:
                return entries[name]
        raise KeyError(f"{name}: no point known")

    def in_no_source(self, name):
        """Whether the release itself does not tell: neither its list nor its metadata."""
        return name not in self.listed and name not in self.described

    def kind(self, name):
        """Letter and dimensions as make_fields.py wants them; for corners it has no letter, centres do."""
        point, level = self[name]
        letter = {"U": "u", "V": "v"}.get(point, "w" if level == "L" else "c")
        return letter + ("3" if level else "2")


def grid_directory(data):
    return os.path.join(data, "V4r4", "grid_ECCOV4r4")


def configuration(release, precision):
    """The configuration of Release 4 with the words of another release."""
    with open(os.path.join(release.data, "config", "product_generation_config_updated.yaml"), encoding="utf-8") as file:
        text = file.read()
    number = release.name[-1]
    text = text.replace("V4r4", release.name).replace("Version 4, Release 4", f"Version 4, Release {number}")
    text = text.replace("revision 4", f"revision {number}").replace(ENDS["V4r4"], ENDS[release.name])
    text = re.sub(r"(?m)^podaac_metadata_filename:.*$", f"podaac_metadata_filename: '{TABLES[release.name]}'", text)
    return re.sub(r"(?m)^array_precision:.*$", f"array_precision: '{precision}'", text)


def steps_of(release, frequency, words):
    """Model steps by number; `last`, `last-12`, and `all` means or snapshots of the whole record."""
    if words == "all":
        steps, end = [], START
        while end < release.end:
            midnight = end.replace(hour=0)
            if frequency == "AVG_MON":
                end = (midnight.replace(day=1) + 32 * DAY).replace(day=1)
            else:
                end = midnight + DAY
            steps.append((min(end, release.end) - START) // HOUR)
        return steps
    number = lambda word: release.last - int(word[4:].lstrip("-") or 0) if word.startswith("last") else int(word)
    return [number(word) for word in words.split(",")]


def month_before(time):
    """The same clock time a month earlier, the day clipped to the month's length."""
    last = time.replace(day=1) - DAY
    return last.replace(day=min(last.day, time.day))


def period_of(release, frequency, mode, step):
    """Start, end and centre; None where there is no such mean."""
    end = START + step * HOUR
    if frequency == "SNAP":
        return end, end, end
    back = month_before(end) if frequency == "AVG_MON" else end - DAY
    midnight = end.replace(hour=0, minute=0, second=0)
    if mode != "corrected":
        start = back
        if start.date() == START.date():
            start = START
        elif end.date() == release.end.date():
            start += DAY - (release.end - release.end.replace(hour=0, minute=0, second=0))
    else:
        start = back
        if end in (midnight, release.end):
            start = (end - datetime.timedelta(seconds=1)).replace(hour=0, minute=0, second=0)
            if frequency == "AVG_MON":
                start = start.replace(day=1)
        start = max(start, START)
        if end <= START:
            return None
    return start, end, start + (end - start) / 2


def word_and_date(frequency, mode, times):
    """Period word and date of a granule's name."""
    _, end, center = times
    if frequency == "AVG_MON":
        return "mon_mean", f"{center:%Y-%m}"
    if frequency == "AVG_DAY":
        return "day_mean", f"{center if mode == 'corrected' else end:%Y-%m-%d}"
    return ("day_snap", f"{end:%Y-%m-%d}") if mode == "edp-2024" else ("snap", f"{end:%Y-%m-%dT%H%M%S}")
