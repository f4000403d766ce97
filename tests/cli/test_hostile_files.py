"""Broken and hostile tiles, tables, counts and weights: one line that says why, nothing executed, nothing lost."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from archives import SIZE, random_image, random_label, write_tif
from command_line import each, refused
from place import Evil
from safetensors.torch import save

from spectral_tl_bench.backbones.loading import read_state
from spectral_tl_bench.records.stage1 import read_stage1
from spectral_tl_bench.utils.errors import CheckpointError

ROWS = [f"{number:03d}.tif,{'coast' if number < 4 else 'inland'},sheet{number // 2}" for number in range(8)]
HEADER = "name,region,sheet"


def csv(*rows, header=HEADER):
    return "\n".join([header, *rows]).encode()


TABLES = [
    ("empty", b"", "tiles.csv"),
    ("header alone", csv(), "lists no tile"),
    ("binary", bytes(range(256)), "tiles.csv"),
    ("no UTF-8", csv("größe.tif,coast,a").decode().encode("latin-1"), "utf-8"),
    ("UTF-16", csv(*ROWS).decode().encode("utf-16"), "utf-8"),
    ("a GeoPackage", b"SQLite format 3\0" + bytes(100), "tiles.csv"),
    ("a ZIP file", b"PK\3\4" + bytes(100), "tiles.csv"),
    ("open quote", csv('"000.tif,coast,a', *ROWS), "tiles.csv"),
    ("rows longer than the header", csv(*(f"{row},surplus" for row in ROWS)), "more fields"),
    ("one longer row", csv(*ROWS, "8.tif,coast,a,b,c"), "tiles.csv"),
    ("no column of names", csv(*ROWS, header="id,region,sheet"), "no column 'name'"),
    ("no column of regions", csv(*ROWS, header="name,land,sheet"), "no column 'region'"),
    ("a column of our own", csv(*ROWS, header="name,region,sheet,image"), "fewer fields than its header"),
    ("a tile twice", csv(*ROWS, ROWS[0]), "more than once"),
    ("a tile above", csv(*ROWS, "../../secret.tif,coast,a"), "leads out of the folder"),
    ("a tile elsewhere", csv(*ROWS, "/etc/passwd,coast,a"), "leads out of the folder"),
    ("a tile above, other slashes", csv(*ROWS, "..\\secret.tif,coast,a"), "leads out of the folder"),
    ("a tile on a drive", csv(*ROWS, "C:/secret.tif,coast,a"), "leads out of the folder"),
    ("a tile without a name", csv(*ROWS, ",coast,a"), "tiles.csv"),
    ("NUL in a name", csv(*ROWS, "a\0b.tif,coast,a"), "tiles.csv"),
    ("a tile that is not there", csv(*ROWS, "[red].tif,coast,a"), "[red].tif does not exist"),
    ("a line break in a name", csv(*ROWS, '"a\nb.tif",coast,a'), "does not exist"),
    ("a long name", csv(*ROWS, f"{'x' * 100_000},coast,a"), "does not exist"),
]
VRT = f"""<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{{}}</VRTDataset>"""
VRT_BAND = (
    '<VRTRasterBand dataType="Int16" band="{0}"><SimpleSource><SourceFilename relativeToVRT="1">001.tif'
    "</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
)


def tif(pixels, tmp_path, **profile):
    return write_tif(tmp_path / "made.tif", pixels, **profile).read_bytes()


IMAGES = [
    ("empty", lambda _: b"", "000.tif"),
    ("text", lambda _: b"no raster", "000.tif"),
    ("eight bytes", lambda _: b"II*\0\x08\0\0\0", "000.tif"),
    ("nothing but zeros", lambda _: bytes(1000), "000.tif"),
    ("directory beyond the file", lambda _: b"II*\0" + struct.pack("<I", 2**31), "000.tif"),
    ("directory that leads to itself", lambda _: b"II*\0" + struct.pack("<IHI", 8, 0, 8), "000.tif"),
    ("the first half", lambda t: (w := tif(random_image(4), t))[: len(w) // 2], "000.tif"),
    ("all but the last bytes", lambda t: tif(random_image(4), t)[:-100], "000.tif"),
    ("deflate cut short", lambda t: tif(random_image(4), t, compress="deflate")[:-200], "000.tif"),
    ("three bands", lambda t: tif(random_image(3), t), "3 bands", "4"),
    ("five bands", lambda t: tif(random_image(5), t), "5 bands", "4"),
    ("another size than its label", lambda t: tif(random_image(4, size=8), t), "16 x 16", "8 x 8"),
    ("a virtual raster", lambda _: VRT.format("".join(map(VRT_BAND.format, range(1, 5)))).encode(), "000.tif"),
    ("a virtual raster of nothing", lambda _: VRT.format("").encode(), "000.tif"),
    ("a map service", lambda _: b'<GDAL_WMS><Service name="TMS"/></GDAL_WMS>', "000.tif"),
    ("a pickle", lambda _: pickle.dumps(Evil()), "000.tif"),
]


@pytest.fixture
def tiles(place, tmp_path):
    """Tiles of one's own to spoil, beside the place."""
    return shutil.copytree(place / "own", tmp_path / "tiles", ignore=shutil.ignore_patterns(".spectral*"))


