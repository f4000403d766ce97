"""Finding an archive's files and pairing each image with its label, whatever the layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from spectral_tl_bench.utils.errors import DataError

Role = Literal["image", "label"]
ProblemKind = Literal[
    "unpaired", "duplicate", "misplaced", "unreadable", "bands", "size", "codes", "changed", "twice", "unusable"
]

TIFF = (".tif", ".tiff")


@dataclass(frozen=True)
class Problem:
    """Something that keeps a file from being used.

    Attributes:
        kind: What sort of problem it is.
        path: The file.
        message: One line that names the file, what is wrong and what to do.
    """

    kind: ProblemKind
    path: str
    message: str


@dataclass(frozen=True)
class Stored:
    """Where an image or a label map is stored.

    Attributes:
        name: What tells it from every other one of its role: the path of its file, and which part where it is one.
        files: Every file that its pixels come from.
        whole: Whether it is all that these files hold, so that their bytes tell what it is.
        read_as: What it is read with that may change while the files do not.
    """

    name: str
    files: tuple[str, ...]
    whole: bool
    read_as: str = ""


@dataclass(frozen=True)
class Listing:
    """What an archive's folders and file names tell, before any file is opened.

    Attributes:
        rows: One dict a tile.
        problems: What must be mended before the archive can be used.
        left_out: Files that are no part of a tile and do no harm, such as an image without a label.
        notes: What is worth knowing about these files.
        unknown: Attributes that these files do not tell, and what to do to learn them.
    """

    rows: list[dict[str, Any]]
    problems: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def raise_first(problems: Sequence[Problem]) -> None:
    """Refuse an archive that has problems.

    Raises:
        DataError: With the first problem and the number of others, if there is any.
    """
    if not problems:
        return
    others = len(problems) - 1
    more = f" ({len(problems)} such files in all; `spectral-bench data check` lists them)" if others else ""
    raise DataError(f"{problems[0].message}{more}")


@dataclass(frozen=True)
class FoundFile:
    """A file below an archive's root.

    Attributes:
        path: Absolute path.
        folders: Names of the folders between root and file, in lower case.
        stem: File name without its suffix, as written.
        suffix: Suffix in lower case, with its dot.
    """

    path: str
    folders: tuple[str, ...]
    stem: str
    suffix: str


def walk(root: Path, suffixes: Collection[str]) -> list[FoundFile]:
    """List the files below a folder by path; hidden ones are left out, linked folders are followed.

    Args:
        root: The folder; one that does not exist holds nothing.
        suffixes: Wanted suffixes in lower case; files may spell them in any case.

    Raises:
        DataError: If a folder cannot be listed.
    """

    def below(folder: str, folders: tuple[str, ...], above: frozenset[str]) -> Iterator[FoundFile]:
        # A link that leads back up would otherwise never end.
        real = os.path.realpath(folder)
        if real in above:
            return
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            raise DataError(f"cannot list {folder}: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            stem, suffix = os.path.splitext(entry.name)
            if entry.is_dir():
                yield from below(entry.path, (*folders, entry.name.lower()), above | {real})
            elif suffix.lower() in suffixes:
                yield FoundFile(entry.path, folders, stem, suffix.lower())

    start = os.path.abspath(root)
    return list(below(start, (), frozenset())) if os.path.isdir(start) else []


def role_by_folder(file: FoundFile, image: Collection[str]) -> Role | None:
    """Tell image from label by the nearest folder whose name says so.

    Args:
        file: The file.
        image: Names of image folders, in lower case; label folders are called "label".
    """
    for folder in reversed(file.folders):
        if folder in image:
            return "image"
        if folder == "label":
            return "label"
    return None


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Pairs(Generic[Key]):
    """Images with their labels.

    Attributes:
        tiles: Image and label of each complete tile.
        unpaired: A line for each file that has no partner.
        copies: Images whose tile has another image, which is read in their stead: (copy, image read).
    """

    tiles: dict[Key, tuple[FoundFile, FoundFile]]
    unpaired: list[Problem]
    copies: list[tuple[FoundFile, FoundFile]]


def find_pairs(
    root: Path,
    suffixes: Collection[str],
    classify: Callable[[FoundFile], tuple[Role, Key] | None],
    rank: Callable[[FoundFile], int] = lambda file: 0,
) -> Pairs[Key]:
    """Pair images with labels.

    Args:
        root: Folder of the archive.
        suffixes: Suffixes of its files, in lower case.
        classify: Says of a file whether it is an image or a label and of which tile, or None for any other file.
        rank: Which of several files of one tile and role is read: the lowest; among equals the first by its path.
    """
    found: dict[Role, dict[Key, list[FoundFile]]] = {"image": {}, "label": {}}
    for file in walk(root, suffixes):
        classified = classify(file)
        if classified is not None:
            role, key = classified
            found[role].setdefault(key, []).append(file)
    images, labels = (
        {key: min(files, key=lambda file: (rank(file), file.path)) for key, files in found[role].items()}
        for role in found
    )
    copies = [(file, images[key]) for key, files in found["image"].items() for file in files if file != images[key]]
    unpaired = [
        Problem("unpaired", file.path, f"{file.path} has no {partner}; restore its {partner}, or remove the file")
        for role, partner, others in (("image", "label", labels), ("label", "image", images))
        for key, files in found[cast(Role, role)].items()
        if key not in others
        for file in files
    ]
    tiles = {key: (image, labels[key]) for key, image in images.items() if key in labels}
    return Pairs(tiles, unpaired, copies)


def about_copies(copies: Sequence[tuple[FoundFile, FoundFile]], root: Path) -> list[str]:
    """Say once that tiles lie more than once under a root; nothing where none does."""
    if not copies:
        return []
    copy, read = (os.path.relpath(file.path, root) for file in copies[0])
    tiles = len({read.path for _, read in copies})
    return [f"{tiles} tiles lie more than once and count once each, for example {copy}, for which {read} is read"]
