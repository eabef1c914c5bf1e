#!/usr/bin/env python3
"""Open granules with the readers that people use, and fail if any of them complains.

    open_all.py [--only READER,...] FILE...

FILE is a granule, or a directory that is searched for `*.nc`. One line per reader:

    netcdf4     netCDF4-python: every attribute and value of every variable, dates of the time axis
    xarray      xarray.open_dataset, all values loaded
    mfdataset   xarray.open_mfdataset over the granules of a directory that have a time axis, combined by
                coordinates along time: all that does not depend on time must be equal in all of them
    ncdump      ncdump -h
    ncks        NCO: ncks -m, and the time axis by ncks -C -v time
    mean        NCO: the mean over the granules of a directory that have a time axis, by ncra where time
                is a record dimension, by nces where its length is fixed
    cdo         CDO: sinfo, for granules with latitude and longitude axes (it knows no tiled grids)

What counts as a complaint: an exit status other than 0; anything on standard error; anything that says
warning or error on standard output, except in the words of ncdump and ncks, which repeat the granule's own
text there; in Python every warning but deprecations, which are about the reader's code and not about the file.

Exit status: 0 no complaint, 1 complaints, 2 a reader is missing or nothing was given to read.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

PYTHON_READERS = ("netcdf4", "xarray", "mfdataset")
COMMANDS = {"ncdump": ("ncdump",), "ncks": ("ncks",), "mean": ("ncra", "nces"), "cdo": ("cdo",)}
READERS = PYTHON_READERS + tuple(COMMANDS)
SECONDS = 300  # a reader that hangs is a complaint


def by_directory(files):
    """The files of each directory, sorted, as a list of lists: a directory is a dataset."""
    groups = {}
    for file in files:
        groups.setdefault(file.resolve().parent, []).append(file)
    return [sorted(group) for _, group in sorted(groups.items())]


# ---- readers in Python: each is a function of a list of files that raises where it complains ------


def read_with_netcdf4(files):
    import netCDF4

    (file,) = files
    with netCDF4.Dataset(file) as granule:
        granule.__dict__  # reads all global attributes
        for name, variable in granule.variables.items():
            variable.__dict__
            values = variable[...]
            if values.size != variable.size:
                raise ValueError(f"{name}: {values.size} values read, {variable.size} expected")
        time = granule.variables.get("time")
        if time is not None:
            netCDF4.num2date(time[...], time.units, getattr(time, "calendar", "standard"))


def check_time(dataset, granules):
    """xarray leaves a time axis that it cannot decode as numbers, without a word."""
    import numpy

    if "time" not in dataset.variables:
        return
    time = dataset["time"]
    if time.dtype.kind != "M":
        raise ValueError(f"time was decoded to {time.dtype}, not to dates")
    if granules > 1:
        if time.size < granules:
            raise ValueError(f"{granules} granules were combined to {time.size} times")
        if not (numpy.diff(time.values) > numpy.timedelta64(0)).all():
            raise ValueError("combined times do not increase")


def read_with_xarray(files):
    import xarray

    (file,) = files
    with xarray.open_dataset(file, engine="netcdf4", decode_times=True) as granule:
        check_time(granule, 1)
        granule.load()


def read_with_mfdataset(files):
    import xarray

    with xarray.open_mfdataset(
        files,
        engine="netcdf4",
        combine="by_coords",
        data_vars="minimal",
        coords="minimal",
        compat="equals",
        join="exact",
        decode_times=True,
    ) as collection:
        check_time(collection, len(files))
        for at in range(collection.sizes.get("time", 0)):
            collection.isel(time=at).load()


def python_reader(name, files):
    """Runs in a process of its own, so that what the C libraries print is seen too."""
    import netCDF4  # noqa: F401  (what importing warns about is not the file's fault)
    import numpy  # noqa: F401
    import dask.array  # noqa: F401
    import xarray
    import xarray.backends  # noqa: F401

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    read = {"netcdf4": read_with_netcdf4, "xarray": read_with_xarray, "mfdataset": read_with_mfdataset}[name]
    if name == "mfdataset":
        unreadable = []
        groups = by_directory(with_dimensions({"time"}, files, unreadable))
        for what, line in unreadable:
            print(f"{what}: {line}")
        failed = bool(unreadable)
    else:
        groups = [[file] for file in files]
        failed = False
    for group in groups:
        try:
            read(group)
        except Exception as error:  # noqa: BLE001  whatever it is, it is a complaint about this file
            failed = True
            print(f"{label(group)}: {type(error).__name__}: {error}")
    return 1 if failed else 0


def python_version(name):
    import netCDF4
    import xarray

    return f"netCDF4 {netCDF4.__version__}" if name == "netcdf4" else f"xarray {xarray.__version__}"


# ---- readers on the command line ------------------------------------------------------------------


def label(group):
    """How a group of files is named in a complaint."""
    return str(group[0]) if len(group) == 1 else f"{group[0].parent}/ ({len(group)} granules)"


def complaints(command, quotes_the_file):
    """What a command complains about, as a list of lines; empty if nothing."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"no end after {SECONDS} s: {' '.join(map(str, command))}"]
    found = done.stderr.splitlines()
    if not quotes_the_file:
        found += [line for line in done.stdout.splitlines() if re.search(r"\b(warning|error)\b", line, re.IGNORECASE)]
    if done.returncode != 0:
        found.append(f"exit status {done.returncode}: {' '.join(map(str, command))}")
    elif not done.stdout.strip() and quotes_the_file:
        found.append(f"nothing was printed: {' '.join(map(str, command))}")
    return found


