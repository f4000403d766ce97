"""The command line as a person meets it: each command in a process of its own, or through its entry function."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.simulation import GENERATOR_VERSION

TINY = [
    f"--train={setting}"
    for setting in (
        "image_size=32",
        "batch_size=2",
        "reconstruction_batch_size=2",
        "reconstruction_steps=2",
        "segmentation_steps=3",
        "validations=1",
        "decoder_channels=8",
    )
]

PROTOCOL = """
title: Two villages
dataset: tiles
sensor: {name: drone, rgb: [red, green, blue], bands: {blue: 480, green: 560, red: 660, nir: 840}}
classes:
  - {code: 1, name: field, color: "#aa8800"}
  - {code: 2, name: forest, color: "#006600"}
ignore: [0]
source: {village: here}
target: {village: there}
by: village
"""


@pytest.fixture
def spectral_bench(capsys, monkeypatch, tmp_path):
    """Run a command; returns exit status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments):
        try:
            main([str(a) for a in arguments])
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


def write_tile(folder: Path, name: str, bands=4, seed=0):
    generator = np.random.default_rng(seed)
    for kind, array in (
        ("images", generator.integers(0, 10_000, (bands, 32, 32)).astype("uint16")),
        ("labels", generator.integers(0, 3, (1, 32, 32)).astype("uint8")),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            folder / kind / name, "w", driver="GTiff", count=len(array), width=32, height=32, dtype=array.dtype
        ) as target:
            target.write(array)


@pytest.fixture
def own_tiles(tmp_path):
    root = tmp_path / "own"
    names = [f"t{i:02}.tif" for i in range(24)]
    for seed, name in enumerate(names):
        write_tile(root, name, seed=seed)
    rows = [f"{name},{'here' if i < 18 else 'there'}" for i, name in enumerate(names)]
    (root / "tiles.csv").write_text("tile,village\n" + "\n".join(rows) + "\n")
    protocol = tmp_path / "villages.yaml"
    protocol.write_text(PROTOCOL)
    return root, protocol


def refused(result, *parts):
    """One line on standard error, exit status 2, no traceback, nothing else."""
    status, _, err = result
    assert status == 2
    assert err.startswith("spectral-bench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err


def test_help_and_import_are_quick_and_do_not_import_torch():
    """The time itself is measured by benchmarks/speed; here only what makes it slow is looked for."""
    code = (
        "import sys, spectral_tl_bench, spectral_tl_bench.cli.main; "
        "print([m for m in ('torch', 'torchgeo', 'timm', 'peft', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [[], ["run"], ["predict"], ["methods"], ["protocols"], ["datasets"], ["backbones"], ["leaderboard"], ["data"]]
    + [["data", name] for name in ("simulate", "check", "index", "download", "shift")],
    ids=" ".join,
)
def test_every_command_explains_itself(spectral_bench, arguments):
    status, out, _ = spectral_bench(*arguments, "--help")
    assert status == 0
    assert out.startswith(" ".join(["Usage: spectral-bench", *arguments]))
    assert any(line.startswith("  ") and line.endswith(".") for line in out.splitlines())


def test_run_without_a_root_says_simulated_first_and_in_the_title(spectral_bench, whuohs_root, tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path / "cache"))
    # A small archive where one of the usual size would be written on first use.
    shutil.copytree(whuohs_root, tmp_path / "cache" / "simulated" / f"whuohs-v{GENERATOR_VERSION}")
    status, out, _ = spectral_bench("run", "--method", "frozen", "--protocol", "whu_region/s2t", *TINY)
    assert status == 0
    assert out.startswith("SIMULATED data")
    assert "SIMULATED: frozen on whu_region/s2t" in out
    assert "all targets" in out


