"""What a granule must hold, computed in numpy from its recipe. It executes the pickles of the mapping factors."""
import datetime
import glob
import lzma
import os
import pickle
import re

import netCDF4
import numpy as np

from release import HOUR, START

# what each tile joins to the right and on top: a tile, straight or turned
RIGHT = ["3s", "4s", "5s", "9r", "8r", "7r", "7s", "8s", "9s", None, "11s", "12s", None]
TOP = ["1s", "2s", "6r", "4s", "5s", "6s", "10r", "10s", "11s", "12s", "2r", "1r", "0r"]


class Model:
    """The grid and the weights, in numpy."""

    def __init__(self, grid, factors):
        self.geometry = self.read(glob.glob(os.path.join(grid, "GRID_GEOMETRY_*_native_*.nc"))[0])
        self.target = self.read(glob.glob(os.path.join(grid, "GRID_GEOMETRY_*_latlon_*.nc"))[0])
        self.factors, self.weights, self.corner_mask = factors, {}, None

    def read(self, path):
        file = netCDF4.Dataset(path)
        file.set_auto_mask(False)
        return file

    def tiles(self, path):
        """One record as ([nz,] 13, N, N) with its own precision: the five faces one after the other."""
        with open(path[:-5] + ".meta", encoding="ascii") as file:
            header = file.read()
        numbers = [int(x) for x in re.search(r"dimList\s*=\s*\[([^\]]*)\]", header).group(1).replace(",", " ").split()]
        sizes = numbers[::3]
        flat = np.fromfile(path, ">f8" if "float64" in header else ">f4")
        n = sizes[0]
        planes = flat.reshape(-1, 13 * n, n)
        straight = planes[:, : 7 * n].reshape(-1, 7, n, n)
        # faces 4 and 5: the rows of three tiles in turn
        turned = [planes[:, k * n : (k + 3) * n].reshape(-1, n, 3, n).swapaxes(1, 2) for k in (7, 10)]
        out = np.concatenate([straight] + turned, 1).astype(flat.dtype.newbyteorder("="))
        return out if len(sizes) > 2 else out[0]

    def rotated(self, x, y, centred, zonal):
        """A component at centres, single precision; seams as the table of tiles has them."""
        x, y = x.astype("f4"), y.astype("f4")
        if not centred:
            east, north = np.zeros_like(x), np.zeros_like(y)
            east[..., :-1] = x[..., 1:]
            north[..., :-1, :] = y[..., 1:, :]
            n = x.shape[-1]
            for tile, word in enumerate(RIGHT):
                if not word:
                    continue
                other = int(word[:-1])
                for j in range(n):
                    east[..., tile, j, n - 1] = x[..., other, j, 0] if word[-1] == "s" else y[..., other, 0, n - 1 - j]
            for tile, word in enumerate(TOP):
                other = int(word[:-1])
                for i in range(n):
                    north[..., tile, n - 1, i] = y[..., other, 0, i] if word[-1] == "s" else x[..., other, n - 1 - i, 0]
            half = np.float32(0.5)
            x, y = half * (x + east), half * (y + north)
        cs, sn = self.geometry["CS"][:], self.geometry["SN"][:]
        return x * cs - y * sn if zonal else x * sn + y * cs

    def corners(self):
        """A corner is wet if a wet cell touches it; which cells do is told by the coordinates alone."""
        if self.corner_mask is not None:
            return self.corner_mask
        cells, points = self.geometry["maskC"][:].astype(bool), {}

        def keys(lon, lat):
            place = on_sphere(lon, lat) * 1e5
            # a place near the border of a box belongs to the next one too
            for corner in range(8):
                shift = np.array([corner & 1, corner >> 1 & 1, corner >> 2]).reshape((3,) + (1,) * lon.ndim)
                box = np.floor(place + 0.02 * (2 * shift - 1)).astype("i8") + 200_000
                yield (box[0] * 1_000_000 + box[1]) * 1_000_000 + box[2]

        bounds = list(keys(self.geometry["XC_bnds"][:], self.geometry["YC_bnds"][:]))
        stored = list(keys(self.geometry["XG"][:], self.geometry["YG"][:]))
        self.corner_mask = np.zeros(cells.shape, bool)
        for k, level in enumerate(cells):
            touched = np.unique(np.concatenate([box[level].ravel() for box in bounds]))
            self.corner_mask[k] = np.logical_or.reduce([np.isin(box, touched) for box in stored])
        return self.corner_mask

    def mask(self, dims):
        names = {("j", "i"): "maskC", ("j", "i_g"): "maskW", ("j_g", "i"): "maskS"}
        return self.corners() if dims == ("j_g", "i_g") else self.geometry[names[dims]][:].astype(bool)

    def regridded(self, field):
        """Double precision, NaN on land."""
        planes = field if field.ndim == 4 else field[None]
        shape = len(self.target["latitude"]), len(self.target["longitude"])
        wet, out = self.geometry["hFacC"], []
        for k, plane in enumerate(planes):
            if k not in self.weights:
                z = np.load(f"{self.factors}/sparse/sparse_matrix_{k}.npz")
                rows = np.repeat(np.arange(len(z["indptr"]) - 1), np.diff(z["indptr"]))
                with lzma.open(f"{self.factors}/land_mask/ecco_latlon_land_mask_{k}.xz") as file:
                    land = np.isnan(pickle.load(file))
                self.weights[k] = rows, z["indices"], z["data"].astype("f8"), land
            rows, columns, weights, land = self.weights[k]
            values = plane[wet[k] > 0].astype("f8")[rows] * weights
            sums = np.bincount(columns, values, minlength=len(land.ravel()))
            sums[land.ravel()] = np.nan
            out.append(sums.reshape(shape))
        return np.stack(out) if field.ndim == 4 else out[0]


