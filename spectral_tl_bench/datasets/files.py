"""Finding an archive's files and pairing each image with its label, whatever the layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from spectral_tl_bench.errors import DataError

Role = Literal["image", "label"]
ProblemKind = Literal["unpaired", "duplicate", "misplaced", "unreadable", "bands", "size", "codes"]

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
    visited: set[str] = set()

    def below(folder: str, folders: tuple[str, ...]) -> Iterator[FoundFile]:
        # A link that leads back up would otherwise never end.
        real = os.path.realpath(folder)
        if real in visited:
            return
        visited.add(real)
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
                yield from below(entry.path, (*folders, entry.name.lower()))
            elif suffix.lower() in suffixes:
                yield FoundFile(entry.path, folders, stem, suffix.lower())

    start = os.path.abspath(root)
    return list(below(start, ())) if os.path.isdir(start) else []


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


def find_pairs(
    root: Path, suffixes: Collection[str], classify: Callable[[FoundFile], tuple[Role, Key] | None]
) -> tuple[dict[Key, tuple[FoundFile, FoundFile]], list[Problem]]:
    """Pair images with labels.

    Args:
        root: Folder of the archive.
        suffixes: Suffixes of its files, in lower case.
        classify: Says of a file whether it is an image or a label and of which tile, or None for any other file.

    Returns:
        Image and label of each complete tile, and a problem for each file that has no partner or occurs twice.
    """
    found: dict[Role, dict[Key, FoundFile]] = {"image": {}, "label": {}}
    problems: list[Problem] = []
    for file in walk(root, suffixes):
        classified = classify(file)
        if classified is None:
            continue
        role, key = classified
        first = found[role].setdefault(key, file)
        if first is not file:
            message = f"{file.path} is the same tile as {first.path}; keep one copy, or point the root at one of them"
            problems.append(Problem("duplicate", file.path, message))
    partners: tuple[tuple[Role, Role], ...] = (("image", "label"), ("label", "image"))
    for role, partner in partners:
        for key, file in found[role].items():
            if key not in found[partner]:
                message = f"{file.path} has no {partner}; restore its {partner} from the archive, or remove the file"
                problems.append(Problem("unpaired", file.path, message))
    pairs = {key: (image, found["label"][key]) for key, image in found["image"].items() if key in found["label"]}
    return pairs, problems
