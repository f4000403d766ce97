"""What a run leaves on disk: the record, its pixel counts, its provenance."""

from spectral_tl_bench.records.config import Where, read_run_yaml, write_run_yaml
from spectral_tl_bench.records.confusion import ConfusionTable, Part, Selection, matrices, total
from spectral_tl_bench.records.files import inside, prepare_folder, replacing, sweep_up, write_bytes
from spectral_tl_bench.records.provenance import Provenance, provenance
from spectral_tl_bench.records.run import (
    HISTORY,
    RECORD,
    ClassLegend,
    GuessErrors,
    ParameterCounts,
    ReconstructionErrors,
    Run,
    RunRecord,
    Selected,
    StageRecord,
    TileCounts,
    find_runs,
    read_run,
    write_run,
)

__all__ = [
    "HISTORY",
    "RECORD",
    "ClassLegend",
    "ConfusionTable",
    "GuessErrors",
    "ParameterCounts",
    "Part",
    "Provenance",
    "ReconstructionErrors",
    "Run",
    "RunRecord",
    "Selected",
    "Selection",
    "StageRecord",
    "TileCounts",
    "Where",
    "find_runs",
    "inside",
    "matrices",
    "prepare_folder",
    "provenance",
    "read_run",
    "read_run_yaml",
    "replacing",
    "sweep_up",
    "total",
    "write_bytes",
    "write_run",
    "write_run_yaml",
]
