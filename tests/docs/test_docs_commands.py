"""Every bash and Python block of README and docs runs in a fresh process, or says why it does not."""

import shutil

import pytest
import rasterio
from archives import random_image, random_label, utm, write_tif
from campaign import write_campaign
from documented import PAGES, ROOT, blocks, commands, fresh_process, small

from spectral_tl_bench.records import find_runs
from spectral_tl_bench.simulation import simulate_archive

BLOCKS = [block for page in PAGES for block in blocks(page) if block.language in ("bash", "python")]
NOT_RUN = [block for block in BLOCKS if block.not_run]
RUN_PAGES = [page for page in PAGES if any(b.page == page and not b.not_run for b in BLOCKS)]
HLS_CODES = (10, 20, 30, 40, 50, 60, 80)
SMALL_SUITE = (
    "title: Small\nmethods: [{name: pixel_forest, options: {trees: 2}}]\nprotocols: [whu_region/s2t]\nseeds: [0]\n"
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives") / "data"
    for name in ("whuohs", "dfc2020"):
        simulate_archive(name, folder / name, tile_size=32, tiles=0.4)
    return folder


@pytest.fixture(scope="module")
def runs(archives, train, tmp_path_factory):
    """Runs that pages name as finished."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    for method in ("frozen", "lora", "spectralx"):
        train(out, method, protocol="whu_region/s2t", root=archives / "whuohs")
    train(out, "lora", protocol="dfc_season/winter", root=archives / "dfc2020")
    return out


def write_hls(folder):
    """The folder and the protocol of docs/protocols.md."""
    (page,) = [p for p in PAGES if p.name == "protocols.md"]
    (protocol,) = [b for b in blocks(page) if b.text.startswith("title: HLS tiles, lowland")]
    (folder / "hls_elevation.yaml").write_text(protocol.text)
    rows = ["tile,domain,elevation_m"]
    for number, domain in enumerate(["lowland"] * 8 + ["midland", "highland"] * 2):
        name = f"tile_{number:03d}"
        rows.append(f"{name},{domain},{100 * number}")
        place = utm(left=500_000 + 30_000.0 * number)
        write_tif(folder / "hls" / "images" / f"{name}.tif", random_image(7, number, 32, "int16"), **place)
        write_tif(folder / "hls" / "labels" / f"{name}.tif", random_label(HLS_CODES, number, 32), **place)
    (folder / "hls" / "tiles.csv").write_text("\n".join(rows))


@pytest.fixture
def folder(archives, runs, tmp_path):
    """What a reader has: archives, finished runs, a scene, and the files that the page shows."""
    (tmp_path / "data").symlink_to(archives)
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "small.yaml").write_text(SMALL_SUITE)
    return tmp_path


def finished(folder, protocol):
    (run,) = [run for run in find_runs(folder / "runs") if f"{protocol}/lora" in run.as_posix()]
    return run


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: f"{block.page.stem}-{block.number}")
def test_a_block_that_is_not_run_says_why(block):
    pytest.skip(block.not_run)


def test_only_blocks_that_need_more_than_a_small_machine_are_not_run():
    assert len(NOT_RUN) < len(BLOCKS) / 3
    assert all(len(block.not_run.split()) > 2 for block in NOT_RUN)


@pytest.mark.documented
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_a_page_runs(page, folder):
    if page.name == "protocols.md":
        write_hls(folder)
    if page.name == "your-tiles.md":
        write_campaign(folder)
    whuohs, dfc2020 = finished(folder, "whu_region/s2t"), finished(folder, "dfc_season/winter")
    tile = next((folder / "data" / ("dfc2020" if page.name == "predict.md" else "whuohs")).rglob("image/**/*.tif"))
    with rasterio.open(tile) as file:
        write_tif(folder / "scene.tif", file.read(), **utm())
    names = {"whuohs": whuohs, "dfc2020": dfc2020, "digest": whuohs.name.rpartition("-")[2]}
    script = []
    for block in blocks(page):
        if block.not_run:
            continue
        if block.language == "python" and block.file:
            (folder / block.file).write_text(block.text)
            if not block.file.startswith("test_"):
                done = fresh_process(["python", block.file], folder)
                assert done.returncode == 0, f"{block.file}\n{done.stderr}"
        elif block.language == "python":
            text = block.text
            for words in [w for w in text.split('"') if w.startswith("runs/")]:
                text = text.replace(words, str(whuohs))
            script.append(text)
        elif block.language == "bash":
            for words in commands(block.text):
                done = fresh_process(small(words, {k: str(v) for k, v in names.items()}), folder)
                assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    if script:
        (folder / "page.py").write_text("\n".join(script))
        done = fresh_process(["python", "page.py"], folder)
        assert done.returncode == 0, done.stderr
