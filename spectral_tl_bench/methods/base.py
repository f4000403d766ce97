"""Method and PixelModel: the base classes a baseline subclasses, and the registry that finds it.

A whole baseline:

    @dataclass
    class BiasTuning(Method):
        \"\"\"Only biases train (Ben Zaken et al., 2022).\"\"\"

        def adapt(self, backbone: Backbone) -> None:
            for name, parameter in backbone.named_parameters():
                parameter.requires_grad = name.endswith("bias")
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, cast, final

from pydantic import Field, TypeAdapter, ValidationError

from spectral_tl_bench.config.spec import StageName, TrainingSpec
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.registry import METHODS, PluginError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from spectral_tl_bench.backbones import Backbone

ReconstructionTarget = Literal["pixels", "plain_pixels", "normalised_patches"]


@dataclasses.dataclass
class AnyMethod(abc.ABC):
    """What ``--method`` can name: a dataclass whose fields are hyper-parameters, and the runner of its kind.

    :class:`Method` and :class:`PixelModel` are the kinds that come with the package. Another kind is one file with a
    subclass of this class that names its :class:`~spectral_tl_bench.runs.method_runner.MethodRunner`.
    """

    runner: ClassVar[str]
    """``module:class`` of what plans and executes runs of this kind."""

    def options(self) -> dict[str, Any]:
        """Hyper-parameters by name, as recorded."""
        return dataclasses.asdict(self)

    def defaults(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that have their default."""
        return tuple(f.name for f in dataclasses.fields(self) if f.init and getattr(self, f.name) == f.default)


@dataclasses.dataclass
class Method(AnyMethod):
    """How a pretrained backbone is adapted to a sensor and a task.

    Subclass as a dataclass: its fields are the hyper-parameters, set by ``--set name=value``, validated and recorded.
    A method touches only the backbone it is given; data, freezing, training, selection, scoring and records are the
    bench's.
    """

    runner: ClassVar[str] = "spectral_tl_bench.runs.network_runner:NetworkRunner"

    learning_rate_factor: ClassVar[float] = 1.0
    """The method's own learning rate by that of the preset; docs/recipes.md has all the tries behind the factors."""

    extra_loss_name: ClassVar[str] = "extra loss"
    """What the progress line calls :meth:`extra_loss`."""

    trains_backbone: ClassVar[bool] = True
    """False of a probe, which means to leave every parameter of the backbone as it was."""

    changes_start: ClassVar[str] = ""
    """Why training does not start from the pretrained function; empty where it does."""

    start_tolerance: ClassVar[float] = 0.0
    """How much features at the start may differ from the pretrained ones through rounding."""

    @property
    def keeps_tokenizer(self) -> bool:
        """Whether the backbone's own tokenizer stays in place; without it, bands are not known by their wavelengths."""
        return True

    @abc.abstractmethod
    def adapt(self, backbone: Backbone) -> None:
        """Change the backbone in place: every parameter arrives frozen, new modules arrive training.

        Args:
            backbone: The pretrained backbone, built for the sensor's bands.
        """

    @property
    def stages(self) -> tuple[StageName, ...]:
        """Stages in order; "reconstruction" (masked, without labels) may come before "segmentation"."""
        return ("segmentation",)

    def begin_stage(self, backbone: Backbone, stage: StageName) -> None:
        """Change what trains, or add parts, before a stage starts."""

    def parameter_groups(self, backbone: Backbone, training: TrainingSpec, stage: StageName) -> list[dict[str, Any]]:
        """Return the backbone's parameters in groups of :class:`torch.optim.AdamW`, with peak learning rates.

        Called as a stage begins. Parameters in no group have the stage's learning rate; frozen ones may be listed.

        Args:
            backbone: The adapted backbone.
            training: The run's training settings.
            stage: The stage that begins.

        Returns:
            Mappings of ``params``, ``lr`` and, if wanted, other options of AdamW.
        """
        from spectral_tl_bench.backbones.parameter_groups import parameter_groups

        return parameter_groups(backbone, training, stage)

    def extra_loss(self, backbone: Backbone) -> Tensor | None:
        """Return a scalar added to the stage's loss after each training forward pass, or None."""
        return None

    def diagnostics(self, backbone: Backbone, images: Mapping[str, Tensor], heading: str) -> dict[str, bytes]:
        """Return files that show what the method's own parts do in a finished run, by name; none by default.

        Args:
            backbone: The adapted backbone with the selected weights, in evaluation mode.
            images: A few images by domain, N x C x H x W normalised: the held-out source and each target sub-domain.
            heading: What ran on what, for titles; says SIMULATED where the images are.
        """
        return {}

    @property
    def blanks_masked_patches(self) -> bool:
        """Whether reconstruction hides masked pixels before the tokenizer sees them."""
        return True

    @property
    def reconstruction_target(self) -> ReconstructionTarget:
        """What reconstruction restores.

        "pixels" are the normalised image's, predicted as their difference from an interpolation of visible patches;
        "plain_pixels" the same, predicted as they are; "normalised_patches" are normalised once more patch by patch.
        """
        return "pixels"

    @final
    def apply(self, backbone: Backbone) -> None:
        """Freeze the backbone, remember which parameters hold pretrained weights, and adapt it.

        Args:
            backbone: The pretrained backbone; changed in place.

        Raises:
            SpectralBenchError: If :meth:`adapt` returns something, such as a backbone that nobody would use.
        """
        backbone.requires_grad_(False)
        backbone.pretrained_parameters = frozenset(
            id(p) for name, p in backbone.named_parameters() if name not in backbone.drawn
        )
        # A parameter that `adapt` replaces must outlive it, or a new one may get its identity and pass for pretrained.
        backbone.kept_alive = tuple(backbone.parameters())
        try:
            returned: object = self.adapt(backbone)
        except SpectralBenchError:
            raise
        except Exception as error:
            raise _at_fault(type(self).__name__, "fails to adapt the backbone", error) from error
        if returned is not None:
            raise SpectralBenchError(
                f"{type(self).__name__}.adapt returns a {type(returned).__name__}; let it change the backbone that it "
                "is given and return nothing"
            )