def with_dimensions(names, files, found):
    """The files that have these dimensions; a file that cannot be opened goes to the complaints in `found`."""
    import netCDF4

    chosen = []
    for file in files:
        try:
            with netCDF4.Dataset(file) as granule:
                if names <= set(granule.dimensions):
                    chosen.append(file)
        except OSError as error:
            found.append((str(file), str(error)))
    return chosen


def has_time_record(file):
    import netCDF4

    with netCDF4.Dataset(file) as granule:
        return granule.dimensions["time"].isunlimited()


def run_command_reader(name, files):
    """Returns the number of things read, what they are called, and [(what, complaint)]."""
    found = []

    def call(group, command, quotes_the_file):
        found.extend((label(group), line) for line in complaints(command, quotes_the_file))

    if name == "ncdump":
        for file in files:
            call([file], ["ncdump", "-h", file], True)
        return len(files), "granules", found
    if name == "ncks":
        for file in files:
            call([file], ["ncks", "-m", file], True)
        for file in with_dimensions({"time"}, files, found):
            call([file], ["ncks", "-C", "-v", "time", file], True)
        return len(files), "granules", found
    if name == "mean":
        groups = by_directory(with_dimensions({"time"}, files, found))
        with tempfile.TemporaryDirectory() as scratch:
            for group in groups:
                operator = "ncra" if has_time_record(group[0]) else "nces"
                call(group, [operator, "-O", *group, f"{scratch}/mean.nc"], False)
        return len(groups), "directories", found
    gridded = with_dimensions({"latitude", "longitude"}, files, found)
    for file in gridded:
        call([file], ["cdo", "-s", "sinfo", file], False)
    # A variable names its vertical axis among its coordinates; CDO, which looks for horizontal ones there, passes it over.
    found[:] = [(at, line) for at, line in found if "Coordinates variable Z can't be assigned" not in line]
    return len(gridded), "latlon granules", found


def run_python_reader(name, files):
    """As `run_command_reader`, in a process that reports one complaint a line."""
    command = [sys.executable, __file__, "--as", name, *map(str, files)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS + 10 * len(files),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 0, "granules", [(name, f"no end after {error.timeout:.0f} s")]
    found = [(name, line) for line in done.stdout.splitlines() + done.stderr.splitlines()]
    if done.returncode != 0 and not found:
        found.append((name, f"exit status {done.returncode}"))
    return len(files), "granules", found


def version(name):
    if name in PYTHON_READERS:
        return python_version(name)
    # ncdump tells its version with its usage
    words = {"ncdump": ["ncdump"], "ncks": ["ncks", "--version"], "mean": ["nces", "--version"], "cdo": ["cdo", "-V"]}[name]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    number = re.search(r"version \"?([0-9][0-9.]*)", done.stdout + done.stderr)
    return f"{words[0]} {number.group(1) if number else '?'}"


def missing(names):
    """What has to be installed before these readers can be run."""
    absent = [command for name in names for command in COMMANDS.get(name, ()) if not shutil.which(command)]
    for module in ("netCDF4", "xarray", "dask.array"):
        try:
            __import__(module)
        except ImportError:
            absent.append(f"{module} (in {sys.executable})")
    return absent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", metavar="FILE", nargs="+", type=pathlib.Path)
    parser.add_argument("--only", metavar="READER,...", default=",".join(READERS), help="run only these readers")
    parser.add_argument("--as", dest="role", choices=PYTHON_READERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = []
    for path in options.paths:
        files += sorted(path.rglob("*.nc")) if path.is_dir() else [path]
    if options.role:
        return python_reader(options.role, files)

    names = options.only.split(",")
    unknown = sorted(set(names) - set(READERS))
    if unknown:
        parser.error(f"no such reader: {', '.join(unknown)}; there are {', '.join(READERS)}")
    if not files:
        parser.error("no granule found")
    absent = missing(names)
    if absent:
        print(f"open_all: not installed: {', '.join(absent)}; 'make deps' installs them", file=sys.stderr)
        return 2

    bad = False
    for name in names:
        count, noun, found = (run_python_reader if name in PYTHON_READERS else run_command_reader)(name, files)
        bad = bad or bool(found)
        print(f"{name:<10} {version(name):<16} {count:>5} {noun}: {f'{len(found)} complaints' if found else 'no complaint'}")
        for what, line in found[:40]:
            print(f"    {what}: {line}")
        if len(found) > 40:
            print(f"    ... and {len(found) - 40} more")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