def unjudged(recipe, points, precision):
    """Why check_granule.py has no opinion on a recipe's granule, or None."""
    if precision != "float32":
        return "double precision"
    if "_native_" in recipe["granule"]:
        at_corners = [name for name, inputs in recipe["variables"].items() if points[source_of(inputs[0])][0] == "Z"]
        if at_corners:
            return f"{', '.join(at_corners)} at corners"
    return None


def source_of(pair):
    return re.sub(r"_(mon_mean|day_mean|day_snap)\.\d{10}\.data$", "", os.path.basename(pair[0]))


def dimensions(point, level, latlon):
    """Dimensions of a variable in a granule. On latlon all levels lie on one axis."""
    if latlon:
        return ("time",) + ("Z",) * (level is not None) + ("latitude", "longitude")
    plane = {"M": ("j", "i"), "U": ("j", "i_g"), "V": ("j_g", "i"), "Z": ("j_g", "i_g")}[point]
    return ("time",) + {None: (), "M": ("k",), "L": ("k_l",), "U": ("k_u",)}[level] + ("tile",) + plane


def layout_problems(recipe, points):
    """What check_granule.py takes as the granule has it: which variables there are, on which points of the grid, which
    kind of range they carry, and the unit of time."""
    latlon = "_latlon_" in os.path.basename(recipe["granule"])
    with netCDF4.Dataset(recipe["granule"]) as file:
        found = [name for name, variable in file.variables.items()
                 if variable.dimensions[:1] == ("time",) and name not in ("time", "time_bnds")]
        problems = []
        if found != list(recipe["variables"]):
            problems.append(f"variables {found}, expected {list(recipe['variables'])}")
        for name in set(found) & set(recipe["variables"]):
            variable = file[name]
            dims = dimensions(*points[source_of(recipe["variables"][name][0])], latlon)
            if variable.dimensions != dims:
                problems.append(f"{name}: dimensions {variable.dimensions}, expected {dims}")
            ranges = ["actual_range"] if recipe["recipe"]["mode"] == "corrected" else ["valid_min", "valid_max"]
            has = [key for key in variable.ncattrs() if key in ("actual_range", "valid_min", "valid_max", "valid_range")]
            if has != ranges:
                problems.append(f"{name}: range by {has}, expected {ranges}")
        if file["time"].units != f"hours since {START:%Y-%m-%dT%H:%M:%S}":
            problems.append(f"time in {file['time'].units}")
        if not latlon:
            problems += edge_problems(file, recipe["recipe"]["mode"])
    return problems


