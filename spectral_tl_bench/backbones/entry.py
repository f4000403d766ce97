"""One backbone as it is registered: how it is built for a sensor, with or without pretrained weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spectral_tl_bench.backbones.loading import StateDict, adapt_projection, existing, load_state, read_state
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.built_in import USUAL_ORDER
from spectral_tl_bench.utils.errors import CheckpointError, SpectralBenchError
from spectral_tl_bench.utils.weight_metadata import fingerprint

if TYPE_CHECKING:
    from spectral_tl_bench.backbones.base import Backbone

HEADS = ("head.", "norm.", "fc_norm.")
"""Prefixes of what follows the last block: features are taken before it, so no checkpoint needs to have it."""
DECODER = ("decoder", "mask_token")
"""Prefixes of what a masked autoencoder has for its pretraining alone."""


@dataclasses.dataclass(frozen=True)
class BackboneEntry:
    """One backbone a user can name.

    Attributes:
        name: What is typed after ``--backbone``.
        summary: One line for ``spectral-bench backbones``.
        make: Builds the bare model, with random weights, for a number of bands.
        wrap: Turns the model into a :class:`Backbone` for a sensor.
        hub: Fetches the pretrained weights, for ``--weights hub``; None where no hub serves them.
        release: Address of weights that no hub serves; None where there are none.
        embedded: File of pretrained weights that comes with the package, for ``--weights embedded``: its name beside
            this module, or a whole path for the backbone of another package. None where there is none.
        convert: Fits the tensors of a checkpoint to the bare model for a sensor.
        ignorable: Prefixes of names outside the encoder, which a checkpoint may have or lack.
        from_wavelengths: Whether the tokenizer makes tokens of any bands from their wavelengths; see ``Tokenizer.see``.
        band_tokens: Whether it makes a token of each band; training settings of that name bound how many.
        small: Whether it is of the size that the preset "quick" is about: it learns at that preset's rates, larger ones
            at those of "standard".
        normalisation: Gives, for each band of a sensor, what is subtracted from its reflectance and what divides it in
            the model's own pretraining, for ``radiometry=backbone``; None where that is not stated.
        order: Position in lists.
    """

    name: str
    summary: str
    make: Callable[[int], Any]
    wrap: Callable[[Any, Sensor], Backbone]
    hub: Callable[[], StateDict] | None = None
    release: str | None = None
    embedded: str | None = None
    convert: Callable[[StateDict, Sensor], StateDict] = adapt_projection
    ignorable: tuple[str, ...] = (*HEADS, *DECODER)
    from_wavelengths: bool = False
    band_tokens: bool = False
    small: bool = False
    normalisation: Callable[[Sensor], tuple[list[float], list[float]]] | None = None
    order: int = USUAL_ORDER

    def stated_normalisation(self, sensor: Sensor) -> tuple[list[float], list[float]]:
        """What the model's own pretraining subtracts from the reflectance of each of a sensor's bands, and divides by.

        Raises:
            SpectralBenchError: If none is stated.
        """
        return self.require_normalisation()(sensor)

    def require_normalisation(self) -> Callable[[Sensor], tuple[list[float], list[float]]]:
        """Return :attr:`normalisation`.

        Raises:
            SpectralBenchError: If none is stated.
        """
        if self.normalisation is None:
            raise SpectralBenchError(
                f"radiometry=backbone: {self.name} states no normalisation of its own; leave it out, or take one that "
                "does, such as --backbone galileo_nano"
            )
        return self.normalisation

    @property
    def default_weights(self) -> str:
        """What ``--weights`` means where nothing is said: what comes with the package, else a hub's."""
        return "hub" if self.embedded is None else "embedded"

    def build(self, sensor: Sensor, weights: str = "none") -> Backbone:
        """Build the backbone for a sensor; see :func:`build_backbone`."""
        bands = len(sensor.bands)
        fetched = None if weights == "none" else self.fetch(weights)
        state = None if fetched is None else self.convert(fetched, sensor)
        model = self.make(bands)
        if state is not None:
            load_state(model, state, ignorable=self.ignorable, name=self.name, source=weights)
        backbone = self.wrap(model, sensor)
        given = set() if fetched is None or state is None else self._given(fetched, state, sensor)
        loaded = {id(p) for name, p in model.named_parameters() if name in given}
        backbone.drawn = frozenset(name for name, p in backbone.named_parameters() if id(p) not in loaded)
        return backbone

    def _given(self, fetched: StateDict, state: StateDict, sensor: Sensor) -> set[str]:
        """Names in the bare model of what a checkpoint alone determines: converted again, it comes out the same."""
        # A second draw, from a copy of the generator: what depends on chance differs from the first.
        with torch.random.fork_rng(devices=[]):
            again = self.convert(fetched, sensor)
        return {
            name
            for name, tensor in state.items()
            if not name.startswith(self.ignorable) and (again[name] is tensor or torch.equal(again[name], tensor))
        }

    def fingerprint(self, weights: str) -> str:
        """What a run records of its weights; see :func:`weights_fingerprint`."""
        return weights if weights in ("none", "hub") else fingerprint(existing(self.file(weights)))

    def file(self, weights: str) -> Path:
        """The file that a user means by weights other than "none" and "hub".

        Raises:
            CheckpointError: If no weights come with the package.
        """
        if weights != "embedded":
            return Path(weights)
        if self.embedded is None:
            raise CheckpointError(
                f"no weights of {self.name} come with the package: use --weights hub or none, or pass a file with "
                "--weights PATH"
            )
        return Path(__file__).parent / self.embedded

    def fetch(self, weights: str) -> StateDict:
        """Read the tensors of weights other than "none", by their own names.

        Raises:
            CheckpointError: If they cannot be had.
        """
        if weights != "hub":
            return read_state(self.file(weights))
        if self.hub is None:
            named = "none" if self.embedded is None else "embedded or none"
            advice = f"use --weights {named} or pass a file with --weights PATH"
            if self.embedded is None:
                advice = f"make them with `spectral-bench pretrain {self.name} ...`, or use --weights none"
            if self.release is not None:
                advice = f"download {self.release} and pass the file with --weights PATH, or use --weights none"
            raise CheckpointError(f"no hub serves weights of {self.name}: {advice}")
        return self.hub()
