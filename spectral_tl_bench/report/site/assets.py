"""Files that pages use, named by their digest, so that equal records give equal folders."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import read_regular_file

FOLDER = "assets"
_DIGITS = 16
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_BYTES = 64 * 2**20
"""Of a picture."""
_PNG_HEADER = 24
"""Bytes up to and with width and height."""

# A page opened from a file may not import a module from one, but from a blob; the library is there as text.
_START = """const address = URL.createObjectURL(new Blob([library], {type: "text/javascript"}));
import(address).then(({ITable}) => {
  URL.revokeObjectURL(address);
  for (const table of document.querySelectorAll("table.sortable")) {
    const long = table.tBodies[0].rows.length > 50;
    new ITable(table, {
      classes: ["hover"],
      order: [],
      autoWidth: false,
      paging: long,
      pageLength: 50,
      lengthMenu: [50, 200, {label: "all", value: -1}],
      layout: {
        topStart: table.tBodies[0].rows.length > 5 ? "search" : null,
        topEnd: long ? "pageLength" : null,
        bottomStart: long ? "info" : null,
        bottomEnd: long ? "paging" : null,
      },
      language: {search: "filter"},
    });
  }
  document.documentElement.dataset.tables = "ready";
});
"""


@dataclass(frozen=True)
class Picture:
    """A picture on a page: what it is called, its file, its size in pixels so that nothing moves while it loads."""

    name: str
    path: str
    width: int
    height: int


@dataclass
class Assets:
    """Collects files; each is kept once.

    Attributes:
        content: What to write, by path relative to the pages.
    """

    content: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes, suffix: str) -> str:
        """Keep a file and return its path relative to the pages."""
        path = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:_DIGITS]}{suffix}"
        self.content[path] = data
        return path

    def picture(self, path: Path, name: str) -> Picture | None:
        """Keep a copy of a PNG file; None if it is none."""
        try:
            data = read_regular_file(path, _MOST_BYTES)
        except OSError:
            return None
        if not data.startswith(_PNG) or len(data) < _PNG_HEADER:
            return None
        width, height = struct.unpack(">II", data[_PNG_HEADER - 8 : _PNG_HEADER])
        return Picture(name, self.add(data, ".png"), width, height)


def _bundled(name: str) -> str:
    """A file of DataTables as itables bundles it; importing itables would start IPython."""
    spec = find_spec("itables")
    if spec is None or spec.submodule_search_locations is None:
        raise RecordError("the package itables is not installed, which brings the sortable tables: pip install itables")
    return (Path(spec.submodule_search_locations[0]) / "html" / name).read_text(encoding="utf-8")


def styles() -> list[bytes]:
    """Style sheets: DataTables' first, so that ours wins."""
    own = files("spectral_tl_bench.report.site").joinpath("style.css").read_bytes()
    return [_bundled("dt_bundle.css").encode(), own]


def script() -> bytes:
    """DataTables, and what makes every table of the class ``sortable`` one of its."""
    return f"{{\nconst library = {json.dumps(_bundled('dt_bundle.js'))};\n{_START}}}\n".encode()
