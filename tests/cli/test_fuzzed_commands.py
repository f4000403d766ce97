"""Commands on mangled tables, protocol files, rasters and options: each does its work or says in one line why not."""

import shutil

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from archives import random_image, random_label, utm, write_mat, write_tif
from command_line import command
from shapely.geometry import box

PROTOCOL = """\
title: North to south
dataset: tiles
sensor: {name: drone, scale: 10000, nodata: 0, bands: {blue: 490, green: 560, red: 660, nir: 840}}
bands: [1-4]
classes:
  - {code: 10, name: field, color: "#aa8800"}
  - {code: 20, name: forest}
ignore: [30, -1]
folder: {index: tiles.csv, tile: tile, images: "images/{tile}", labels: "labels/{tile}"}
source: {region: north}
target: {region: [south]}
by: region
"""
TABLE = "tile,region,sheet\n" + "".join(f"t{n},{'north' if n < 4 else 'south'},{n // 2}\n" for n in range(6))
STRANGE = [
    "",
    "~",
    "[]",
    "{}",
    "-1",
    "0",
    "1e99",
    ".inf",
    ".nan",
    "NO",
    "06",
    "../x",
    "/etc/passwd",
    "{tile}",
    "[1, 2]",
]
STRANGE += [
    "x" * 300,
    "&a [*a]",
    "*b",
    "!!python/none x",
    "[red]",
    "é",
    "\u202e",
    "\t",
    '"',
    "'",
    ",",
    ";;",
    "{a: {b: c}}",
]
STRANGE += ["rows: 0-3", "drawn.gpkg", "scene.mat", "scene.mat:cube", "1-9", "one-hot", "tile", "image", "2020-01-02"]
SETTINGS = [
    "image_size",
    "batch_size",
    "learning_rate",
    "held_out_fraction",
    "segmentation_steps",
    "decoder",
    "loss",
    "no",
]
VALUES = ["-1", "0", "1", "7", "nan", "inf", "x", "", "1e99", "true", "[1]", "99999999999999999999", "x.py:A", "../x"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Six tiles, a scene in a MATLAB file, polygons, and their protocol file."""
    folder = tmp_path_factory.mktemp("sound")
    for number in range(6):
        place = utm(left=500_000 + 400 * number)
        write_tif(folder / "images" / f"t{number}.tif", random_image(4, number), **place)
        write_tif(folder / "labels" / f"t{number}.tif", random_label([10, 20], number), **place)
    gpd.GeoDataFrame({"class": [10]}, geometry=[box(5e5, 399e4, 51e4, 4e6)], crs="EPSG:32650").to_file(
        folder / "drawn.gpkg"
    )
    write_mat(
        folder / "scene.mat", cube=random_image(4, size=32).transpose(1, 2, 0), gt=random_label([10, 20], size=32)
    )
    (folder / "tiles.csv").write_text(TABLE)
    (folder / "p.yaml").write_text(PROTOCOL)
    return folder


def flip(content, rng):
    """Change some bytes, or cut the end off."""
    changed = bytearray(content)
    for position in rng.integers(0, len(changed), rng.integers(1, 6)):
        changed[position] = rng.integers(0, 256)
    return bytes(changed[: rng.integers(0, len(changed))] if rng.random() < 0.3 else changed)


def mangle_lines(path, rng, separators):
    """Take a line out, give it twice, or put something strange into it."""
    lines = path.read_text(errors="replace").splitlines()
    position = int(rng.integers(0, len(lines)))
    action = rng.integers(0, 5)
    if action == 0:
        del lines[position]
    elif action == 1:
        lines.insert(position, lines[position])
    elif action == 2:
        path.write_bytes(flip(path.read_bytes(), rng))
        return
    else:
        strange = STRANGE[rng.integers(0, len(STRANGE))]
        found = [mark for mark in separators if mark in lines[position]]
        if found and action == 3:
            mark = found[rng.integers(0, len(found))]
            parts = lines[position].split(mark)
            parts[rng.integers(0, len(parts))] = strange
            lines[position] = mark.join(parts)
        else:
            head = lines[position].split(separators[0])[0]
            lines[position] = f"{head}{separators[0]} {strange}"
    path.write_text("\n".join(lines) + "\n")


def mangle_raster(folder, rng):
    path = sorted(folder.glob("*/*.tif"))[rng.integers(0, 12)]
    action = rng.integers(0, 6)
    if action == 0:
        path.write_bytes(flip(path.read_bytes(), rng))
    elif action == 1:
        path.unlink()
    elif action == 2:
        path.write_bytes(
            [b"", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"II*\0" + bytes(40), b"ENVI\n"][rng.integers(0, 5)]
        )
    elif action == 3:
        path.unlink()
        path.mkdir()
    elif action == 4:
        (path.parent / f"{path.name}.aux.xml").write_text(STRANGE[rng.integers(0, len(STRANGE))])
        (path.parent / f"{path.stem}.hdr").write_bytes(flip(b"ENVI\nbands = 4\nlines = 16\nsamples = 16\n", rng))
    else:
        dtype = ["uint8", "int16", "float32", "float64", "complex64", "int8", "uint64"][rng.integers(0, 7)]
        side, bands = (int(rng.choice([1, 8, 16, 17])) for _ in range(2)) if rng.random() < 0.5 else (16, 4)
        pixels = rng.integers(0, 100, (bands, side, side)).astype(dtype)
        place = [{}, utm(), utm(left=1e30), {"crs": "EPSG:4326"} | utm(), {"nodata": 0}][rng.integers(0, 5)]
        write_tif(path, pixels, **place)


def options(rng):
    """A command with an option that nobody meant."""
    value = VALUES[rng.integers(0, len(VALUES))]
    setting = SETTINGS[rng.integers(0, len(SETTINGS))]
    run = ["run", "--dry-run", "--protocol", "p.yaml", "--root", ".", "--out", "out", "--method"]
    strange = [
        [*run, "pixel_forest", "--train", f"{setting}={value}"],
        [*run, "pixel_forest", "--set", f"trees={value}"],
        [*run, "pixel_forest", "--label-fraction", value],
        [*run, "pixel_forest", "--seed", value],
        [*run, value],
        [*run, "frozen", "--weights", value],
        [*run, "frozen", "--backbone", value],
        [*run, "frozen", "--preset", value],
        [*run, "frozen", "--preset", "quick", "--weights", "none", "--train", f"{setting}={value}"],
        [*run[:3], value, *run[4:], "pixel_forest"],
        [*run[:5], value, *run[6:], "pixel_forest"],
        ["predict", value, "images/t0.tif", "--out", "map.tif"],
        ["predict", ".", value],
        ["pretrain", value, "--archive", "p.yaml=.", "--out", "w.safetensors"],
        ["pretrain", "vit_micro", "--archive", f"{value}=.", "--out", "w.safetensors"],
        ["pretrain", "vit_micro", "--archive", f"p.yaml={value}", "--out", "w.safetensors", "--train", "image_size=0"],
        ["pretrain", "vit_micro", "--archive", "p.yaml=.", "--out", "w.txt", "--train", f"{setting}={value}"],
        ["data", "check", value, "."],
        ["data", "shift", "p.yaml", "--root", value, "--out", "out"],
        ["data", "simulate", "whuohs", "out", "--tile-size", value],
    ]
    return strange[rng.integers(0, len(strange))]


COMMANDS = (
    ["data", "check", "p.yaml", "."],
    ["data", "index", "p.yaml", "."],
    ["run", "--dry-run", "--method", "pixel_forest", "--protocol", "p.yaml", "--root", ".", "--out", "out"],
)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_a_mangled_input_never_ends_in_a_traceback(sound, tmp_path, monkeypatch, capfd, batch):
    for seed in range(25 * batch, 25 * batch + 25):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(sound, folder)
        monkeypatch.chdir(folder)
        arguments = COMMANDS[rng.integers(0, len(COMMANDS))]
        kind = rng.integers(0, 4)
        if kind == 0:
            mangle_lines(folder / "tiles.csv", rng, [",", "n"])
        elif kind == 1:
            for _ in range(rng.integers(1, 3)):
                mangle_lines(folder / "p.yaml", rng, [":", ",", "{"])
        elif kind == 2:
            with rasterio.Env():
                mangle_raster(folder, rng)
        else:
            arguments = options(rng)
        done = command(capfd, *arguments)
        message = f"seed {seed}: {arguments}: {done}"
        assert "Traceback" not in done.out + done.err, message
        assert "spectral-bench: unexpected" not in done.err, message
        if done.status == 1:
            assert arguments[:2] == ["data", "check"], message
            assert "problem" in done.out, message
        elif done.status:
            assert done.status == 2, message
            (line,) = done.err.strip().splitlines()
            assert line.startswith("spectral-bench: "), message
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