@each(TABLES)
def test_a_list_of_tiles_that_cannot_be_used_is_one_line(unharmed, tiles, written, parts):
    (tiles / "tiles.csv").write_bytes(written)
    refused(unharmed("data", "index", "villages.yaml", tiles), *parts)


@each(IMAGES)
def test_an_image_that_cannot_be_used_is_one_line(unharmed, tiles, tmp_path, written, parts):
    (tiles / "images" / "000.tif").write_bytes(written(tmp_path))
    refused(unharmed("data", "index", "villages.yaml", tiles), *parts)


@pytest.mark.parametrize("role", ["images", "labels"])
@pytest.mark.parametrize("kind", ["folder", "link to nowhere", "link to itself", "link to a device", "pipe"])
def test_what_is_no_file_is_no_tile(unharmed, tiles, role, kind):
    path = tiles / role / "000.tif"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to nowhere": "nowhere", "link to itself": "000.tif"}.get(kind, "/dev/zero"))
    refused(unharmed("data", "index", "villages.yaml", tiles), "000.tif does not exist")


@pytest.mark.parametrize("text", [b"{", b"[]", b"[" * 100_000, b"\xff\xfe"], ids=["open", "list", "deep", "binary"])
def test_a_broken_mark_of_simulated_tiles_is_one_line(unharmed, tiles, tmp_path, text):
    (tiles / "SIMULATED.json").write_bytes(text)
    arguments = ["run", "--method", "lora", "--protocol", "villages.yaml", "--preset", "quick", "--weights", "none"]
    refused(unharmed(*arguments, "--root", tiles, "--out", tmp_path / "runs"), "SIMULATED.json")


SCENES = [
    ("empty", lambda _: b"", "is not a raster"),
    ("text", lambda _: b"[red]", "is not a raster"),
    ("a pickle", lambda _: pickle.dumps(Evil()), "is not a raster"),
    ("cut short", lambda t: tif(random_image(4), t)[:-1500], "theirs.tif"),
    ("complex numbers", lambda t: tif(random_image(4).astype("complex64"), t), "complex"),
    ("values on another scale", lambda t: tif(random_image(4).astype("float32") * 1e9, t), "--scale"),
    ("bytes", lambda t: tif(random_image(4).astype("uint8"), t, photometric="minisblack"), "--scale"),
    ("a virtual raster of nothing", lambda _: VRT.format("").encode(), "theirs.tif"),
    ("a virtual raster of no file", lambda _: VRT.format(VRT_BAND.format(1) * 4).encode(), "theirs.tif"),
]


@each(SCENES)
def test_a_scene_that_cannot_be_used_is_one_line_and_leaves_no_map(unharmed, finished, tmp_path, written, parts):
    scene, out = tmp_path / "theirs.tif", tmp_path / "map.tif"
    scene.write_bytes(written(tmp_path))
    refused(unharmed("predict", finished, scene, out, "--without-crs"), *parts)
    assert not out.exists()


