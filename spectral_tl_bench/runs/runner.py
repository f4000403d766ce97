"""One run: train the stages, select, score, and leave a record on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from spectral_tl_bench import records
from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.decoders import Segmenter
from spectral_tl_bench.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.methods import Method, PixelModel, StageName
from spectral_tl_bench.plotting import png
from spectral_tl_bench.report.tables import heading, write_table
from spectral_tl_bench.runs.accounting import parameter_counts, segmenter_names
from spectral_tl_bench.runs.adapter import ADAPTER, Adapter, pretrained_digest, write_adapter
from spectral_tl_bench.runs.diagnostics import write_diagnostics
from spectral_tl_bench.runs.pictures import images_by_domain, looking_at
from spectral_tl_bench.runs.pixels import fit_and_score
from spectral_tl_bench.runs.planning import Plan
from spectral_tl_bench.runs.reconstructions import Reconstructions
from spectral_tl_bench.runs.stage1 import origin, read_stage1
from spectral_tl_bench.tasks.base import AdaptationTask
from spectral_tl_bench.tasks.fit import KeepBest, fit, peak_memory_mib, reset_peak_memory, score, seed_all, stopwatch
from spectral_tl_bench.tasks.progress import History, StageProgress
from spectral_tl_bench.tasks.reconstruction import MaskedReconstruction
from spectral_tl_bench.tasks.segmentation import Segmentation
from spectral_tl_bench.weights import load_weights, restore, save_weights, trained_state

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone

STAGE1 = "stage1.safetensors"
RECONSTRUCTION = "reconstruction.png"


class _Run:
    """The state of a run while it goes on."""

    def __init__(
        self,
        plan: Plan,
        method: Method,
        provenance: records.Provenance,
        folder: Path,
        console: Console,
        device: str,
        workers: int,
    ) -> None:
        self.plan, self.spec, self.method, self.provenance = plan, plan.spec, method, provenance
        self.training = plan.spec.training
        self.folder, self.console, self.device = folder, console, device
        self.data = ProtocolDataModule(
            plan.split, plan.dataset, self.training, seed=plan.spec.seed, num_workers=workers
        )
        seed_all(self.spec.seed)
        self.backbone: Backbone = build_backbone(self.spec.backbone, plan.dataset.sensor, plan.weights)
        self.pretrained_digest = pretrained_digest(self.backbone)
        self.method.apply(self.backbone)
        self.pretrained = self.backbone.pretrained_parameters
        self.stages: dict[str, records.StageRecord] = {}
        self.history: list[dict[str, Any]] = []
        self.trainable: set[str] = set()
        self.receiving: set[str] = set()

    def _begin(self, stage: StageName) -> str:
        # Every stage starts from the seed, so that a resumed run draws what an uninterrupted one would.
        seed_all(self.spec.seed)
        self.method.begin_stage(self.backbone, stage)
        names = self.method.stages
        self.data.begin_stage(stage)
        return f"stage {names.index(stage) + 1}/{len(names)} {stage}"

    def _note(self, task: AdaptationTask) -> None:
        """Remember which parameters trained and which received a gradient, by their names in the segmenter."""
        self.trainable |= segmenter_names(task, (n for n, p in task.named_parameters() if p.requires_grad))
        self.receiving |= segmenter_names(task, task.gradient_names)

    def reconstruct(self) -> None:
        """Stage 1, or its weights from an earlier run or an interrupted attempt at this one."""
        title = self._begin("reconstruction")
        given = self.plan.request.where.stage1
        saved = given if given is not None else self.folder / STAGE1
        if saved.is_file():
            self._restore_stage1(saved, title)
            return
        spec = self.training
        decoder = ReconstructionDecoder.of(self.backbone, spec)
        task = MaskedReconstruction(self.backbone, self.method, spec, decoder)
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "fit"):
            trainer = fit(
                task,
                self.data,
                spec,
                device=self.device,
                callbacks=[
                    StageProgress(self.console, title, self.method.extra_loss_name),
                    History("reconstruction", self.history),
                ],
                validations=0,
            )
        self._note(task)
        shown = Reconstructions.of(task, self.data, trainer.strategy.root_device)
        self.stages["reconstruction"] = records.StageRecord(
            steps=spec.reconstruction_steps, seconds=seconds["fit"], errors=shown.errors
        )
        tiles = sorted(self.data.tiles.index["tile"].iloc[self.plan.split.training].astype(str))
        save_weights(
            self.folder / STAGE1,
            trained_state(self.backbone, self.pretrained),
            {
                "stage": "reconstruction",
                "sensor": self.backbone.sensor.name,
                "bands": len(self.backbone.sensor.bands),
                "spec": self.spec.model_dump(mode="json"),
                "seconds": seconds["fit"],
                "trainable": sorted(self.trainable),
                "gradient_receiving": sorted(self.receiving),
                "tiles": tiles,
                "images": {tile: self.plan.contents[tile].image for tile in tiles},
                "errors": shown.errors.model_dump(),
            },
        )
        # After the weights: a resumed run goes on without the decoder, and finds this picture already drawn.
        figure = shown.figure(task, self.data, heading(self.spec))
        records.write_bytes(self.folder / RECONSTRUCTION, png(figure))

    def _restore_stage1(self, path: Path, title: str) -> None:
        given = read_stage1(path)
        state, _ = load_weights(path)
        restore(self.backbone, state, self.pretrained, str(path))
        self.trainable |= set(given.trainable)
        self.receiving |= set(given.gradient_receiving)
        steps = given.spec.training.reconstruction_steps
        self.stages["reconstruction"] = records.StageRecord(steps=steps, seconds=given.seconds, errors=given.errors)
        self.console.print(
            f"  {title}: taken from {path} ({origin(given, self.spec)})", highlight=False, markup=False, soft_wrap=True
        )

    def segment(self) -> None:
        """Stage 2, scoring, and everything that is written."""
        title = self._begin("segmentation")
        classes = self.plan.dataset.classes
        segmenter = Segmenter.of(self.backbone, len(classes), self.training)
        task = Segmentation(segmenter, self.method, self.training, len(classes))
        best = KeepBest(self.pretrained)
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "fit"):
            trainer = fit(
                task,
                self.data,
                self.training,
                device=self.device,
                callbacks=[
                    StageProgress(self.console, title, self.method.extra_loss_name),
                    History("segmentation", self.history),
                    best,
                ],
                validations=self.training.validations,
            )
        self._note(task)
        self.stages["segmentation"] = records.StageRecord(
            steps=self.training.segmentation_steps, seconds=seconds["fit"]
        )
        last = trained_state(segmenter, self.pretrained)
        table = records.ConfusionTable()
        with stopwatch(seconds, "score"):
            score(trainer, task, self.data)
            self._collect(table, task, "last")
            if best.step != self.training.segmentation_steps:
                restore(segmenter, best.state, self.pretrained, "the best weights")
                score(trainer, task, self.data)
            self._collect(table, task, "best")
        self.stages["scoring"] = records.StageRecord(steps=0, seconds=seconds["score"])
        selected = best.state if self.training.selection == "best" else last
        self._save(selected, best.step if self.training.selection == "best" else self.training.segmentation_steps)
        device = trainer.strategy.root_device
        restore(segmenter, selected, self.pretrained, "the selected weights")
        self._diagnose(segmenter, device)
        self._write(segmenter, table, best.step, device)

    def _save(self, selected: dict[str, Tensor], step: int) -> None:
        """Write all that the model is rebuilt from, its pretrained weights apart."""
        training_tiles = self.data.tiles.index.iloc[self.plan.split.training]
        adapter = Adapter(
            spec=self.spec,
            sensor=self.backbone.sensor,
            classes=self.plan.dataset.classes,
            step=step,
            tile=(int(training_tiles["height"].median()), int(training_tiles["width"].median())),
            pretrained=self.pretrained_digest,
        )
        write_adapter(self.folder / ADAPTER, adapter, selected, self.data.radiometry)

    def _diagnose(self, segmenter: Segmenter, device: torch.device) -> None:
        """Write what the method shows of its own parts."""
        with looking_at(segmenter, device):
            images = {
                name: self.backbone.enlarge(windows, self.training.upsample)
                for name, windows in images_by_domain(self.data, self.training, device).items()
            }
            write_diagnostics(self.method, segmenter.backbone, images, heading(self.spec), self.folder, self.console)

    def _collect(self, table: records.ConfusionTable, task: Segmentation, selection: records.Selection) -> None:
        index = self.plan.dataset.index
        side = self.training.image_size if self.training.scoring == "reference" else None
        areas = dict(zip(index["tile"].astype(str), index["height"] * index["width"], strict=True))
        for loader, tile, matrix in task.confusions:
            part: records.Part = "target" if loader == 1 else "held_out_source"
            pixels = side**2 if side else int(areas[tile])
            table.add(selection, part, tile, self.plan.split.subdomains[tile], matrix, pixels)

    def _write(self, segmenter: Segmenter, table: records.ConfusionTable, best_step: int, device: torch.device) -> None:
        # The device it ran on: the trainer has taken the model back to the processor by now.
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        without, with_decoder = parameter_counts(segmenter, self.trainable, self.receiving)
        record = records.RunRecord(
            spec=self.spec,
            title=self.plan.request.protocol.title,
            split_origin=self.plan.split.origin,
            classes=tuple(records.ClassLegend(name=c.name, color=c.color) for c in self.plan.dataset.classes),
            provenance=self.provenance.model_copy(update={"gpu": gpu}),
            stages=self.stages,
            peak_memory_mib=peak_memory_mib(device),
            parameters=without,
            parameters_with_decoder=with_decoder,
            selected=records.Selected(best_step=best_step, last_step=self.training.segmentation_steps),
            tiles=records.TileCounts(
                train=len(self.data.training),
                held_out=len(self.plan.split.held_out),
                target=len(self.plan.split.target),
            ),
        )
        records.write_run(self.folder, record, table.frame(), pd.DataFrame(self.history))


def execute(
    plan: Plan, out: Path, console: Console, *, device: str = "auto", workers: int = 0, force: bool = False
) -> records.Run:
    """Train, select, score and record a run.

    Args:
        plan: From :func:`plan`.
        out: Folder of all runs.
        console: Where progress goes.
        device: "auto", "cpu" or "cuda".
        workers: Reading processes; changes the speed only.
        force: Run again even where a complete record of this specification exists.

    Returns:
        The run as recorded.

    Raises:
        SpectralBenchError: If an input is wrong or a file cannot be written; a finished stage stays on disk.
    """
    folder = out / plan.spec.folder
    if not force and (folder / records.RECORD).is_file():
        console.print(f"already run: {folder} (--force runs it again)", highlight=False)
        return records.read_run(folder)
    records.prepare_folder(folder)
    if force:
        shutil.rmtree(folder)
        records.prepare_folder(folder)
    records.write_run_yaml(folder, plan.spec, plan.request.where.absolute())
    # Before anything trains: the code that ran, not what lies there when it has finished, and this run's memory alone.
    provenance = records.provenance()
    reset_peak_memory()
    if isinstance(plan.method, PixelModel):
        fit_and_score(plan, plan.method, provenance, folder, console)
    else:
        run = _Run(plan, plan.method, provenance, folder, console, device, workers)
        for stage in plan.method.stages:
            run.reconstruct() if stage == "reconstruction" else run.segment()
    finished = records.read_run(folder)
    write_table(finished, folder)
    return finished
