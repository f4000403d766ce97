"""Pretrain vit_micro on simulated colour pictures: how the embedded weights of the package were made.

    OMP_NUM_THREADS=1 python -m spectral_tl_bench.benchmarks.pretrain_vit_micro --out vit_micro.safetensors

The quick preset is to do on two cores what the others do with a ViT-L: adapt a model that knows colour pictures to a
sensor of many bands. So vit_micro is pretrained like those, without labels, as a masked autoencoder (He et al., CVPR
2022) on red, green and blue. The defaults repeat the file that the package comes with, in about ten minutes of
one core.

What it sees. Landscapes of their own, drawn from random streams that no archive uses, each with its own selection of
land covers, shares and acquisition, which are uniform over wide ranges and know nothing of the groups that the
benchmark's domains are made from. The materials and textures are those of the simulator, as the land covers of the
earth are those of any aerial picture. No scene, region, acquisition or label of a simulated archive enters. A camera
sees three bands, each picture standardised by its own statistics, as a run does with its source.

What differs from He et al., and why:

- A sensor's many bands reach the three kernels almost as grey (`adapt_projection` spreads them over the bands), so the
  encoder must make much of little colour. Pictures lose a random part of their colour, up to 98 %, and the decoder has
  to give all of it back; the kernels' colour contrasts start out strong.
- Targets are brightness and two colour contrasts, not normalised by patch: within 8 px the textures are noise that
  cannot be foretold, and what tells covers apart, brightness and colour, is what normalisation takes away.
- The visible patches count too. Segmentation asks what is in a patch, not only what is beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import lightning
import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.sensors import Band, Sensor
from spectral_tl_bench.simulation.covers import DFC2020, MTS12, WHUOHS
from spectral_tl_bench.simulation.fields import generator
from spectral_tl_bench.simulation.landscape import Landscape
from spectral_tl_bench.simulation.scene import calibrate, photograph, sensor_view
from spectral_tl_bench.simulation.spectra import Conditions
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.fit import fit, seed_all
from spectral_tl_bench.training.progress import StageProgress
from spectral_tl_bench.training.reconstruction import MaskedReconstruction, random_mask
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import save_weights

CAMERA = Sensor(
    name="camera",
    bands=(Band(name="red", wavelength=660), Band(name="green", wavelength=560), Band(name="blue", wavelength=490)),
    rgb=("red", "green", "blue"),
)
STEPS = 1000
SEED = 0
SCENES = 500
SCENE_SIZE = 192
PICTURE_SIZE = 64
LEAST_COLOUR = 0.02
COLOUR_GAIN = 5.0
"""How much stronger than brightness colour contrasts enter the first layer at the start."""
COLOUR_WEIGHT = 3.0
"""Brings the colour contrasts of standardised pictures to about the variance of brightness."""
TRAINING = {
    "reconstruction_batch_size": 32,
    "reconstruction_learning_rate": 1e-3,
    "weight_decay": 0.05,
    "tokenizer_learning_rate_factor": 1.0,
    "warmup_fraction": 0.1,
    "schedule": "cosine",
    "mask_ratio": 0.6,
    "reconstruction_decoder_depth": 1,
}

_COVERS = (*WHUOHS, *DFC2020, *MTS12)
_PHENOLOGY = ("evergreen", "deciduous", "crop", "winter_crop", "grass", "reed")


def random_conditions(rng: np.random.Generator) -> Conditions:
    """Draw an acquisition and a region, uniform over wide ranges."""
    return Conditions(
        gain=float(np.exp(rng.uniform(np.log(0.5), np.log(1.3)))),
        slope=float(rng.uniform(-0.08, 0.08)),
        haze=float(rng.uniform(0.004, 0.03)),
        soil=float(rng.uniform(0.8, 1.2)),
        red_edge=float(rng.uniform(-4, 4)),
        greenness={kind: float(rng.uniform(0.2, 1)) for kind in _PHENOLOGY},
        turbidity=float(rng.uniform(0.7, 1.4)),
        texture_scale=float(rng.uniform(0.8, 1.4)),
    )


def render_scene(number: int, seed: int) -> np.ndarray:
    """Draw a landscape and photograph it.

    Args:
        number: Which; another number is another landscape on another day.
        seed: Seed of the pretraining.

    Returns:
        3 x 192 x 192, float32; every band has mean 0 and deviation 1.
    """
    rng = generator(seed, "pretraining", number)
    covers = [_COVERS[i] for i in rng.choice(len(_COVERS), size=rng.integers(8, 17), replace=False)]
    conditions = random_conditions(rng)
    landscape = Landscape(
        covers,
        rng.dirichlet(np.full(len(covers), 3.0)),
        seed=seed,
        name=f"pretraining {number}",
        texture_scale=conditions.texture_scale,
        inclusions=float(rng.uniform(0, 0.2)),
    )
    calibrate(landscape, SCENE_SIZE, np.ones((1, 1), dtype=bool))
    view = sensor_view([(CAMERA.wavelengths, conditions)], top=False)
    _, seen, _ = photograph(landscape, view, 0, 0, SCENE_SIZE, rng)
    standard = (seen - seen.mean(axis=(0, 1))) / seen.std(axis=(0, 1))
    return standard.transpose(2, 0, 1)


def render_scenes(count: int, seed: int) -> Tensor:
    """Draw ``count`` scenes; N x 3 x 192 x 192, half precision."""
    return torch.stack([torch.from_numpy(render_scene(number, seed)).half() for number in range(count)])


class Pictures(IterableDataset[dict[str, Tensor]]):
    """Endless batches of random crops: flipped, turned, brighter or darker, and with part of their colour.

    A batch holds "image", B x 3 x 64 x 64 as the encoder sees it, and "colour", the same before colour was taken away.
    """

    def __init__(self, scenes: Tensor, batch_size: int) -> None:
        """Crop from N x 3 x H x W standardised ``scenes``."""
        self.scenes = scenes
        self.batch_size = batch_size

    def _crop(self) -> Tensor:
        count, _, height, width = self.scenes.shape
        scene, turns, flip = (int(torch.randint(limit, ())) for limit in (count, 4, 2))
        top, left = (int(torch.randint(side - PICTURE_SIZE + 1, ())) for side in (height, width))
        crop = self.scenes[scene, :, top : top + PICTURE_SIZE, left : left + PICTURE_SIZE].float()
        turned = torch.rot90(crop, turns, (1, 2))
        return turned.flip(2) if flip else turned

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Draw batch after batch from torch's generator."""
        while True:
            pictures = torch.stack([self._crop() for _ in range(self.batch_size)])
            one, three = (self.batch_size, 1, 1, 1), (self.batch_size, 3, 1, 1)
            gain = torch.exp(0.25 * torch.randn(one) + 0.05 * torch.randn(three))
            pictures = pictures * gain + 0.3 * torch.randn(one) + 0.05 * torch.randn(three)
            grey = pictures.mean(dim=1, keepdim=True)
            kept = LEAST_COLOUR ** torch.rand(one)
            yield {"image": grey + kept * (pictures - grey), "colour": pictures}


