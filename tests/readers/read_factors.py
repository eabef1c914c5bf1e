"""Reads mapping factors as numpy and netCDF4 read them: read_factors.py EDP_DIRECTORY NETCDF_DIRECTORY ESMF_DIRECTORY.

The three directories hold the same factors in the three forms. Ends with status 1 at the first difference.
"""

import glob
import lzma
import os
import pickle
import pickletools
import sys
import warnings

import netCDF4
import numpy as np

warnings.simplefilter("error")

# What lists, numbers and arrays need. None of these opcodes can call anything but the globals below.
OPCODES = {
    "PROTO", "STOP", "MARK", "EMPTY_LIST", "APPENDS", "EMPTY_DICT", "SETITEMS", "TUPLE", "TUPLE1", "TUPLE3",
    "BININT", "BININT1", "LONG1", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES8", "NONE", "NEWTRUE", "NEWFALSE",
    "STACK_GLOBAL", "REDUCE", "BUILD",
}
GLOBALS = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


def load(path):
    with lzma.open(path) as file:
        text = file.read()
    names = []
    for opcode, argument, _ in pickletools.genops(text):
        assert opcode.name in OPCODES, (path, opcode.name)
        if opcode.name == "BINUNICODE8":
            names.append(argument)
        if opcode.name == "STACK_GLOBAL":
            assert tuple(names[-2:]) in GLOBALS, (path, names[-2:])
    return pickle.loads(text)


def plain(variable):
    variable.set_auto_mask(False)
    return variable[...]


def edp_level(root, k, cells):
    """Target, source cell and weight of each entry, and the mask of the targets."""
    mask = load(f"{root}/land_mask/ecco_latlon_land_mask_{k}.xz")
    assert mask.dtype == "f8" and mask.ndim == 1 and np.all(np.isnan(mask) | (mask == 1))
    matrix = np.load(f"{root}/sparse/sparse_matrix_{k}.npz")
    indptr, indices, data = matrix["indptr"], matrix["indices"], matrix["data"]
    assert matrix["format"].item() == b"csr" and list(matrix["shape"]) == [cells.size, mask.size]
    assert indptr.dtype == indices.dtype == "i4" and data.dtype in ("i8", "f8")
    rows = np.repeat(np.arange(cells.size), np.diff(indptr))
    return sorted(zip(indices.tolist(), cells[rows].tolist(), data.tolist())), mask == 1


def main(edp, nc, esmf):
    bounds, depths, centres, wet = load(f"{edp}/latlon_grid/latlon_grid.xz")
    nlat, nlon = centres["shape"]
    assert bounds["lat"].shape == (nlat, 2) and bounds["lon"].shape == (nlon, 2)
    assert centres["lats_1D"].shape == (nlat,) and centres["lons_1D"].shape == (nlon,)
    assert depths.shape == (len(wet), 2) and depths[0, 0] == 0
    within, nearest = load(f"{edp}/ecco_latlon_grid_mappings_all.xz")
    assert within.dtype == object and nearest.dtype == "i4" and within.shape == nearest.shape == (nlat * nlon,)
    every = netCDF4.Dataset(f"{nc}/mapping_factors.nc")
    n = every.dimensions["i"].size
    ends = np.concatenate([[0], np.cumsum(plain(every["count"]))])
    assert np.array_equal(plain(every["latitude"]), centres["lats_1D"])
    assert np.array_equal(plain(every["Z_bnds"]), depths)
    assert len(glob.glob(f"{esmf}/weights_*.nc")) == len(wet)
    for k, lists in wet.items():
        tile, j, i = lists
        assert tile.dtype == j.dtype == i.dtype == "i8"
        cells = (tile * n + j) * n + i
        expected, mask = edp_level(edp, k, cells)
        sums = np.zeros(nlat * nlon)
        for target, _, weight in expected:
            sums[target] += weight
        covered = sums > 0
        assert not np.any(covered & ~mask) and np.allclose(sums[covered], 1, rtol=0, atol=1e-15)
        within, nearest = load(f"{edp}/3D/ecco_latlon_grid_mappings_3D_{k}.xz")
        assert nearest.max() < cells.size and nearest.min() >= -1
        for target in np.flatnonzero(mask & covered):
            rows = within[target] if isinstance(within[target], list) else [nearest[target]]
            assert sorted(cells[rows].tolist()) == [s for t, s, _ in expected if t == target] if k == 2 else True
        part = slice(ends[k], ends[k + 1])
        triples = [plain(every[name])[part] for name in ("row", "col", "S")]
        assert sorted(zip((triples[0] - 1).tolist(), (triples[1] - 1).tolist(), triples[2].tolist())) == expected
        assert np.array_equal(plain(every["target_mask"])[k].ravel() == 1, mask)
        one = netCDF4.Dataset(f"{esmf}/weights_{k}.nc")
        row, col, weight = (plain(one[name]) for name in ("row", "col", "S"))
        counts = weight != 0
        found = zip((row[counts] - 1).tolist(), (col[counts] - 1).tolist(), weight[counts].tolist())
        assert sorted(found) == expected
        assert list(plain(one["dst_grid_dims"])) == [nlon, nlat]
        assert np.array_equal(plain(one["mask_b"]) == 1, mask) and one.dimensions["n_a"].size == 13 * n * n
        assert np.array_equal(np.flatnonzero(plain(one["mask_a"])), cells)
    print(f"{os.path.basename(edp)}: {len(wet)} levels, {nlat} x {nlon} cells agree in all forms")


main(*sys.argv[1:])
