"""What each family hides, restores and is measured by in pretraining."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.backbones.hyper_embedding import HyperEmbeddingTokenizer
from spectral_tl_bench.backbones.specaware import SpecAwareBackbone
from spectral_tl_bench.backbones.spectral_mae import BandTokenizer
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.pretraining.decoders import BandDecoder, HyperDecoder, SensorHeads
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.training.reconstruction import (
    ReconstructionTask,
    blank,
    cut,
    patches_inside,
    random_mask,
)

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec


def charbonnier(difference: Tensor) -> Tensor:
    """Charbonnier error as kornia computes it and SpecAware uses it: sqrt(d^2 + 1) - 1, quadratic for small d."""
    return (difference.square() + 1).sqrt() - 1


class Pretraining(ReconstructionTask):
    """Masked reconstruction with the whole backbone training, one archive a batch; pixels of normalised images.

    Hidden patches are 0, the mean, before anything of the model sees the image.

    Attributes:
        drops_bands: Whether the family makes anything of ``band_dropping``.
        sensors: Of each archive.
        archive: Which of them :meth:`reconstruct` is about.
    """

    restores_pixels = True
    drops_bands: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, sensors: Sequence[Sensor], training: TrainingSpec) -> None:
        """Let the whole ``backbone`` train."""
        method = build_method("full")
        method.apply(backbone)
        super().__init__(backbone, method, training)
        self.sensors = tuple(sensors)
        self.archive = 0

    @property
    def _decoder_size(self) -> dict[str, int]:
        spec = self.training_spec
        return {
            "width": spec.reconstruction_decoder_width,
            "depth": spec.reconstruction_decoder_depth,
            "num_heads": spec.reconstruction_decoder_heads,
        }

    def seeing(self) -> AbstractContextManager[None]:
        """See the bands of the current archive."""
        sensor = self.sensors[self.archive]
        return contextlib.nullcontext() if sensor == self.backbone.sensor else self.backbone.seeing(sensor)

    def targets(self, images: Tensor) -> Tensor:
        """The pixels of B x C x H x W normalised images; B x T x (C * patch * patch), band after band."""
        return cut(images, self.backbone.patch_size)

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore the patches of the current archive's ``images`` that are ``hidden``, B x T."""
        with self.seeing():
            return self.restore(images, hidden)

    def restore(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches while the backbone sees the images' sensor; B x T x (C * patch * patch)."""
        raise NotImplementedError

    def error(self, images: Tensor, hidden: Tensor, meant: Tensor) -> Tensor:
        """The loss of a batch, of the patches ``meant`` among those that are ``hidden``, both B x T."""
        return (self.restore(images, hidden) - self.targets(images))[meant].square().mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The family's loss on the hidden patches of one archive's images."""
        self.archive = int(batch["archive"])
        images = self.backbone.enlarge(batch["image"], self.training_spec.upsample)
        with self.seeing():
            grid = self.backbone.grid_of(images)
            hidden = random_mask(len(images), grid[0] * grid[1], self.training_spec.mask_ratio, images.device)
            meant = hidden
            if "inside" in batch:
                own = hidden & patches_inside(batch["inside"], grid)
                # Where all that is hidden was added to small tiles, it is measured by what was added: the mean.
                meant = own if own.any() else hidden
            return self.total_loss(self.error(images, hidden, meant))

    def _draw(self, batch: int, many: int, device: torch.device) -> Tensor:
        """Draw which of so many bands are dropped, ``band_dropping`` of them, never all; batch x many."""
        share = self.training_spec.band_dropping
        if many == 1 or share == 0:
            return torch.zeros(batch, many, dtype=torch.bool, device=device)
        return random_mask(batch, many, share, device)

    def _visible(self, hidden: Tensor) -> Tensor:
        return (~hidden).nonzero()[:, 1].view(len(hidden), -1)


class PlainPretraining(Pretraining):
    """A plain masked autoencoder (He et al., 2022) with a pixel head for each archive; mean squared error."""

    def __init__(self, backbone: Backbone, sensors: Sequence[Sensor], training: TrainingSpec) -> None:
        """Put a decoder behind the backbone."""
        super().__init__(backbone, sensors, training)
        bands = [len(sensor.bands) for sensor in sensors]
        self.decoder = SensorHeads(backbone.width, backbone.patch_size, bands, **self._decoder_size)

    def restore(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches from the last tokens of the visible ones."""
        tokens = self.backbone.embed(blank(images, hidden, self.backbone.patch_size))
        visible = self._visible(hidden)
        encoded = self.backbone.encode(tokens.keep(visible))[-1]
        restored: Tensor = self.decoder(encoded, visible, tokens.grid, self.archive)
        return restored


class BandPretraining(Pretraining):
    """The spectral masked autoencoder: patches hidden for all bands alike, then bands dropped from what is left.

    Which bands are dropped differs from image to image and is the same for all its patches; ``band_dropping`` says how
    many. All that was hidden or dropped is restored and counts in the mean squared error. Bands that share a token are
    restored as one. The decoder gets what that of a segmentation gets, the mean of a patch's tokens over its bands: so
    this has to tell the whole spectrum, where a token for each band would leave that to the decoder.
    """

    drops_bands = True

    def __init__(self, backbone: Backbone, sensors: Sequence[Sensor], training: TrainingSpec) -> None:
        """Put a decoder behind the backbone."""
        super().__init__(backbone, sensors, training)
        self.decoder = BandDecoder(backbone.width, backbone.patch_size, **self._decoder_size)

    @property
    def _tokenizer(self) -> BandTokenizer:
        tokenizer = self.backbone.tokenizer
        assert isinstance(tokenizer, BandTokenizer)
        return tokenizer

    def drop(self, images: Tensor) -> Tensor:
        """Draw the bands that are dropped in each image; B x G, True where dropped."""
        return self._draw(len(images), len(self._tokenizer.shares), images.device)

    def encode(self, images: Tensor, hidden: Tensor, dropped: Tensor) -> Tensor:
        """Let the encoder see what is neither hidden, B x T, nor dropped, B x G; B x K x D, means over the bands."""
        of_bands = (dropped.to(images.dtype) @ (self._tokenizer.shares > 0).to(images.dtype)) > 0
        given = blank(images, hidden, self.backbone.patch_size).masked_fill(of_bands[..., None, None], 0.0)
        tokens = self.backbone.embed(given).keep(self._visible(hidden))
        assert tokens.bands is not None
        kept = self._visible(dropped)[:, None, :, None]
        _, count, _, width = tokens.bands.shape
        some = tokens.bands.gather(2, kept.expand(-1, count, -1, width))
        return self.backbone.encode(dataclasses.replace(tokens, bands=some))[-1]

    def _bands(self, images: Tensor, hidden: Tensor, dropped: Tensor) -> Tensor:
        encoded = self.encode(images, hidden, dropped)
        grid = self.backbone.grid_of(images)
        restored: Tensor = self.decoder(encoded, self._visible(hidden), grid, self._tokenizer.codes())
        return restored

    def restore(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches with no band dropped; bands that share a token get the same pixels."""
        shares = self._tokenizer.shares
        restored = self._bands(images, hidden, self.drop(images).zero_())
        return restored[:, :, shares.argmax(dim=0)].flatten(2)

    def error(self, images: Tensor, hidden: Tensor, meant: Tensor) -> Tensor:
        """Mean squared error of all that the encoder has not seen."""
        shares, patch = self._tokenizer.shares, self.backbone.patch_size
        # What is to be restored is known exactly, also under mixed precision.
        with torch.autocast(images.device.type, enabled=False):
            targets = cut(torch.einsum("gc,bchw->bghw", shares.to(images.dtype), images), patch)
        dropped = self.drop(images)
        difference = self._bands(images, hidden, dropped) - targets.unflatten(2, (len(shares), -1))
        # What was added to small tiles is hidden and not meant.
        unseen = meant.unsqueeze(2) | (dropped.unsqueeze(1) & ~hidden.unsqueeze(2))
        return difference[unseen].square().mean()


class SpecAwarePretraining(Pretraining):
    """SpecAware: (1 - cosine of spectra) + 2 x Charbonnier on hidden pixels, and a generated head.

    Declared differences from the released code: hidden patches are blanked, so that the content of bands is that of the
    visible patches alone, and ``band_dropping``, which the paper does not have: the encoder is given a part of the
    bands, another for each batch, and all that it has not seen is restored and counts, the dropped bands of visible
    patches too.
    """

    drops_bands = True

    def __init__(self, backbone: Backbone, sensors: Sequence[Sensor], training: TrainingSpec) -> None:
        """Put a decoder behind the backbone."""
        super().__init__(backbone, sensors, training)
        self.decoder = HyperDecoder(backbone.width, backbone.patch_size, **self._decoder_size)

    def restore(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restore hidden patches from the last tokens of the visible ones and the attributes of the bands."""
        return self._restore(images, hidden, torch.zeros(images.shape[1], dtype=torch.bool))

    def _restore(self, images: Tensor, hidden: Tensor, dropped: Tensor) -> Tensor:
        """Restore all bands of the sensor that is being seen from those that are not ``dropped``, C."""
        tokenizer, sensor = self.backbone.tokenizer, self.backbone.sensor
        assert isinstance(tokenizer, HyperEmbeddingTokenizer)
        assert isinstance(self.backbone, SpecAwareBackbone)
        attributes = tokenizer.attributes()
        kept = (~dropped).nonzero().flatten().tolist()
        seen = blank(images, hidden, self.backbone.patch_size)[:, kept]
        with self.backbone.seeing(sensor.subset(kept) if dropped.any() else None):
            tokens = self.backbone.embed(seen)
        visible = self._visible(hidden)
        prefix, features = self.backbone.run_blocks(tokens.keep(visible))
        restored: Tensor = self.decoder(
            features[-1], prefix, visible, tokens.grid, attributes, self.backbone.metres_now
        )
        return restored

    def drop(self) -> Tensor:
        """Draw the bands that are dropped in a batch; C, True where dropped."""
        return self._draw(1, len(self.backbone.sensor.bands), torch.device("cpu"))[0]

    def error(self, images: Tensor, hidden: Tensor, meant: Tensor) -> Tensor:
        """The two errors of the spectra of all pixels that the encoder has not seen, or of the unseen part of them."""
        dropped = self.drop()
        restored, targets = (
            patches.unflatten(-1, (images.shape[1], -1))
            for patches in (self._restore(images, hidden, dropped), self.targets(images))
        )
        unseen = [(restored[meant], targets[meant])]
        if dropped.any():
            unseen.append((restored[~hidden][:, dropped], targets[~hidden][:, dropped]))
        angles = torch.cat([1 - F.cosine_similarity(ours, theirs, dim=1).flatten() for ours, theirs in unseen])
        differences = torch.cat([(ours - theirs).flatten() for ours, theirs in unseen])
        return angles.mean() + 2 * charbonnier(differences).mean()


def pretraining_kind(backbone: Backbone) -> type[Pretraining]:
    """The task of a backbone's family; those without one of their own are plain masked autoencoders."""
    kinds: dict[type, type[Pretraining]] = {
        BandTokenizer: BandPretraining,
        HyperEmbeddingTokenizer: SpecAwarePretraining,
    }
    return kinds.get(type(backbone.tokenizer), PlainPretraining)


def pretraining_task(backbone: Backbone, sensors: Sequence[Sensor], training: TrainingSpec) -> Pretraining:
    """Build the task of a backbone's family."""
    return pretraining_kind(backbone)(backbone, sensors, training)