def test_run_on_own_tiles_and_leaderboard(spectral_bench, own_tiles):
    root, protocol = own_tiles
    status, out, err = spectral_bench("run", "--method", "lora", "--protocol", protocol, "--root", root, *TINY)
    assert (status, err) == (0, "")
    assert "SIMULATED" not in out
    assert "there" in out
    status, out, _ = spectral_bench("leaderboard")
    assert status == 0
    assert "1 run, 1 leaderboard" in out
    assert "lora" in Path("leaderboards/villages.csv").read_text()
    (config,) = Path("runs").rglob("run.yaml")
    status, out, _ = spectral_bench("run", "--config", config)
    assert status == 0
    assert "already run" in out
    status, _, _ = spectral_bench("run", "--config", config, "--out", "elsewhere")
    assert status == 0
    tables = [next(Path(folder).rglob("table.csv")).read_bytes() for folder in ("runs", "elsewhere")]
    assert tables[0] == tables[1]
    write_tile(root, "t00.tif", seed=99)
    status, _, err = spectral_bench("run", "--config", config, "--out", "elsewhere")
    assert status == 2
    assert "--config: the data differ from what that run recorded" in err


@pytest.mark.parametrize("method", ["spectralx", "pixel_forest"])
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(spectral_bench, own_tiles, tmp_path, method):
    root, protocol = own_tiles
    settings = TINY if method == "spectralx" else []
    arguments = ["run", "--method", method, "--protocol", protocol, "--root", root, *settings]
    arguments += ["--weights", "none"] if method == "spectralx" else []
    before = sorted(tmp_path.rglob("*"))
    status, printed, _ = spectral_bench(*arguments, "--dry-run")
    assert status == 0
    assert sorted(path for path in tmp_path.rglob("*") if ".spectral_tl_bench" not in str(path)) == before
    tiles, folder = re.search(r"^tiles: (.+)\n", printed, re.M)[1], re.search(r"^folder: (\S+), new", printed, re.M)[1]
    assert re.fullmatch(r"\d+ train, \d+ held out, \d+ target", tiles)
    assert ("reconstruction" in printed.partition("tiles:")[2]) == (method == "spectralx")
    status, _, _ = spectral_bench(*arguments)
    assert (tmp_path / folder / "run.json").is_file()
    assert (tmp_path / folder / "run.yaml").read_text().strip() in printed
    assert f"{folder}, with a complete record" in spectral_bench(*arguments, "--dry-run")[1]


def test_samplers_and_few_labels_are_options_that_enter_the_record(spectral_bench, own_tiles):
    root, protocol = own_tiles
    options = ["--sampler", "class", "--label-fraction", "0.5"]
    status, _, err = spectral_bench(
        "run", "--method", "frozen", "--protocol", protocol, "--root", root, *options, *TINY
    )
    assert (status, err) == (0, "")
    (record,) = Path("runs").rglob("run.json")
    content = json.loads(record.read_text())
    assert content["spec"]["training"]["sampler"] == "class"
    assert content["spec"]["training"]["label_fraction"] == 0.5
    assert content["tiles"]["train"] == 8
    refused(
        spectral_bench("run", "--method", "frozen", "--protocol", protocol, "--root", root, "--sampler", "rare"),
        "sampler",
    )


def test_lists_name_what_there_is(spectral_bench):
    for command, expected in (
        ("methods", "spectralx"),
        ("protocols", "whu_region/s2t"),
        ("datasets", "whuohs"),
        ("backbones", "vit_micro"),
    ):
        status, out, _ = spectral_bench(command)
        assert status == 0
        assert expected in out


def test_parameters_of_every_method_are_a_table(spectral_bench):
    status, out, err = spectral_bench("methods", "--params", "--no-gradients", "--sensor", "sentinel2")
    assert (status, err) == (0, "")
    assert "vit_micro, sentinel2 with 13 bands" in out
    assert "393,216" in out  # lora: 8 blocks x rank 16 x (4 + 2 + 5 + 5) x 192
    assert "--gradients" in out


