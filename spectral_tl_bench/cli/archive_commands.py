"""What the commands about archives do, apart from parsing arguments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.config.protocols import load_protocols, protocols_about, protocols_of
from spectral_tl_bench.utils.errors import SpectralBenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from spectral_tl_bench.config.protocols import Protocol, ProtocolFile
    from spectral_tl_bench.datasets.base import TileDataset


def simulate(
    dataset: str,
    folder: Path,
    console: Console,
    *,
    tile_size: int | None,
    real_size: bool,
    real_counts: bool,
    world: dict[str, int],
    shift: str,
) -> None:
    """Write one simulated archive, or all of them; ``world`` has the generation, the seed and the draw."""
    from rich.progress import Progress

    from spectral_tl_bench.simulation import ARCHIVES, DEFAULT_TILE_SIZE, simulate_archive
    from spectral_tl_bench.simulation.world import parse_shift, reference_difference

    if real_size and tile_size is not None:
        raise SpectralBenchError("--tile-size and --real-size exclude one another")
    factors = parse_shift(shift)
    names = list(ARCHIVES) if dataset == "all" else [dataset]
    for name in names:
        target = folder / name if dataset == "all" else folder
        with Progress(console=console, transient=True) as bar:
            simulate_archive(
                name,
                target,
                tile_size="real" if real_size else tile_size or DEFAULT_TILE_SIZE,
                tiles="real" if real_counts else 1.0,
                progress=partial(_advance, bar, bar.add_task(f"simulating {name}")),
                **world,
                shift=factors,
            )
        console.print(f"SIMULATED {name} archive written to {target}", highlight=False)
        if difference := reference_difference(target):
            console.print(difference, highlight=False, soft_wrap=True)


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _described(name: str) -> str | ProtocolFile:
    """A dataset's name, or the protocol file that describes a user's own tiles."""
    from spectral_tl_bench.config.protocols import read_protocol_file
    from spectral_tl_bench.runs.requests import protocol_file

    path = protocol_file(name)
    if name == "tiles":
        raise SpectralBenchError("your own tiles are described by their protocol file: give its path instead of tiles")
    if path is None:
        return name
    load_protocols(name)  # a member that the file does not define is refused
    return read_protocol_file(path)


def check(dataset: str, folder: Path, console: Console, *, as_json: bool) -> bool:
    """Check an archive and print the report; return whether all is well."""
    from spectral_tl_bench.cli.check_view import render
    from spectral_tl_bench.datamodules.leakage_checks import examine
    from spectral_tl_bench.datasets.check import check_archive

    described = _described(dataset)
    report = check_archive(described, folder)
    if report.ok:
        shipped = isinstance(described, str)
        meant = protocols_about(described) if isinstance(described, str) else protocols_of(described)
        problems, notes = examine(meant, folder, all_must_run=not shipped)
        report = report.model_copy(update={"problems": tuple(problems), "notes": (*report.notes, *notes)})
    if as_json:
        print(report.model_dump_json(indent=2))  # noqa: T201  # for a program: a console would break the lines
    else:
        console.print(render(report))
    return report.ok


def index(dataset: str, folder: Path, out: Path | None, console: Console) -> None:
    """Index an archive and, if asked, copy the index to a GeoParquet file."""
    from spectral_tl_bench.datasets import dataset_class, open_dataset
    from spectral_tl_bench.records import write_bytes

    described = _described(dataset)
    opened = dataset_class(described)(folder) if isinstance(described, str) else open_dataset(described, folder)
    if out is not None:
        buffer = io.BytesIO()
        parts = {"part": opened.index["part"].map(str)} if "part" in opened.index else {}
        opened.index.assign(**parts).to_parquet(buffer)
        write_bytes(out, buffer.getvalue())
        console.print(f"written: {out}", highlight=False)
    opened.checksums(range(len(opened)))
    console.print(f"{len(opened)} tiles of {opened.name} indexed", highlight=False)


def download(dataset: str, folder: Path, console: Console) -> None:
    """Download an archive and make sure that its tiles are found."""
    from torchgeo.datasets import DatasetNotFoundError

    from spectral_tl_bench.datasets import dataset_class
    from spectral_tl_bench.datasets.archives.download import REPOSITORY
    from spectral_tl_bench.datasets.archives.download import download as fetch
    from spectral_tl_bench.datasets.io.listing import raise_first

    fetch(dataset, folder)
    try:
        opened = dataset_class(dataset)(folder, strict=False)
    except DatasetNotFoundError as error:
        raise SpectralBenchError(
            f"what {REPOSITORY} holds for {dataset} was put under {folder}, but none of it is a tile as "
            "docs/archives.md describes them; sort the files by hand"
        ) from error
    for note in opened.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    raise_first(opened.problems)
    console.print(
        f"{dataset} is ready in {folder}: {len(opened)} tiles; look at every one with: "
        f"spectral-bench data check {dataset} {folder}",
        highlight=False,
        soft_wrap=True,
    )


def shift(protocol: str, root: Path | None, out: Path, seed: int, console: Console) -> None:
    """Measure and draw the shift of each protocol meant."""
    from spectral_tl_bench.datasets.shift import measure_shift, render
    from spectral_tl_bench.datasets.shift_plot import draw_shift

    for meant, dataset in _protocols_with_data(protocol, root, out):
        report = measure_shift(dataset, meant, seed=seed)
        console.print(render(report))
        _write_measured(out, meant.name, report.table.to_csv(index=False), draw_shift(report), console)


def card(protocol: str, root: Path | None, out: Path, seed: int, console: Console) -> None:
    """Measure and draw the realism card of each protocol meant."""
    from spectral_tl_bench.datasets.realism import measure_realism, render
    from spectral_tl_bench.datasets.realism_plot import draw_card

    for meant, dataset in _protocols_with_data(protocol, root, out):
        measured = measure_realism(dataset, meant, seed=seed)
        console.print(render(measured))
        table = measured.table.rename_axis("domain").to_csv()
        _write_measured(out, meant.name, table, draw_card(measured), console)


def _protocols_with_data(protocol: str, root: Path | None, out: Path) -> Iterator[tuple[Protocol, TileDataset]]:
    """Each protocol meant with its archive, once the output folder can be written."""
    import numpy as np

    from spectral_tl_bench.datasets import archive_root, open_dataset
    from spectral_tl_bench.datasets.cross_sensor import crossed
    from spectral_tl_bench.records import prepare_folder

    meant = load_protocols(protocol)
    prepare_folder(out)
    for one in meant:
        dataset = open_dataset(one.file, archive_root(one.file.dataset, root))
        target = np.flatnonzero(one.transfer.target.select(dataset.index)).tolist()
        yield one, crossed(dataset, one, target)


def _write_measured(out: Path, protocol: str, table: str, figure: Figure, console: Console) -> None:
    from spectral_tl_bench.records import write_bytes
    from spectral_tl_bench.sensors.plotting import png

    path = out / protocol.replace("/", "-")
    write_bytes(path.with_name(f"{path.name}.csv"), table.replace("\r\n", "\n").encode())
    write_bytes(path.with_name(f"{path.name}.png"), png(figure, dots_per_inch=110))
    console.print(f"written: {path}.csv and .png", highlight=False)
