"""What a run leaves on disk: the record, its pixel counts, its provenance."""

from spectral_tl_bench.records.confusion import PARTS, ConfusionTable, Part, Scored, Selection, TileKey, matrices, total
from spectral_tl_bench.records.provenance import Provenance, provenance
from spectral_tl_bench.records.record import (
    ClassLegend,
    GuessErrors,
    ParameterCounts,
    ReconstructionErrors,
    Run,
    RunRecord,
    Selected,
    StageRecord,
    TileCounts,
)
from spectral_tl_bench.records.run import (
    HISTORY,
    MAPS,
    RECORD,
    damaged_files,
    find_runs,
    has_record,
    read_run,
    write_run,
)
from spectral_tl_bench.records.run_yaml import Where, read_run_yaml, write_run_yaml
from spectral_tl_bench.utils.files import inside, prepare_folder, remove_temporary_files, replacing, write_bytes

__all__ = [
    "HISTORY",
    "MAPS",
    "PARTS",
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
    "Scored",
    "Selected",
    "Selection",
    "StageRecord",
    "TileCounts",
    "TileKey",
    "Where",
    "damaged_files",
    "find_runs",
    "has_record",
    "inside",
    "matrices",
    "prepare_folder",
    "provenance",
    "read_run",
    "read_run_yaml",
    "remove_temporary_files",
    "replacing",
    "total",
    "write_bytes",
    "write_run",
    "write_run_yaml",
]
