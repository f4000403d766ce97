"""Downloading an archive from the Hugging Face repository of the SpectralX authors.

Everything is fetched, verified and unpacked in a hidden folder first and moved into place at the end, so that no run
ever takes half an archive for a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

from spectral_tl_bench.datasets.archives.extract import is_archive, unpack
from spectral_tl_bench.utils.errors import DataError, UnknownNameError
from spectral_tl_bench.utils.paths import path_inside
from spectral_tl_bench.utils.validation import parse_json

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

REPOSITORY = "YuxiangZhang-BIT/SpectralX_datasets"

PATTERNS = {"whuohs": ("whu", "transfer-stall"), "dfc2020": ("dfc", "rois0000"), "mts12": ("mts", "eopatch")}
"""Text that marks a repository's file as one of an archive, in any letter case. The names in the repository are not
documented, so these are guesses from the archives' names."""

FOLDERS = {
    "whuohs": ("tr", "ts"),
    "dfc2020": ("spring", "summer", "autumn", "winter", "trainset", "testset"),
    "mts12": (),
}
"""Folders (or packed folders) of each archive as it is shipped, should the repository hold them at its top."""

_NOT_UNPACKED = re.compile(r"\.(rar|7z|z\d\d|(zip|7z|tar|tgz|gz|bz2|xz)\.\w+|part\w*)$", re.IGNORECASE)
"""Endings of what is packed in parts or by other programs; ``.tar.gz`` and its like are told apart first."""

_ATTEMPTS = 5

# A broken connection loses the chunk it was in.
_CHUNK = 1 << 16

# Whatever HTTP library the installed hub client uses, its connection errors share this base.
_TRANSPORT_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)


def download(dataset: str, root: str | Path) -> Path:
    """Fetch, verify and unpack an archive; an interrupted download goes on where it stopped.

    ``HF_ENDPOINT`` names a mirror of the hub, as for any other use of its client.

    Args:
        dataset: whuohs, dfc2020 or mts12.
        root: Folder for the archive; what it already holds stays.

    Returns:
        The folder.

    Raises:
        UnknownNameError: If no dataset of that name can be downloaded.
        DataError: If there is no network, the repository holds nothing of the archive, or a file is damaged.
    """
    if dataset not in PATTERNS:
        hint = f"choose one of {', '.join(PATTERNS)}; your own tiles you put under their root by hand"
        raise UnknownNameError("downloadable dataset", dataset, PATTERNS, hint)
    root = Path(root).expanduser()
    receipt = root / ".spectral_tl_bench" / f"downloaded-{dataset}.json"
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is no folder; name the folder to unpack into")
    if _is_complete(receipt, root):
        return root
    staging = root / ".spectral_tl_bench" / f"download-{dataset}"
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint).dataset_info(REPOSITORY, files_metadata=True)
        wanted = _select(dataset, info.siblings or [])
        for entry in wanted:
            # By revision, so that the halves of a file never come from two versions of it.
            target = staging / str(info.sha) / entry.rfilename
            if not target.exists():
                url = hf_hub_url(REPOSITORY, entry.rfilename, repo_type="dataset", revision=info.sha, endpoint=endpoint)
                _fetch(url, target, entry)
    except _TRANSPORT_ERRORS as error:
        raise DataError(_by_hand(dataset, root, error)) from error
    finished = _unpack_all(staging / str(info.sha), staging / "unpacked", [entry.rfilename for entry in wanted])
    sizes = _move_into_place(finished, root)
    receipt.write_text(json.dumps({"revision": info.sha, "files": sizes}, indent=1), encoding="utf-8")
    shutil.rmtree(staging)
    return root


def _select(dataset: str, entries: list[RepoSibling]) -> list[RepoSibling]:
    wanted = [entry for entry in entries if _belongs(dataset, entry.rfilename.lower())]
    if not wanted:
        held = ", ".join(entry.rfilename for entry in entries[:20]) or "no file"
        raise DataError(
            f"{REPOSITORY} holds nothing whose name contains {' or '.join(PATTERNS[dataset])}, but: {held}; "
            "download the right files by hand and unpack them under the root"
        )
    unsafe = [entry.rfilename for entry in wanted if path_inside(Path(), entry.rfilename) is None]
    if unsafe:
        raise DataError(f"{REPOSITORY} lists {unsafe[0]!r}, a path that leaves the folder; nothing was downloaded")
    foreign = [name for name in (entry.rfilename for entry in wanted) if _NOT_UNPACKED.search(name)]
    foreign = [name for name in foreign if not is_archive(name)]
    if foreign:
        raise DataError(
            f"{foreign[0]} is packed in parts or in a way that is not unpacked here; fetch it from "
            f"https://huggingface.co/datasets/{REPOSITORY}, unpack it under the root by hand, nothing was downloaded"
        )
    return wanted


def _belongs(dataset: str, name: str) -> bool:
    top = name.partition("/")[0].partition(".")[0]
    return any(pattern in name for pattern in PATTERNS[dataset]) or top in FOLDERS[dataset]


def _fetch(url: str, target: Path, entry: RepoSibling) -> None:
    """Fetch one file beside its place, going on from what an earlier call left, and move it there once verified."""
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    fruitless = 0
    while fruitless < _ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        if entry.size is not None and before >= entry.size:
            break
        try:
            _receive(url, part, before)
            if entry.size is None:
                break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            # Hours of transfer break off now and then; give up only when nothing comes any more.
            fruitless = 0 if part.exists() and part.stat().st_size > before else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise
    _verify(part, entry)
    part.replace(target)


def _receive(url: str, part: Path, start: int) -> None:
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        response.raise_for_status()
        # A server that knows no ranges sends the file from its beginning.
        with part.open("ab" if response.status_code == requests.codes.partial_content else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)


def _verify(part: Path, entry: RepoSibling) -> None:
    size = part.stat().st_size
    problem = f"is {size} bytes where {entry.size} are expected" if entry.size not in (None, size) else None
    if problem is None and entry.lfs is not None:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        problem = "does not have the published SHA-256" if digest != entry.lfs.sha256 else None
    if problem is not None:
        # What is damaged must not be continued next time.
        part.unlink()
        raise DataError(f"{entry.rfilename} {problem}; it was removed, start the download again")


def _by_hand(dataset: str, root: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"cannot download {dataset} ({reason}): on a machine with network fetch the files of "
        f"https://huggingface.co/datasets/{REPOSITORY} whose names contain {' or '.join(PATTERNS[dataset])}, "
        f"and unpack them under {root}"
    )


def _unpack_all(fetched: Path, folder: Path, names: list[str]) -> dict[str, Path]:
    """Unpack what is packed; return where each file of the archive now lies, by its path below the root."""
    # What an interrupted call unpacked may be half a file.
    shutil.rmtree(folder, ignore_errors=True)
    loose = {}
    for name in names:
        if is_archive(name):
            unpack(fetched / name, folder)
        else:
            loose[name] = fetched / name
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()} | loose


def _move_into_place(files: dict[str, Path], root: Path) -> dict[str, int]:
    """Move files to their paths below the root and return their sizes."""
    sizes = {}
    for relative, path in files.items():
        target = root / relative
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            raise DataError(f"cannot put {relative} under {root}: {error}") from error
        sizes[relative] = target.stat().st_size
    return sizes


def _is_complete(receipt: Path, root: Path) -> bool:
    """Whether an earlier download left its receipt and every file that it lists."""
    try:
        files = parse_json(receipt.read_bytes())["files"]
        return all((root / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