class _Data(lightning.LightningDataModule):
    def __init__(self, pictures: Pictures) -> None:
        super().__init__()
        self.pictures = pictures

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.pictures, batch_size=None)


class ColourReconstruction(MaskedReconstruction):
    """Masked autoencoding that restores brightness and colour of all patches; see the module for why."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error of the hidden patches plus that of the visible ones."""
        images, patch = batch["image"], self.backbone.patch_size
        rows, columns = self.backbone.grid_of(images)
        hidden = random_mask(len(images), rows * columns, self.training_spec.mask_ratio, images.device)
        red, green, blue = batch["colour"].unbind(dim=1)
        contrasts = [COLOUR_WEIGHT * (red - green), COLOUR_WEIGHT * (0.5 * (red + green) - blue)]
        target = torch.stack([(red + green + blue) / 3, *contrasts], dim=1)
        patches = F.unfold(target, patch, stride=patch).transpose(1, 2)
        error = (self.reconstruct(images, hidden) - patches).square().mean(dim=-1)
        return self.total_loss(error[hidden].mean() + error[~hidden].mean())


def strengthen_colour(kernels: Tensor, gain: float) -> None:
    """Multiply the colour contrasts of D x 3 x p x p kernels, in place; a grey picture gives what it gave."""
    mean = kernels.mean(dim=1, keepdim=True)
    kernels.copy_(mean + gain * (kernels - mean))


def pretrain(out: Path, *, steps: int = STEPS, seed: int = SEED, scenes: int = SCENES) -> None:
    """Pretrain vit_micro and save its encoder in half precision.

    Args:
        out: Safetensors file to write.
        steps: Optimiser steps.
        seed: Seed of the scenes and of every random choice.
        scenes: How many landscapes to draw.
    """
    console = Console()
    console.print(f"drawing {scenes} scenes")
    training = override(preset("quick"), TRAINING | {"reconstruction_steps": steps})
    pictures = Pictures(render_scenes(scenes, seed), training.reconstruction_batch_size)
    seed_all(seed)
    entry, method = backbone_entry("vit_micro"), build_method("full")
    model = entry.make(len(CAMERA.bands))
    with torch.no_grad():
        strengthen_colour(model.patch_embed.proj.weight, COLOUR_GAIN)
    backbone = entry.wrap(model, CAMERA)
    method.apply(backbone)
    task = ColourReconstruction(backbone, method, training, ReconstructionDecoder.of(backbone, training))
    progress = StageProgress(console, "pretraining", "extra loss")
    fit(task, _Data(pictures), training, options=RuntimeOptions(device="cpu"), callbacks=[progress], validations=0)
    encoder = {k: v for k, v in model.state_dict().items() if not k.startswith(entry.ignorable)}
    made = {
        "data": f"simulated RGB: {scenes} landscapes of the simulator in none of the simulated archives, no labels",
        "script": "spectral_tl_bench.benchmarks.pretrain_vit_micro",
        "steps": steps,
        "seed": seed,
    }
    save_weights(out, {k: v.detach().half().contiguous() for k, v in encoder.items()}, made)
    console.print(f"written to {out}", soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spectral_tl_bench.benchmarks.pretrain_vit_micro",
        description="Pretrain vit_micro on simulated colour pictures and save its encoder.",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of every random choice (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="landscapes to draw (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("vit_micro.safetensors"), help="file to write")
    asked = parser.parse_args(arguments)
    pretrain(asked.out, steps=asked.steps, seed=asked.seed, scenes=asked.scenes)


if __name__ == "__main__":
    main()