def test_parameters_of_one_method_as_json_have_all_three_counts_twice(spectral_bench):
    status, out, _ = spectral_bench(
        "methods", "--params", "--json", "--method", "spectralx", "--set", "variant=reference"
    )
    assert status == 0
    ((counts),) = json.loads(out)
    assert counts["method"] == "spectralx"
    for part in ("without_decoder", "with_decoder"):
        allocated, trainable, receiving = (counts[k][part] for k in ("allocated", "trainable", "gradient_receiving"))
        assert allocated > trainable > receiving > 0


def test_gradients_are_not_measured_unasked_on_a_large_backbone(spectral_bench):
    status, out, _ = spectral_bench("methods", "--params", "--json", "--method", "lora", "--backbone", "vit_l_mae")
    assert status == 0
    ((counts),) = json.loads(out)
    assert counts["trainable"]["without_decoder"] == 6_291_456
    assert counts["gradient_receiving"] is None


def test_stage1_of_another_backbone_or_sensor_gets_one_line_before_anything_trains(
    spectral_bench, own_tiles, whuohs_root
):
    root, protocol = own_tiles
    run = ["run", "--method", "spectralx"]
    assert spectral_bench(*run, "--protocol", protocol, "--root", root, *TINY)[0] == 0
    (stage1,) = Path("runs").rglob("stage1.safetensors")
    given = ["--stage1", stage1, "--out", "other", *TINY]
    whu = ["--protocol", "whu_region/s2t", "--root", whuohs_root]
    refused(spectral_bench(*run, *whu, *given), "drone (4 bands)", "ohs (32 bands)")
    own = [*run, "--protocol", protocol, "--root", root, *given]
    refused(spectral_bench(*own, "--backbone", "vit_s_mae", "--weights", "none"), "vit_micro", "vit_s_mae")
    refused(spectral_bench(*own, "--stage1", root / "tiles.csv"), "tiles.csv", "not readable")
    assert not list(Path("other").rglob("*.*"))


def test_simulate_then_check(spectral_bench, tmp_path):
    target = tmp_path / "archive"
    assert spectral_bench("data", "simulate", "whuohs", target, "--tile-size", 16)[0] == 0
    status, out, _ = spectral_bench("data", "check", "whuohs", target)
    assert status == 0, out
    status, out, _ = spectral_bench("data", "check", "whuohs", target, "--json")
    assert status == 0
    assert json.loads(out)
    refused(spectral_bench("data", "simulate", "whuohs", target), "exists already")


def test_index_writes_geoparquet(spectral_bench, own_tiles, tmp_path):
    import geopandas as gpd

    root, protocol = own_tiles
    assert spectral_bench("data", "index", protocol, root, "--out", "index.parquet")[0] == 0
    assert len(gpd.read_parquet(tmp_path / "index.parquet")) == 24
    assert list(root.rglob("files-tiles-*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--method", "spectralxx", "--protocol", "whu_region"], ["did you mean 'spectralx'"]),
        (["run", "--method", "lora", "--protocol", "whu_regoin"], ["did you mean", "whu_region"]),
        (["run", "--method", "lora", "--protocol", "whu_region", "--root", "no/such/folder"], ["no folder", "--root"]),
        (["run", "--method", "lora", "--protocol", "missing.yaml"], ["missing.yaml"]),
        (["run", "--method", "lora"], ["--protocol"]),
        (["run", "--method", "lora", "--protocol", "whu_region", "--set", "rank"], ["name=value"]),
        (["run", "--method", "lora", "--protocol", "whu_region", "--train", "stepz=3"], ["stepz"]),
        (["run", "--method", "lora", "--protocol", "whu_region", "--preset", "qick"], ["did you mean 'quick'"]),
        (["run", "--method", "lora", "--protocol", "whu_region", "--backbone", "vit"], ["unknown backbone"]),
        (["run", "--config", "no.yaml"], ["no.yaml"]),
        (["methods", "--params", "--sensor", "sentinel"], ["unknown sensor", "did you mean 'sentinel2'"]),
        (["methods", "--params", "--backbone", "vit_micor"], ["unknown backbone", "did you mean 'vit_micro'"]),
        (["methods", "--params", "--set", "rank=4"], ["--method"]),
        (["methods", "--sensor", "ohs"], ["--params"]),
        (["data", "check", "whu", "."], ["unknown dataset", "did you mean 'whuohs'"]),
        (["leaderboard", "--runs", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value) if {"run", "data", "methods"} & set(value) else None,
)
def test_wrong_usage_gets_one_line(spectral_bench, arguments, parts):
    refused(spectral_bench(*arguments), *parts)