def edge_problems(file, mode):
    """The places of U and V points: beside a variable there, in the middle of the cell's edge, in `corrected` alone: the
    geometry of Release 4 has none that EDP of 2026 could take."""
    problems = []
    file.set_auto_mask(False)
    for names, dims, end in ((("XU", "YU"), ("tile", "j", "i_g"), 3), (("XV", "YV"), ("tile", "j_g", "i"), 1)):
        wanted = mode == "corrected" and any(v.dimensions[0] == "time" and v.dimensions[-3:] == dims
                                             for v in file.variables.values())
        has = [name for name in names if name in file.variables]
        if has != list(names) * wanted:
            problems.append(f"places of edges: {has}, expected {list(names) * wanted}")
        elif wanted:
            lon, lat = file["XC_bnds"][:], file["YC_bnds"][:]
            middle = on_sphere(lon[..., 0], lat[..., 0]) + on_sphere(lon[..., end], lat[..., end])
            middle /= np.linalg.norm(middle, axis=0)
            away = np.linalg.norm(on_sphere(*(file[name][:] for name in names)) - middle, axis=0).max()
            if [file[name].dimensions for name in names] != [dims] * 2 or not away < 1e-6:
                problems.append(f"{names}: {file[names[0]].dimensions}, up to {away} Earth radii off")
    return problems


def on_sphere(lon, lat):
    """Unit vectors, one component after the other."""
    lon, lat = np.deg2rad(lon.astype("f8")), np.deg2rad(lat.astype("f8"))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def granule_problems(recipe, model, points, precision):
    """A granule against its recipe: every value, and all that hangs on values."""
    dtype = np.dtype(precision)
    fill = dtype.type(9.969209968386869e36)
    latlon = "_latlon_" in os.path.basename(recipe["granule"])
    problems = []
    file = model.read(recipe["granule"])
    for name, inputs in recipe["variables"].items():
        sources = [source_of(pair) for pair in inputs]
        fields = [model.tiles(pair[0]) for pair in inputs]
        point, level = points[sources[0]]
        if len(fields) == 2:
            zonal = recipe["dynamic_metadata"]["field_orientations"][name] == "zonal"
            field = model.rotated(*fields, point == "M", zonal)
        else:
            field = fields[0]
        dims = dimensions(point, level, latlon)
        if latlon:
            values = model.regridded(field)
            values = np.where(np.isnan(values), fill, values.astype(dtype))
        else:
            mask = model.mask(dims[-2:])
            values = np.where(mask if level else mask[0], field.astype(dtype), fill)
        if name not in file.variables:
            problems.append(f"{name}: missing")
            continue
        variable = file[name]
        found = variable[:][0]
        live = values[values != fill]
        if variable.dimensions != dims:
            continue  # layout_problems says so
        if found.dtype != dtype or variable.getncattr("_FillValue") != fill:
            problems.append(f"{name}: {found.dtype}, fill {variable.getncattr('_FillValue')!r}, expected {dtype}")
        elif not np.array_equal(found, values):
            bad = np.argwhere(found != values)
            at = tuple(bad[0])
            first = f"first at {at}: {found[at]!r}, expected {values[at]!r}"
            problems.append(f"{name}: {len(bad)} of {found.size} values differ, {first}")
        names = variable.ncattrs()
        if "actual_range" in names:
            extremes = variable.getncattr("actual_range")
        else:
            extremes = [variable.getncattr(name) for name in ("valid_min", "valid_max")]
        if [np.asarray(x).dtype for x in extremes] != [dtype] * 2 or list(extremes) != [live.min(), live.max()]:
            problems.append(f"{name}: range {extremes}, expected {live.min()!r} to {live.max()!r}")
        if not (variable.filters()["zlib"] and variable.filters()["shuffle"]):
            problems.append(f"{name}: not deflated with shuffle")
    times = [recipe["dynamic_metadata"][f"time_coverage_{part}"] for part in ("center", "start", "end")]
    hours = [(datetime.datetime.fromisoformat(time) - START) / HOUR for time in times]
    if [float(file["time"][0])] + [float(x) for x in file["time_bnds"][0]] != hours:
        problems.append(f"time {file['time'][0]} {file['time_bnds'][0]}, expected {hours}")
    source = model.target if latlon else model.geometry
    for name in ("latitude", "longitude", "Z", "XC", "YC", "XG", "YG", "XC_bnds", "YC_bnds", "Z_bnds"):
        if name in file.variables and name in source.variables:
            if not np.array_equal(file[name][:], np.float32(source[name][:])):
                problems.append(f"{name}: not that of the grid")
    return problems