class Classifier(Protocol):
    """What every classifier and pipeline of scikit-learn offers, and all that is asked of one."""

    def fit(self, spectra: np.ndarray, labels: np.ndarray) -> Any:
        """Learn from N x C float32 reflectance and N class ids."""

    def predict(self, spectra: np.ndarray) -> np.ndarray:
        """Return the class ids of N x C float32 reflectance."""


@dataclasses.dataclass
class PixelModel(AnyMethod):
    """A model without a backbone: it knows a pixel by its spectrum alone, and nothing but source pixels trained it.

    What is learned from pretraining or from a pixel's surroundings has to show by being better. Subclass as a
    dataclass like a :class:`Method`. Which tiles train, which are scored and what is recorded are the bench's.

    Attributes:
        pixels: How many labelled source pixels are drawn to learn from, the same number of every training tile.
    """

    runner: ClassVar[str] = "spectral_tl_bench.runs.pixels:PixelRunner"

    pixels: Annotated[int, Field(gt=0)] = 30_000

    @abc.abstractmethod
    def classifier(self, seed: int) -> Classifier:
        """Return an untrained classifier with scikit-learn's ``fit`` and ``predict``.

        Args:
            seed: The run's; gives every random choice of the classifier.
        """


def _at_fault(name: str, how: str, error: Exception) -> PluginError:
    return PluginError(f"method {name} {how}: {type(error).__name__}: {error}")


def all_method_names() -> list[str]:
    """Names of everything installed that ``--method`` can name, whether or not it can be imported."""
    return METHODS.names()


def method_names() -> list[str]:
    """Names of every installed method that adapts a backbone."""
    return [name for name in METHODS.usable()[0] if issubclass(method_class(name), Method)]


def method_options(name: str) -> dict[str, str]:
    """Hyper-parameters of a method with their defaults as text, without importing it where its source text is enough.

    Raises:
        PluginError: If it is a plugin that cannot be imported.
    """
    bases: dict[str, type[AnyMethod]] = {"Method": Method, "PixelModel": PixelModel}
    entry = METHODS.built_in.get(name)
    if entry is not None and set(entry.bases) <= set(bases) and (own := entry.fields()) is not None:
        return {option: value for base in entry.bases for option, value in _defaults(bases[base]).items()} | own
    return _defaults(method_class(name))


def _defaults(cls: type[AnyMethod]) -> dict[str, str]:
    return {field.name: str(field.default) for field in dataclasses.fields(cls) if field.init}


def method_class(name: str) -> type[AnyMethod]:
    """Find a method by its registered name or as ``path/to/file.py:ClassName``.

    Args:
        name: What the user typed after ``--method``.

    Raises:
        UnknownNameError: If no installed method has that name.
        SpectralBenchError: If the file or class cannot be used.
    """
    cls = METHODS.load(name)
    if not (isinstance(cls, type) and issubclass(cls, AnyMethod)):
        raise SpectralBenchError(
            f"{name} is not a Method: let it subclass Method or PixelModel of spectral_tl_bench.methods"
        )
    if not dataclasses.is_dataclass(cls) or "__dataclass_fields__" not in vars(cls):
        raise SpectralBenchError(f"{name} must carry the @dataclass decorator, so that its options are known")
    return cls


def adapting_class(name: str) -> type[Method]:
    """As :func:`method_class`, for a method that adapts a backbone."""
    cls = method_class(name)
    if not issubclass(cls, Method):
        raise SpectralBenchError(f"{name} has no backbone to adapt; name a method that has")
    return cls


def build_method(name: str, options: dict[str, Any] | None = None) -> Method:
    """Make a method that adapts a backbone; see :func:`build_any_method`."""
    adapting_class(name)
    return cast(Method, build_any_method(name, options))


def build_any_method(name: str, options: dict[str, Any] | None = None) -> AnyMethod:
    """Make a method of any kind, with its hyper-parameters set and validated.

    Args:
        name: Registered name or ``file.py:ClassName``.
        options: Hyper-parameters by name; text is converted to the field's type.

    Raises:
        SpectralBenchError: If an option is unknown or has a value its field does not take.
    """
    cls = method_class(name)
    options = dict(options or {})
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for option in options:
        if option not in known:
            raise UnknownNameError(
                f"option of method {name}:", option, known, f"it has: {', '.join(known) or 'no options'}"
            )
    try:
        method: AnyMethod = TypeAdapter(cls).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpectralBenchError(f"option {where} of method {name}: {first['msg']}, not {first['input']!r}") from error
    except Exception as error:
        raise _at_fault(name, "cannot be made with these options", error) from error
    return method