def stored(content, protocol=0):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def without_its_end(data):
    return data[: len(data) // 2]


def repacked(data, name, inner):
    """A checkpoint with one member replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            new.writestr(member, inner if member.endswith(name) else old.read(member))
    return buffer.getvalue()


TENSOR = {"a": torch.zeros(2)}
PICKLES = [
    ("a pickle that runs code", pickle.dumps(Evil()), "plain file of weights"),
    ("the same in protocol 0", pickle.dumps(Evil(), protocol=0), "plain file of weights"),
    (
        "the same in a checkpoint",
        repacked(stored(TENSOR), "data.pkl", pickle.dumps(Evil(), protocol=2)),
        "Python object",
    ),
    ("the same among tensors", pickle.dumps({"model": {"a": Evil()}}, protocol=2), "Python object"),
    ("eval", b'cbuiltins\neval\n(S\'open("EXECUTED", "w")\'\ntR.', "theirs.pth"),
    ("a module on import", b"cantigravity\nfly\n.", "theirs.pth"),
    ("empty", b"", "theirs.pth"),
    ("text", b"[/]", "theirs.pth"),
    ("cut short", without_its_end(stored(TENSOR)), "theirs.pth"),
    ("a ZIP file", b"PK\3\4" + bytes(200), "theirs.pth"),
    ("a ZIP file of nothing", b"PK\5\6" + bytes(18), "theirs.pth"),
    ("damaged inside", repacked(stored(TENSOR), "data.pkl", b"\x80\x02garbage"), "theirs.pth"),
    ("a stack of nothing", repacked(stored(TENSOR), "data.pkl", b"\x80\x02."), "theirs.pth"),
    ("a list", stored([torch.zeros(2)]), "no table of named tensors"),
    ("a number", stored(3), "no table of named tensors"),
    ("numbers", stored({"a": 3}), "no table of named tensors"),
    ("names that are numbers", stored({3: torch.zeros(2)}), "theirs.pth"),
    ("another model's", stored(TENSOR), "does not fit vit_micro"),
    ("another model's, nested", stored({"model": TENSOR}), "does not fit vit_micro"),
]


@each([row for row in PICKLES if "does not fit" not in row[-1]])
def test_weights_that_cannot_be_used_are_refused_and_run_nothing(monkeypatch, tmp_path, written, parts):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "theirs.pth"
    path.write_bytes(written)
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts)
    assert list(tmp_path.iterdir()) == [path]


@each([PICKLES[2], PICKLES[4], PICKLES[-1]])
def test_weights_that_a_run_cannot_use_are_one_line_and_run_nothing(unharmed, tmp_path, written, parts):
    path = tmp_path / "theirs.pth"
    path.write_bytes(written)
    arguments = ["run", "--method", "frozen", "--protocol", "villages.yaml", "--root", "own", "--preset", "quick"]
    refused(unharmed(*arguments, "--weights", path, "--out", tmp_path / "runs"), *parts)
    assert not list(tmp_path.rglob("run.json"))


def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def ours(text):
    return {"__metadata__": {"spectral_tl_bench": text}}


ANY_TENSORS = [
    ("empty", b"", "safetensors"),
    ("text", b"[red]", "safetensors"),
    ("a pickle", pickle.dumps(Evil()), "safetensors"),
    ("a checkpoint", stored(TENSOR), "safetensors"),
    ("a header of 2**63 bytes", struct.pack("<Q", 2**63) + b"{}", "safetensors"),
    ("a header longer than the file", struct.pack("<Q", 1000) + b"{}", "safetensors"),
    ("a header that is none", tensors(b"{" * 100), "safetensors"),
    ("a header that nests", tensors(b'{"a":' * 100_000), "safetensors"),
    (
        "a tensor beyond the file",
        tensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}),
        "safetensors",
    ),
    ("an unknown type", tensors({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "safetensors"),
    ("another tool's", save(TENSOR), "not written by a run"),
    ("metadata that are no JSON", tensors(ours("{")), "JSON"),
    ("metadata that nest", tensors(ours("[" * 100_000)), "nested more than"),
    ("metadata that are a list", tensors(ours("[]")), "no mapping"),
]
STAGES = [
    ("no stage", tensors(ours("{}")), "not of reconstruction"),
    ("another stage", tensors(ours('{"stage": "[/]"}')), "stage [/]"),
    ("nothing but a stage", tensors(ours('{"stage": "reconstruction"}')), "sensor"),
]


@each([*ANY_TENSORS, *STAGES])
def test_a_file_that_is_no_stage_1_is_refused(tmp_path, written, parts):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(written)
    with pytest.raises(CheckpointError) as caught:
        read_stage1(path)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in (*parts, "theirs.safetensors"))


@each([ANY_TENSORS[2], ANY_TENSORS[-2], STAGES[1]])
def test_a_stage_1_that_cannot_be_used_is_one_line(unharmed, tmp_path, written, parts):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(written)
    arguments = ["run", "--method", "spectralx", "--protocol", "villages.yaml", "--root", "own", "--preset", "quick"]
    out = tmp_path / "runs"
    refused(unharmed(*arguments, "--weights", "none", "--stage1", path, "--out", out), "theirs.safetensors", *parts)
    assert not list(out.rglob("*.*"))


def adapter(change):
    """The finished run's adapter with its tensors and what it says of itself changed."""

    def changed(path):
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads(file.metadata()["spectral_tl_bench"])
        change(state, metadata)
        return save(state, {"spectral_tl_bench": json.dumps(metadata)})

    return changed


ADAPTERS = [
    ("no format", adapter(lambda s, m: m.pop("format")), "another version"),
    ("another format", adapter(lambda s, m: m.update(format=99)), "another version"),
    ("unknown key", adapter(lambda s, m: m.update(surprise=1)), "surprise"),
    ("no classes", adapter(lambda s, m: m.update(classes=[])), "classes"),
    ("a tile of no size", adapter(lambda s, m: m.update(tile=[0, 0])), "tile"),
    ("a step below 0", adapter(lambda s, m: m.update(step=-1)), "step"),
    ("no bands", adapter(lambda s, m: m["sensor"].update(bands=[])), "bands"),
    ("a band less", adapter(lambda s, m: m["sensor"]["bands"].pop()), "another model"),
    ("a class less", adapter(lambda s, m: m["classes"].pop()), "another model"),
    ("another run's", adapter(lambda s, m: m["spec"].update(seed=7)), "of another run"),
    ("no tensors", adapter(lambda s, m: s.clear()), "adapter.safetensors"),
    ("a tensor too few", adapter(lambda s, m: s.pop(next(k for k in s if "radiometry" not in k))), "lacks"),
    ("a tensor too many", adapter(lambda s, m: s.update({"[red]": torch.zeros(1)})), "unknown tensor [red]"),
    ("a tensor of another shape", adapter(lambda s, m: s.update({next(iter(s)): torch.zeros(1, 2, 3)})), "shape"),
    ("no statistics", adapter(lambda s, m: s.pop("radiometry.mean")), "statistics"),
    ("statistics of other bands", adapter(lambda s, m: s.update({"radiometry.mean": torch.zeros(9)})), "statistics"),
    (
        "statistics that are none",
        adapter(lambda s, m: s.update({"radiometry.std": torch.full((4,), np.nan)})),
        "finite",
    ),
]


@pytest.fixture
def copied_run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / finished.name)


