"""Protocols: which tiles train, which test, and how the test tiles are grouped. Read from YAML.

The same reader serves the files shipped in ``benchmarks/`` and a file that a user writes; docs/protocols.md explains
the format for the person who writes one.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from spectral_tl_bench.config.domains import Transfer
from spectral_tl_bench.config.tile_folder import TileFolder
from spectral_tl_bench.sensors import BandSelection, Sensor, UnreadSensor, select_bands
from spectral_tl_bench.sensors.classes import IGNORE_INDEX, LandClass, default_color
from spectral_tl_bench.utils.errors import ProtocolError, UnknownNameError, first_problem
from spectral_tl_bench.utils.hashing import text_digest
from spectral_tl_bench.utils.registry import short_name, split_file
from spectral_tl_bench.utils.validation import Value, names_yaml, read_mapping

if TYPE_CHECKING:
    import pandas as pd

Code = Annotated[int, Field(ge=-(2**63), lt=2**64)]
"""A label code on disk, of any integer type."""

ALL = "all"

_MOST_BANDS = 10_000

TRANSFERS = (
    "dfc_season/autumn",
    "dfc_season/spring",
    "dfc_season/summer",
    "dfc_season/winter",
    "mts12_region/n2s",
    "mts12_region/s2n",
    "whu_region/s2t",
    "whu_region/t2s",
)
"""The eight transfers that a mean over all transfers is made from. A protocol added to ``benchmarks/`` is not
among them unless it is named here: a mean over nine would not compare with one over eight."""


class ProtocolFile(Value):
    """A whole YAML file; see docs/protocols.md.

    Attributes:
        version: Raised when a change of the file changes scores, so that tables show which protocol they are of.
    """

    version: int = Field(default=1, ge=1, strict=True)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    dataset: str
    sensor: Sensor | UnreadSensor | None = None
    bands: BandSelection | None = None
    classes: tuple[LandClass, ...] | None = Field(default=None, min_length=1, max_length=IGNORE_INDEX)
    ignore: Literal["rest"] | tuple[Code, ...] = ()
    folder: TileFolder | None = None
    protocols: dict[str, Transfer] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _single_transfer(cls, value: Any) -> Any:
        """A file with one transfer may write ``source``, ``target`` and ``by`` at the top level."""
        if isinstance(value, dict) and "source" in value and "protocols" not in value:
            value = dict(value)
            transfer = {k: value.pop(k) for k in ("source", "target", "by", "tiles") if k in value}
            value["protocols"] = {"": transfer}
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_with_colors(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [
            {**c, "color": default_color(position)} if isinstance(c, dict) and c.get("color") is None else c
            for position, c in enumerate(value)
        ]

    @field_validator("sensor", mode="before")
    @classmethod
    def _sensor_with_or_without_bands(cls, value: Any) -> Sensor | UnreadSensor | None:
        """Accept ``bands: {blue: 490, green: 560}`` beside the full list, and none where the files say them."""
        if value is None or isinstance(value, Sensor | UnreadSensor):
            return value
        if not isinstance(value, dict):
            raise ValueError("it must be a mapping with 'name' and what is known of the bands")
        if "wavelengths" in value:
            if "bands" in value:
                raise ValueError("give either 'bands' or 'wavelengths'")
            bands = [{"name": f"B{n}", "wavelength": w} for n, w in enumerate(_centres(value["wavelengths"]), start=1)]
            value = {**{key: v for key, v in value.items() if key != "wavelengths"}, "bands": bands}
        if isinstance(value.get("bands"), dict):
            value = {**value, "bands": [{"name": str(n), "wavelength": w} for n, w in value["bands"].items()]}
        try:
            return Sensor.model_validate(value) if "bands" in value else UnreadSensor.model_validate(value)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    @model_validator(mode="after")
    def _own_tiles_are_described(self) -> ProtocolFile:
        if self.dataset == "tiles":
            missing = [field for field in ("sensor", "classes") if getattr(self, field) is None]
            if missing:
                raise ValueError(f"a protocol of your own tiles must describe: {', '.join(missing)}")
        elif any(getattr(self, field) is not None for field in ("sensor", "bands", "classes", "folder")):
            raise ValueError(
                f"sensor, bands, classes and folder belong to 'dataset: tiles'; {self.dataset} brings its own"
            )
        if self.bands is not None and isinstance(self.sensor, Sensor):
            try:
                select_bands(self.sensor, self.bands)
            except ProtocolError as error:
                raise ValueError(str(error)) from error
        if self.bands is not None and any(d.bands for t in self.protocols.values() for d in (t.source, t.target)):
            raise ValueError("'bands' stands at the top and under source or target; give those of either side alone")
        if self.classes is not None:
            codes = [c.code for c in self.classes]
            if len(set(codes)) != len(codes):
                raise ValueError("class codes occur twice")
            both = set(codes) & set(self.ignore if self.ignore != "rest" else ())
            if both:
                raise ValueError(f"codes {sorted(both)} are both a class and ignored")
        return self


def _centres(wavelengths: Any) -> list[Any]:
    """The list of centres in nm, or those that ``{first: 430, last: 860, number: 103}`` spaces evenly."""
    if isinstance(wavelengths, list):
        return wavelengths
    fields = ("first", "last", "number")
    if not isinstance(wavelengths, dict) or set(wavelengths) != {*fields}:
        raise ValueError("wavelengths: give a list of nm, or {first: 430, last: 860, number: 103}")
    first, last, number = (wavelengths[field] for field in fields)
    if not isinstance(number, int) or not 2 <= number <= _MOST_BANDS:
        raise ValueError(f"wavelengths: number must be from 2 to {_MOST_BANDS}")
    if not all(isinstance(w, int | float) for w in (first, last)):
        raise ValueError("wavelengths: first and last are numbers of nm")
    return [round(first + (last - first) * step / (number - 1), 3) for step in range(number)]


class Protocol(Value):
    """One transfer with everything that its file says: the unit that a run trains and scores.

    Attributes:
        name: ``group/member``, or the file's name where it has a single transfer.
        file: The file it comes from; carries the sensor and classes of a user's own tiles.
        transfer: Source, target and sub-domains.
    """

    name: str
    file: ProtocolFile
    transfer: Transfer

    @property
    def group(self) -> str:
        """Name of the protocol's file."""
        return self.file.name

    @property
    def title(self) -> str:
        """Heading of its tables."""
        return self.transfer.title or self.file.title

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of what trains and scores: no titles, names or colours."""
        file = self.file
        content = {
            "dataset": short_name(file.dataset),
            "sensor": None
            if file.sensor is None
            else file.sensor.model_dump(mode="json", exclude={"rgb"}, exclude_defaults=True),
            "classes": None if file.classes is None else [c.code for c in file.classes],
            "ignore": file.ignore,
            "folder": None if file.folder is None else file.folder.model_dump(exclude_defaults=True),
            "transfer": self.transfer.model_dump(exclude={"title", "tiles"}, exclude_defaults=True),
            # A file of before bands could be chosen is the same protocol still.
            **({} if file.bands is None else {"bands": file.bands}),
            **({} if file.version == 1 else {"version": file.version}),
        }
        return text_digest(json.dumps(content, sort_keys=True))


def read_protocol_file(path: Path) -> ProtocolFile:
    """Read and validate one YAML file.

    Args:
        path: The file.

    Raises:
        ProtocolError: If it is missing, no YAML, or does not follow the format; the message names the field.
    """
    read = partial(
        read_mapping, path, "protocol file", "docs/protocols.md shows a complete example", error_type=ProtocolError
    )
    content = _with_values_as_text(read(), read(as_text=True))
    content.setdefault("name", path.stem.lower().replace("-", "_").replace(" ", "_"))
    file, attribute = split_file(str(content.get("dataset", "")))
    if file is not None:
        # A dataset in a file of its own is looked for beside the protocol, wherever the command runs.
        content["dataset"] = f"{(path.parent / file).resolve()}:{attribute}"
    try:
        return ProtocolFile.model_validate(content)
    except ValidationError as error:
        raise ProtocolError(f"{path}: {first_problem(error)} (docs/protocols.md explains the format)") from error


def _with_values_as_text(typed: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """Take what selects tiles as the text in the file: YAML reads 06 as 6 and NO as False, and no tile has these."""
    content = dict(typed)
    for field in ("source", "target", "by"):
        if isinstance(text.get(field), dict) and isinstance(content.get(field), dict):
            bands = {"bands": content[field]["bands"]} if "bands" in content[field] else {}
            content[field] = text[field] | bands
        elif field == "by" and isinstance(text.get(field), str):
            content[field] = text[field]
    members = content.get("protocols")
    if isinstance(members, dict) and isinstance(text.get("protocols"), dict):
        # Both readings have the keys in the same order; a key such as ``no`` is a text in one of them.
        if len(members) != len(text["protocols"]):
            raise ProtocolError("two transfers under 'protocols' have the same name")
        content["protocols"] = {
            name: _with_values_as_text(member, below) if isinstance(member, dict) else member
            for member, (name, below) in zip(members.values(), text["protocols"].items(), strict=True)
        }
    return content


def protocols_of(file: ProtocolFile) -> list[Protocol]:
    """Every transfer of a file as a protocol of its own."""
    return [
        Protocol(name=f"{file.name}/{member}" if member else file.name, file=file, transfer=transfer)
        for member, transfer in file.protocols.items()
    ]


def selection_notes(file: ProtocolFile, index: pd.DataFrame) -> list[str]:
    """Name every value in a file's sources and targets that no tile has.

    Args:
        file: The protocol file.
        index: Tile index of its dataset, every split.
    """
    sides = (side for transfer in file.protocols.values() for side in (transfer.source, transfer.target))
    return list(dict.fromkeys(note for side in sides for note in side.unmatched(index)))


def shipped_protocols() -> dict[str, Protocol]:
    """Every protocol of the installed ``benchmarks/*.yaml``, by name, in the order of the files' names."""
    folder = Path(str(files("spectral_tl_bench.benchmarks")))
    found = (_read_shipped(path, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.yaml")))
    return {protocol.name: protocol for protocols in found for protocol in protocols}


def protocols_about(dataset: str) -> list[Protocol]:
    """The shipped protocols about an archive."""
    return [protocol for protocol in shipped_protocols().values() if protocol.file.dataset == dataset]


@lru_cache
def _read_shipped(path: Path, changed: int) -> tuple[Protocol, ...]:
    """Each file once as long as it does not change: a suite asks for protocols as often as it has runs."""
    return tuple(protocols_of(read_protocol_file(path)))


def load_protocols(name: str) -> list[Protocol]:
    """Resolve what a user calls a protocol.

    Args:
        name: ``group/member``, ``group``, ``all`` (every protocol about a published archive), or the path of a YAML
            file, with ``:member`` to pick one of its transfers.

    Returns:
        The protocols meant, at least one.

    Raises:
        UnknownNameError: If no protocol has that name.
        ProtocolError: If it is a file that cannot be used.
    """
    path, colon, member = name.partition(":")
    if names_yaml(path):
        protocols = protocols_of(read_protocol_file(Path(path)))
        if not colon:
            return protocols
        chosen = [p for p in protocols if p.name.endswith(f"/{member}")]
        if not chosen:
            raise UnknownNameError(
                "protocol", member, [p.name.partition("/")[2] for p in protocols], f"{path} does not define it"
            )
        return chosen
    shipped = shipped_protocols()
    if name == ALL:
        # Of archives that there are: nobody who names a root has one that is only simulated.
        return [protocol for protocol in shipped.values() if protocol.transfer.tiles is not None]
    chosen = [p for p in shipped.values() if name in (p.name, p.group)]
    if not chosen:
        known = [ALL, *shipped, *{p.group for p in shipped.values()}]
        raise UnknownNameError("protocol", name, known, "run `spectral-bench protocols` to see them all")
    return chosen
