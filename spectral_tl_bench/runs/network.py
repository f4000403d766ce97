"""One run of an adapted backbone: train the stages, select, score, and write the record."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import pandas as pd
import torch
from torch import Tensor

from spectral_tl_bench import records
from spectral_tl_bench.backbones import backbone_entry, build_backbone
from spectral_tl_bench.config.spec import StageName
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.methods import Method
from spectral_tl_bench.records.stage1 import STAGE1, origin, read_stage1
from spectral_tl_bench.records.titles import heading
from spectral_tl_bench.runs.adapter import ADAPTER, Adapter, pretrained_digest, write_adapter
from spectral_tl_bench.runs.diagnostics import write_diagnostics
from spectral_tl_bench.runs.method_checks import FrozenWeights, require_head, require_repeatable, require_training
from spectral_tl_bench.runs.parameter_counts import parameter_counts, segmenter_names
from spectral_tl_bench.runs.plan import Plan
from spectral_tl_bench.runs.progress_file import ProgressFile, StageProgressFile
from spectral_tl_bench.runs.score_journal import JOURNAL
from spectral_tl_bench.runs.scoring import Scoring
from spectral_tl_bench.sensors.plotting import png
from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.training.checkpoints import Checkpoints, StageCheckpoints
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.fit import KeepBest, Stopwatch, fit, peak_memory_mib, seed_all
from spectral_tl_bench.training.loggers import Loggers
from spectral_tl_bench.training.progress import History, StageProgress
from spectral_tl_bench.training.reconstruction import MaskedReconstruction
from spectral_tl_bench.training.reconstruction_report import RECONSTRUCTION, Reconstructions
from spectral_tl_bench.training.sample_images import eval_mode, images_by_domain
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import load_weights, restore, save_weights, trained_state

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone


class NetworkRun:
    """The state of a run under way; every part resumes where an earlier process ended."""

    def __init__(
        self,
        plan: Plan,
        provenance: records.Provenance,
        folder: Path,
        progress: ProgressFile,
        options: RuntimeOptions,
    ) -> None:
        """Build and adapt the backbone, and check the method; the arguments are those of ``MethodRunner.execute``."""
        self.plan, self.spec, self.provenance = plan, plan.spec, provenance
        self.method: Method = plan.method  # type: ignore[assignment]  # the runner of this kind of method calls
        self.training = plan.spec.training
        self.folder, self.progress, self.options = folder, progress, options
        self.checkpoints = Checkpoints(
            folder, self.spec.digest, provenance.software, across_versions=options.resume_across_versions
        )
        entry, sensor = backbone_entry(self.spec.backbone), plan.dataset.sensor
        self.data = ProtocolDataModule(
            plan.split,
            plan.dataset,
            self.training,
            seed=plan.spec.seed,
            num_workers=options.workers,
            normalisation=entry.stated_normalisation(sensor) if self.training.radiometry == "backbone" else None,
        )
        seed_all(self.spec.seed)
        self.backbone: Backbone = build_backbone(self.spec.backbone, plan.dataset.sensor, plan.weights)
        self.backbone.limit_band_tokens(self.training.band_tokens, self.training.band_dropping)
        self.pretrained_digest = pretrained_digest(self.backbone)
        self.method.apply(self.backbone)
        self.pretrained = self.backbone.pretrained_parameters
        crossing = plan.dataset.crossing
        self.seen = None if crossing is None else crossing.seen
        # A tokenizer that cannot see them says so before anything trains.
        with self.backbone.seeing(self.seen):
            pass
        self.stages: dict[str, records.StageRecord] = {}
        self.history: list[dict[str, Any]] = []
        self.frozen = FrozenWeights(self.backbone)
        require_repeatable(plan, self.method, self.backbone)
        require_head(self.backbone, len(plan.dataset.classes), self.training)
        names = options.loggers if distributed.is_rank_zero() else ()
        self.loggers = Loggers(names, folder, self.spec, self.history, options)
        self.trainable: set[str] = set()
        self.receiving: set[str] = set()

    def run(self) -> None:
        """Do every stage, and delete what only an unfinished run needs."""
        if distributed.is_rank_zero():
            records.write_run_yaml(self.folder, self.spec, self.plan.request.where.absolute())
        with contextlib.closing(self.loggers):
            for stage in self.method.stages:
                self.reconstruct() if stage == "reconstruction" else self.segment()
        if distributed.is_rank_zero():
            self.checkpoints.remove()
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def _begin(self, stage: StageName) -> str:
        # Every stage starts from the seed, so that a resumed run draws what an uninterrupted one would.
        seed_all(self.spec.seed)
        self.method.begin_stage(self.backbone, stage)
        names = self.method.stages
        self.data.begin_stage(stage)
        return f"stage {names.index(stage) + 1}/{len(names)} {stage}"

    def _steps(self) -> dict[str, int]:
        return {stage: self.training.stage(stage).steps for stage in self.method.stages}

    def _note(self, task: AdaptationTask) -> None:
        """Remember which parameters trained and which received a gradient, by their names in the segmenter."""
        self.trainable |= segmenter_names(task, (n for n, p in task.named_parameters() if p.requires_grad))
        self.receiving |= segmenter_names(task, task.gradient_names)

    def reconstruct(self) -> None:
        """Stage 1, or its weights from an earlier run or an interrupted attempt at this one."""
        title = self._begin("reconstruction")
        given = self.plan.request.where.stage1
        saved = given if given is not None else self.folder / STAGE1
        if distributed.rank_zero_result(saved.is_file):
            self._restore_stage1(saved, title, own=given is None)
            return
        decoder = ReconstructionDecoder.of(self.backbone, self.training)
        task = MaskedReconstruction(self.backbone, self.method, self.training, decoder)
        trainer, seconds = self._fit(task, title, validations=0)
        if not distributed.is_rank_zero():
            return
        shown = Reconstructions.of(task, self.data, trainer.strategy.root_device)
        self.stages["reconstruction"] = records.StageRecord(steps=task.steps, seconds=seconds, errors=shown.errors)
        # Before the weights: where they are, a later process goes on without the decoder that this needs.
        figure = shown.figure(task, self.data, heading(self.spec))
        records.write_bytes(self.folder / RECONSTRUCTION, png(figure))
        tiles = sorted(self.data.tiles.index["tile"].iloc[self.plan.split.training].astype(str))
        save_weights(
            self.folder / STAGE1,
            trained_state(self.backbone, self.pretrained),
            {
                "stage": "reconstruction",
                "sensor": self.backbone.sensor.name,
                "bands": len(self.backbone.sensor.bands),
                "spec": self.spec.model_dump(mode="json"),
                "seconds": seconds,
                "trainable": sorted(self.trainable),
                "gradient_receiving": sorted(self.receiving),
                "images": {tile: self.plan.contents[tile].image for tile in tiles},
                "errors": shown.errors.model_dump(),
                "history": self.history,
                "software": self.provenance.software,
            },
        )

    def _fit(
        self, task: AdaptationTask, title: str, *, validations: int, best: KeepBest | None = None
    ) -> tuple[lightning.Trainer, float]:
        """Train what is left of a stage; returns the trainer and the seconds of all processes."""
        watch = Stopwatch()
        keeper = StageCheckpoints(
            self.checkpoints,
            task,
            self.pretrained,
            self.history,
            watch,
            self.options,
            best=best,
        )
        keeper.resume(title)
        self.loggers.skip()
        trainer = fit(
            task,
            self.data,
            self.training,
            options=self.options,
            callbacks=[
                StageProgress(self.options.output, title, self.method.extra_loss_name),
                History(task.stage, self.history),
                self.loggers,
                *([] if best is None else [best]),
                *([StageProgressFile(self.progress, task, self._steps())] if distributed.is_rank_zero() else []),
                keeper,
            ],
            validations=validations,
            after_part=keeper.after_part,
        )
        self._note(task)
        self.frozen.require_unchanged(self.backbone)
        require_training(self.method, task)
        return trainer, watch.seconds

    def _restore_stage1(self, path: Path, title: str, *, own: bool) -> None:
        given = read_stage1(path)
        if own and given.spec != self.spec:
            raise CheckpointError(
                f"{path} is of another run ({given.spec.folder}); delete it, or name it with --stage1 to start from it"
            )
        if own:
            self.checkpoints.require_software(path, given.software)
        # What trained in stage 1 is not what it was before it.
        self.frozen.require_unchanged(self.backbone)
        state, _ = load_weights(path)
        restore(self.backbone, state, self.pretrained, str(path))
        self.trainable |= set(given.trainable)
        self.receiving |= set(given.gradient_receiving)
        steps = given.spec.training.reconstruction_steps
        self.stages["reconstruction"] = records.StageRecord(steps=steps, seconds=given.seconds, errors=given.errors)
        if own:
            self.history.extend(given.history)
        self.options.say(f"  {title}: taken from {path} ({origin(given, self.spec)})")

    def segment(self) -> None:
        """Stage 2, scoring, and everything that is written."""
        title = self._begin("segmentation")
        classes = self.plan.dataset.classes
        # Whatever the method has drawn, every method's decoder starts alike: they are compared seed by seed.
        seed_all(self.spec.seed)
        segmenter = Segmenter.of(self.backbone, len(classes), self.training)
        task = Segmentation(segmenter, self.method, self.training, len(classes))
        task.target_sensor = self.seen
        best = KeepBest(self.pretrained)
        trainer, seconds = self._fit(task, title, validations=self.training.validations, best=best)
        self.stages["segmentation"] = records.StageRecord(steps=task.steps, seconds=seconds)
        last = trained_state(segmenter, self.pretrained)
        by_score = self.training.selection == "best"
        selected = best.state if by_score else last
        # Before anything is scored: from here on nothing but scores can be lost.
        if distributed.is_rank_zero():
            self._save(selected, best.step if by_score else task.steps)
        watch = Stopwatch()
        scoring = Scoring(self.plan, self.data, self.folder / JOURNAL, self.pretrained, self.progress, self.options)
        table = scoring.run(trainer, task, last, best)
        self.stages["scoring"] = records.StageRecord(steps=0, seconds=watch.seconds)
        if not distributed.is_rank_zero():
            return
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
            channels=self.plan.dataset.file_channels,
            file_bands=len(self.plan.dataset.stored.bands),
        )
        write_adapter(self.folder / ADAPTER, adapter, selected, self.data.radiometry)

    def _diagnose(self, segmenter: Segmenter, device: torch.device) -> None:
        """Write what the method shows of its own parts."""
        with eval_mode(segmenter, device):
            images = {
                name: self.backbone.enlarge(windows, self.training.upsample)
                for name, windows in images_by_domain(self.data, self.training, device).items()
            }
            write_diagnostics(self.method, segmenter.backbone, images, heading(self.spec), self.folder, self.options)

    def _write(self, segmenter: Segmenter, table: records.ConfusionTable, best_step: int, device: torch.device) -> None:
        # The device it ran on: the trainer has taken the model back to the processor by now.
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        without, with_decoder = parameter_counts(segmenter, self.trainable, self.receiving)
        record = records.RunRecord(
            spec=self.spec,
            title=self.plan.request.protocol.title,
            split_origin=self.plan.split.origin,
            held_out_rule=self.plan.split.rule,
            classes=tuple(records.ClassLegend(name=c.name, color=c.color) for c in self.plan.dataset.classes),
            provenance=self.provenance.model_copy(
                update={"gpu": gpu, "resumed_from": tuple(self.checkpoints.resumed_from)}
            ),
            stages=self.stages,
            peak_memory_mib=peak_memory_mib(device),
            parameters=without,
            parameters_with_decoder=with_decoder,
            selected=records.Selected(best_step=best_step, last_step=self.training.segmentation_steps),
            tiles=records.TileCounts(
                train=len(self.data.training),
                held_out=len(self.plan.split.held_out),
                target=len(self.plan.split.target),
                margin=len(self.plan.split.margin),
            ),
        )
        columns = [name for name in History.COLUMNS if any(name in row for row in self.history)]
        records.write_run(self.folder, record, table.frame(), pd.DataFrame(self.history, columns=columns))