@each([*((name, lambda _, data=data: data, part) for name, data, part in ANY_TENSORS), *ADAPTERS])
def test_an_adapter_that_cannot_be_used_is_one_line(unharmed, copied_run, tmp_path, written, parts):
    path = copied_run / "adapter.safetensors"
    path.write_bytes(written(path))
    refused(unharmed("predict", copied_run, "scene.tif", tmp_path / "map.tif"), "adapter.safetensors", *parts)
    assert not (tmp_path / "map.tif").exists()


def parquet(frame):
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


COUNTS = [
    ("empty", lambda f: b"", "Parquet"),
    ("text", lambda f: b"[/]", "Parquet"),
    ("a pickle", lambda f: pickle.dumps(Evil()), "Parquet"),
    ("nothing but its marks", lambda f: b"PAR1" + bytes(4) + b"PAR1", "Parquet"),
    ("a footer of 2 GiB", lambda f: b"PAR1" + struct.pack("<I", 2**31 - 1) + b"PAR1", "Parquet"),
    ("the first half", lambda f: without_its_end(parquet(f)), "Parquet"),
    ("damaged inside", lambda f: (w := parquet(f))[:100] + bytes(200) + w[300:], "confusion.parquet"),
    ("no rows", lambda f: parquet(f[:0]), "no counts"),
    ("no tiles", lambda f: parquet(f.drop(columns="tile")), "lacks the columns tile"),
    ("tiles are lists", lambda f: parquet(f.assign(tile=[["a"]] * len(f))), "tile"),
    ("tiles are mappings", lambda f: parquet(f.assign(tile=[{"a": 1}] * len(f))), "tile"),
    ("tiles are numbers", lambda f: parquet(f.assign(tile=1)), "tile"),
    ("tiles are bytes", lambda f: parquet(f.assign(tile=b"\xff")), "tile"),
    ("tiles are nothing", lambda f: parquet(f.assign(tile=None)), "tile"),
    ("counts are fractions", lambda f: parquet(f.assign(count=0.5)), "whole numbers"),
    ("counts are text", lambda f: parquet(f.assign(count="[red]")), "whole numbers"),
    ("counts are lists", lambda f: parquet(f.assign(count=[[1]] * len(f))), "whole numbers"),
    ("counts below 0", lambda f: parquet(f.assign(count=-1)), "counts of -1"),
    ("counts of 2**63", lambda f: parquet(f.assign(count=np.uint64(2**63))), "counts of"),
    ("classes that are not there", lambda f: parquet(f.assign(truth=99)), "class ids 99"),
    ("selections in markup", lambda f: parquet(f.assign(selection="[red]")), "'[red]'"),
    ("a column twice", lambda f: parquet(f).replace(b"truth", b"count"), "confusion.parquet"),
]


