"""Runs of pixel models: draw source pixels, fit, score whole tiles, and write the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import joblib
import numpy as np
import torch
from rich.progress import track

from spectral_tl_bench import records
from spectral_tl_bench.config.presets import (
    SETTINGS_WITHOUT_BACKBONE,
    WITHOUT_BACKBONE,
    override,
    preset,
    training_without_backbone,
)
from spectral_tl_bench.datamodules.windows import resize_sample, with_labels_used
from spectral_tl_bench.datasets.base import Sample
from spectral_tl_bench.records.metrics import Matrix, confusion_matrix
from spectral_tl_bench.runs.method_runner import MethodRunner
from spectral_tl_bench.runs.plan import Resolved, Selection
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.splits.few_labels import LabelledTiles, labelled_tiles
from spectral_tl_bench.training.fit import Stopwatch, peak_memory_mib
from spectral_tl_bench.utils.errors import DataError, SpectralBenchError

if TYPE_CHECKING:
    from spectral_tl_bench.config.spec import RunChoices
    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.datasets.cross_sensor import OtherBands
    from spectral_tl_bench.methods import Classifier, PixelModel
    from spectral_tl_bench.runs.plan import Plan, Request
    from spectral_tl_bench.runs.progress_file import ProgressFile
    from spectral_tl_bench.utils.runtime import RuntimeOptions

Watch = Callable[[Sequence[int], str], Iterable[int]]
"""Passes rows of an index through and shows how far it is; told what happens to them."""

_PIXELS_AT_ONCE = 2_000_000
_NO_PARAMETERS = records.ParameterCounts(allocated=0, trainable=0, gradient_receiving=0)


def draw_pixels(
    dataset: TileDataset,
    positions: Sequence[int],
    pixels: int,
    seed: int,
    watch: Watch = lambda rows, what: rows,
    labelled: LabelledTiles | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labelled pixels, the same number of every tile as far as it has them.

    Args:
        dataset: The archive.
        positions: Rows of its index.
        pixels: How many in all; at least one a tile.
        seed: Fixes the draw.
        watch: Shows progress over the rows.
        labelled: Which labels of these tiles may be used; None for all.

    Returns:
        N x C float32 reflectance and N class ids.

    Raises:
        DataError: If no tile has a labelled pixel.
    """
    rng = np.random.default_rng(seed)
    share = -(-pixels // max(1, len(positions)))
    spectra, labels = [], []
    for position in watch(positions, "drawing pixels"):
        sample = with_labels_used(dataset.read(int(position)), int(position), labelled)
        mask = sample["mask"].numpy().ravel()
        chosen = rng.permutation(np.flatnonzero(mask != IGNORE_INDEX))[:share]
        spectra.append(sample["image"].numpy().reshape(len(sample["image"]), -1)[:, chosen].T)
        labels.append(mask[chosen])
    drawn = np.concatenate(labels)
    if not len(drawn):
        raise DataError("no source tile has a labelled pixel; check the labels with `spectral-bench data check`")
    return np.concatenate(spectra), drawn


def predict_tile(classifier: Classifier, image: np.ndarray) -> np.ndarray:
    """Label every pixel of a tile.

    Args:
        classifier: A fitted one.
        image: C x H x W reflectance.

    Returns:
        H x W class ids.
    """
    spectra = image.reshape(len(image), -1).T
    parts = [classifier.predict(spectra[i : i + _PIXELS_AT_ONCE]) for i in range(0, len(spectra), _PIXELS_AT_ONCE)]
    return np.concatenate(parts).reshape(image.shape[1:])


def _score_tile(plan: Plan, classifier: Classifier, position: int) -> tuple[str, Matrix]:
    sample: Sample = plan.dataset.read(position)
    if plan.spec.training.scoring == "reference":
        sample = resize_sample(sample, plan.spec.training.image_size)
    prediction = predict_tile(classifier, sample["image"].numpy())
    truth = sample["mask"].numpy()
    return sample["tile"], confusion_matrix(truth, prediction, len(plan.dataset.classes), IGNORE_INDEX)


def _score(plan: Plan, classifier: Classifier, threads: int, watch: Watch) -> records.ConfusionTable:
    """Count the classifier's confusions on every held-out source tile and every target tile."""
    split = plan.split
    table = records.ConfusionTable()
    positions: dict[records.Part, np.ndarray] = {"held_out_source": split.held_out, "target": split.target}
    # Tiles side by side, each by one thread: threads that share a tile would add up a forest's votes in any order.
    in_threads = joblib.Parallel(threads, backend="threading", return_as="generator")
    for part in records.PARTS:
        rows = watch(positions[part].tolist(), f"scoring {part.replace('_', ' ')}")
        for tile, matrix in in_threads(joblib.delayed(_score_tile)(plan, classifier, row) for row in rows):
            table.add("last", part, tile, split.subdomains[tile], matrix)
    return table


class PixelRunner(MethodRunner):
    """Plans and executes runs of :class:`~spectral_tl_bench.methods.PixelModel`."""

    needs_backbone: ClassVar[bool] = False
    keeps_model: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = SETTINGS_WITHOUT_BACKBONE

    def resolve(self, selection: Selection) -> Resolved:
        """Keep the settings that choose tiles and scoring; there is no backbone."""
        method = selection.method
        given = {"--backbone": selection.backbone, "--weights": selection.weights, "--stage1": selection.stage1}
        for option, value in given.items():
            if value is not None:
                raise SpectralBenchError(f"{method} has no backbone: leave {option} out")
        training = selection.training or {}
        for setting in training:
            if setting not in (*self.settings, "resolution", "image_size"):
                raise SpectralBenchError(
                    f"{method} has no training setting {setting}, only {', '.join(self.settings)}; leave it out"
                )
        settings = training_without_backbone(override(preset(selection.preset), training))
        return Resolved(WITHOUT_BACKBONE, WITHOUT_BACKBONE, "none", settings)

    def require_valid(self, method: PixelModel, request: Request) -> None:
        """Refuse weights of a stage that there is not."""
        if request.where.stage1 is not None:
            raise SpectralBenchError(
                f"--stage1 was given, but {request.choices.method} has no reconstruction stage with these options"
            )

    def other_bands(self, method: PixelModel, backbone: str) -> OtherBands:
        """Target tiles of another sensor are resampled."""
        return "resampled"

    def fit_to_tiles(
        self, request: Request, training_sides: Sequence[int], all_sides: Sequence[int], simulated: bool
    ) -> tuple[RunChoices, list[str]]:
        """Pixels have no windows: nothing is adjusted."""
        return request.choices, []

    def require_executable(self, plan: Plan, options: RuntimeOptions, maps: int) -> None:
        """Refuse maps and several processes."""
        if maps:
            raise SpectralBenchError("--maps needs a model that is kept, and pixel models are not; leave --maps out")
        if options.processes > 1:
            raise SpectralBenchError(
                "a pixel model fits in one process, on all cores: leave --devices and --num-nodes out"
            )

    def execute(
        self,
        plan: Plan,
        provenance: records.Provenance,
        folder: Path,
        progress: ProgressFile,
        options: RuntimeOptions,
    ) -> None:
        """Draw source pixels, fit, score whole tiles and write the record.

        Raises:
            DataError: If no source pixel is labelled.
        """
        fit_and_score(plan, plan.method, provenance, folder, progress, options)  # type: ignore[arg-type]


def fit_and_score(
    plan: Plan,
    model: PixelModel,
    provenance: records.Provenance,
    folder: Path,
    progress: ProgressFile,
    options: RuntimeOptions,
) -> None:
    """Fit a model on source pixels, score whole tiles and write the record.

    Raises:
        DataError: If no source pixel is labelled.
    """
    spec, split = plan.spec, plan.split
    records.write_run_yaml(folder, spec, plan.request.where.absolute())
    console = options.output

    def watch(rows: Sequence[int], what: str) -> Iterable[int]:
        # Without a terminal nothing is shown: a forest takes less time than a network takes to start.
        shown = track(rows, what, console=console, transient=True, disable=not console.is_terminal)
        for done, row in enumerate(shown):
            progress.show(what, done, len(rows))
            yield row

    labelled = labelled_tiles(split, plan.dataset.index, spec.training.label_fraction, spec.seed)
    rows = labelled.rows.tolist()
    classifier = model.classifier(spec.seed)
    threads = torch.get_num_threads()
    # Threads change how long it takes and nothing else: each tree of a forest has its own seed.
    fitting = Stopwatch()
    with joblib.parallel_config(backend="threading", n_jobs=threads):
        classifier.fit(*draw_pixels(plan.dataset, rows, model.pixels, spec.seed, watch, labelled))
    seconds = {"fit": fitting.seconds}
    scoring = Stopwatch()
    table = _score(plan, classifier, threads, watch)
    seconds["scoring"] = scoring.seconds
    record = records.RunRecord(
        spec=spec,
        title=plan.request.protocol.title,
        split_origin=split.origin,
        held_out_rule=split.rule,
        classes=tuple(records.ClassLegend(name=c.name, color=c.color) for c in plan.dataset.classes),
        provenance=provenance,
        stages={name: records.StageRecord(steps=0, seconds=taken) for name, taken in seconds.items()},
        peak_memory_mib=peak_memory_mib("cpu"),
        parameters=_NO_PARAMETERS,
        parameters_with_decoder=_NO_PARAMETERS,
        selected=records.Selected(best_step=0, last_step=0),
        tiles=records.TileCounts(
            train=len(rows), held_out=len(split.held_out), target=len(split.target), margin=len(split.margin)
        ),
    )
    records.write_run(folder, record, table.frame())