def test_an_archive_that_is_not_there_gets_one_line(spectral_bench, tmp_path):
    refused(spectral_bench("run", "--method", "lora", "--protocol", "whu_region", "--root", tmp_path), str(tmp_path))


def spoil_bands(root):
    write_tile(root, "t03.tif", bands=3)


def spoil_file(root):
    path = root / "images" / "t20.tif"
    path.write_bytes(path.read_bytes()[:-3000])


def spoil_pair(root):
    (root / "images" / "t05.tif").unlink()


def spoil_label(root):
    (root / "labels" / "t07.tif").unlink()


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (spoil_bands, ["t03.tif", "3 bands", "4"]),
        (spoil_file, ["t20.tif"]),
        (spoil_pair, ["t05.tif"]),
        (spoil_label, ["t07.tif"]),
    ],
    ids=["band count", "truncated", "label without image", "image without label"],
)
def test_a_bad_tile_gets_one_line_before_anything_trains(spectral_bench, own_tiles, spoil, parts):
    root, protocol = own_tiles
    spoil(root)
    refused(spectral_bench("run", "--method", "lora", "--protocol", protocol, "--root", root, *TINY), *parts)
    assert not list(Path("runs").rglob("run.yaml"))


def test_a_protocol_without_source_tiles_gets_one_line(spectral_bench, own_tiles):
    root, protocol = own_tiles
    protocol.write_text(PROTOCOL.replace("village: here", "village: nowhere"))
    refused(spectral_bench("run", "--method", "lora", "--protocol", protocol, "--root", root, *TINY), "no source tiles")


def test_an_output_folder_that_cannot_be_written_gets_one_line(spectral_bench, own_tiles, tmp_path):
    root, protocol = own_tiles
    (tmp_path / "blocked").write_text("precious")
    refused(
        spectral_bench("run", "--method", "lora", "--protocol", protocol, "--root", root, "--out", "blocked", *TINY),
        "blocked",
        "--out",
    )
    assert (tmp_path / "blocked").read_text() == "precious"


@pytest.mark.parametrize("place", [0, 1, 5], ids=["before the command", "after it", "last"])
def test_debug_shows_the_traceback_above_the_line(spectral_bench, place):
    arguments = ["run", "--method", "lorra", "--protocol", "whu_region"]
    status, _, err = spectral_bench(*arguments[:place], "--debug", *arguments[place:])
    assert status == 2
    assert err.startswith("Traceback")
    assert "UnknownNameError" in err
    assert err.splitlines()[-1].startswith("spectral-bench: unknown method 'lorra'")


def test_what_nobody_foresaw_is_one_line_too_and_a_failed_run(spectral_bench, monkeypatch):
    from spectral_tl_bench.cli import listings

    def broken():
        raise ZeroDivisionError("by nothing\nat all")

    monkeypatch.setattr(listings, "protocols", broken)
    status, _, err = spectral_bench("protocols")
    assert status == 1
    assert err.count("\n") == 1
    assert "unexpected ZeroDivisionError" in err
    assert "test_cli.py, line" in err
    assert "by nothing at all" in err
    assert "--debug" in err


def test_the_installed_command_works():
    command = Path(sys.executable).parent / "spectral-bench"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