@pytest.fixture
def copied_record(place, tmp_path):
    """A copy of a sound record."""
    source = next((place / "runs").rglob("run.json")).parent
    return shutil.copytree(source, tmp_path / source.name)


@each(COUNTS)
def test_counts_that_cannot_be_used_are_one_line(unharmed, copied_record, written, parts):
    path = copied_record / "confusion.parquet"
    path.write_bytes(written(pd.read_parquet(path)))
    refused(unharmed("show", copied_record), "confusion.parquet", *parts)


@pytest.mark.parametrize("name", ["run.json", "confusion.parquet"])
@pytest.mark.parametrize("kind", ["nothing", "a folder", "a link out", "a link to a device", "a link to itself"])
def test_a_part_of_a_record_that_is_not_its_own_file_is_one_line(unharmed, copied_record, tmp_path, name, kind):
    path = copied_record / name
    path.rename(tmp_path / name)
    if kind == "a folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to({"a link out": tmp_path / name, "a link to itself": path}.get(kind, "/dev/zero"))
    refused(unharmed("show", copied_record), name)


@pytest.mark.parametrize("name", ["run.yaml", "adapter.safetensors"])
@pytest.mark.parametrize("kind", ["a folder", "a link out", "a link to a device"])
def test_a_part_of_a_run_that_is_not_its_own_file_is_one_line(unharmed, copied_run, tmp_path, name, kind):
    path = copied_run / name
    path.rename(tmp_path / name)
    if kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / name if kind == "a link out" else "/dev/zero")
    refused(unharmed("predict", copied_run, "scene.tif", tmp_path / "map.tif"))
    assert not (tmp_path / "map.tif").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["run.json", "confusion.parquet"])
def test_a_part_of_a_record_that_may_not_be_read_is_one_line(unharmed, copied_record, name):
    (copied_record / name).chmod(0)
    refused(unharmed("show", copied_record), name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["tiles.csv", "images", "images/000.tif", "labels/000.tif"])
def test_tiles_that_may_not_be_read_are_one_line(unharmed, tiles, name):
    mode = (tiles / name).stat().st_mode
    (tiles / name).chmod(0)
    result = unharmed("data", "index", "villages.yaml", tiles)
    (tiles / name).chmod(mode)
    refused(result, name)


HISTORIES = [
    ("empty", b""),
    ("binary", bytes(range(256))),
    ("text", b"[red],[/]\n1,2,3\n"),
    ("open quote", b'step,loss\n"1,2\n'),
    ("values that are none", b"step,loss\nx,inf\n1,nan\n2,1e999\n"),
    ("digits", b"step,loss\n" + b"9" * 5000 + b",1\n"),
    ("markup in a stage", b"stage,step,loss\n<script>,1,2\n"),
]


@pytest.mark.parametrize("written", [w for _, w in HISTORIES], ids=[name for name, _ in HISTORIES])
def test_a_training_curve_that_cannot_be_drawn_is_left_out(unharmed, copied_record, tmp_path, written):
    (copied_record / "history.csv").write_bytes(written)
    result = unharmed("report", copied_record, "--out", tmp_path / "site")
    assert (result.status, result.err) == (0, "")
    assert b"<script>" not in b"".join(path.read_bytes() for path in (tmp_path / "site").glob("run-*.html"))


def test_pictures_behind_links_out_of_a_run_do_not_get_on_its_page(unharmed, copied_record, tmp_path):
    from matplotlib.figure import Figure

    from spectral_tl_bench.sensors.plotting import png

    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.png").write_bytes(png(Figure(figsize=(1, 1))))
    (copied_record / "maps").symlink_to(secret)
    (copied_record / "experts.png").symlink_to(secret / "a.png")
    result = unharmed("report", copied_record, "--out", tmp_path / "site")
    assert (result.status, result.err) == (0, "")
    assert not list((tmp_path / "site").rglob("*.png"))


def test_labels_with_fractions_or_unknown_codes_are_named_before_anything_trains(unharmed, tiles):
    label = random_label([10, 20, 30]).astype("float32")
    label[0, 0] = 10.5
    write_tif(tiles / "labels" / "000.tif", label)
    result = unharmed("data", "check", "villages.yaml", tiles)
    assert (result.status, result.err) == (1, "")
    assert "holds fractions" in " ".join(result.out.split())
