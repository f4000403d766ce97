"""What a method shows of its own parts at the end of a run, written where it can do no harm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench import records
from spectral_tl_bench.records.run import CONFUSION, HISTORY, RECORD
from spectral_tl_bench.records.run_yaml import CONFIG
from spectral_tl_bench.records.stage1 import STAGE1
from spectral_tl_bench.report.tables import TABLES
from spectral_tl_bench.runs.adapter import ADAPTER
from spectral_tl_bench.runs.score_journal import JOURNAL
from spectral_tl_bench.training.reconstruction_report import RECONSTRUCTION
from spectral_tl_bench.utils.errors import RecordError

if TYPE_CHECKING:
    from torch import Tensor

    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.methods import Method
    from spectral_tl_bench.utils.runtime import RuntimeOptions

_OURS = (RECORD, CONFIG, CONFUSION, HISTORY, ADAPTER, JOURNAL, STAGE1, RECONSTRUCTION, *TABLES)


def write_diagnostics(
    method: Method, backbone: Backbone, images: Mapping[str, Tensor], title: str, folder: Path, options: RuntimeOptions
) -> None:
    """Ask a method for its files and write them beside the run's own.

    A finished run is worth more than a picture of it: where the method fails, or names files that are not its own to
    write, a note says so and the run goes on.

    Args:
        method: The method.
        backbone: As for :meth:`spectral_tl_bench.methods.Method.diagnostics`.
        images: The same.
        title: The same.
        folder: The run's folder.
        options: Its console gets the note.
    """
    try:
        files = dict(method.diagnostics(backbone, images, title))
        paths = {_place(folder, name): content for name, content in files.items()}
        for path, content in paths.items():
            records.write_bytes(path, content)
    except Exception as error:  # noqa: BLE001  # whatever a plugin raises
        options.say(f"  note: {type(method).__name__} shows nothing of its parts: {type(error).__name__}: {error}")


def _place(folder: Path, name: str) -> Path:
    """Path of a file of a method's own in a run's folder.

    Raises:
        RecordError: If it lies elsewhere or is one of the run's own files.
    """
    if name in _OURS or Path(name).name != name or name.startswith((".", "checkpoint-")):
        raise RecordError(f"diagnostics named {name!r}; give new files plain names")
    return records.inside(folder, name)
