import hashlib
import io
import json
import shutil
import socket
import stat
import tarfile
import threading
import zipfile
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from archives import write_dfc2020, write_dfc2020_release, write_mts12, write_whuohs, write_whuohs_release
from rich.console import Console

from spectral_tl_bench.cli import archive_commands
from spectral_tl_bench.datasets.archives.download import REPOSITORY, download
from spectral_tl_bench.datasets.archives.extract import unpack
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.utils.errors import DataError, SpectralBenchError, UnknownNameError

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub with one dataset repository, on loopback: the listing and the files, with ranges.

    ``cut`` ends the connection at that byte of a file, ``piece`` after so many bytes of every answer.
    """

    def __init__(self):
        self.files = {}
        self.requests = []
        self.sha256 = {}
        self.cut = {}
        self.piece = None
        self.ranges = True
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def reply(self, status, body=b"", end=None, **headers):
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body[:end])
                # Closing before all that was announced is what a broken connection looks like.
                self.close_connection = True

            def do_GET(self):
                path = unquote(urlsplit(self.path).path)
                hub.requests.append((self.command, path, self.headers.get("Range")))
                if path.startswith(f"/api/datasets/{REPOSITORY}"):
                    self.reply(200, json.dumps(hub.listing()).encode(), **{"Content-Type": "application/json"})
                    return
                name = path.removeprefix(f"/datasets/{REPOSITORY}/resolve/{REVISION}/")
                if name not in hub.files:
                    self.reply(404)
                    return
                content = hub.files[name]
                wanted = self.headers.get("Range") if hub.ranges else None
                start = int((wanted or "bytes=0-").removeprefix("bytes=").split("-")[0])
                body, headers = content[start:], {}
                if wanted:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                end = hub.cut.get(name, start + hub.piece if hub.piece else len(content))
                self.reply(206 if wanted else 200, body, end=max(end - start, 0), **headers)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def listing(self):
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "lfs": {
                    "sha256": self.sha256.get(name, hashlib.sha256(content).hexdigest()),
                    "size": len(content),
                    "pointerSize": 130,
                },
            }
            for name, content in self.files.items()
        ]
        return {"_id": "1", "id": REPOSITORY, "sha": REVISION, "siblings": siblings, "private": False, "tags": []}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(monkeypatch):
    served = Hub()
    monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
    yield served
    served.close()


def zipped(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def tarred(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


@pytest.fixture
def packed(tmp_path):
    return zipped(write_whuohs(tmp_path / "original", {"tr": ("S1_0001",), "ts": ("T1_0001",)}))


def test_a_zip_is_fetched_unpacked_and_readable(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed, "DFC2020.zip": b"not ours", "README.md": b"text"}
    root = download("whuohs", tmp_path / "root")
    assert root == tmp_path / "root"
    assert len(WHUOHS(root)) == 2
    fetched = {path.rsplit("/", 1)[1] for method, path, _ in hub.requests if method == "GET" and "resolve" in path}
    assert fetched == {"WHU-OHS.zip"}


@pytest.mark.parametrize(
    ("name", "write", "archive"),
    [("dfc2020", write_dfc2020, "data/dfc2020.tar.gz"), ("mts12", write_mts12, "MTS12.tgz")],
)
def test_tar_files_are_unpacked(hub, tmp_path, name, write, archive):
    hub.files = {archive: tarred(write(tmp_path / "original"))}
    root = download(name, tmp_path / "root")
    original = {p.relative_to(tmp_path / "original") for p in (tmp_path / "original").rglob("*") if p.is_file()}
    assert {p.relative_to(root) for p in root.rglob("*") if p.is_file() and ".spectral" not in str(p)} == original


def by_folder(folder):
    """Pack each top folder by itself, as large archives are."""
    packed = {}
    for top in sorted(path for path in folder.iterdir() if path.is_dir()):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted(p for p in top.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(folder))
        packed[f"{top.name}.zip"] = buffer.getvalue()
    return packed


def loose(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_one(folder):
    return {f"{folder.name}.zip": zipped(folder)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Archives by who writes them, each written once, and what the check says of one."""
    folder = tmp_path_factory.mktemp("written")

    @cache
    def archive(write, name):
        return write(folder / write.__name__ / name)

    @cache
    def report(write, name):
        # Of a copy: the check leaves its index in the folder.
        copy = shutil.copytree(archive(write, name), folder / "checked" / write.__name__)
        return check_archive(name, copy)

    return archive, report


@pytest.mark.parametrize("pack", [loose, by_folder, in_one])
@pytest.mark.parametrize(
    ("name", "write"),
    [("whuohs", write_whuohs_release), ("dfc2020", write_dfc2020_release), ("mts12", write_mts12)],
)
def test_what_a_download_of_the_re_release_leaves_passes_the_check(hub, tmp_path, written, name, write, pack):
    archive, report_of = written
    for other, write_other in (
        ("WHUOHS", write_whuohs),
        ("DFC2020", write_dfc2020),
        ("MTS12", write_mts12),
    ):
        if other.lower() != name:
            small = archive(write_other, other)
            hub.files |= {f"{other}/{path}": content for path, content in loose(small).items()}
    held = pack(archive(write, name))
    # Folders named train and val say nothing of their archive; only the files within do.
    hub.files |= {f"MTS12/{path}": content for path, content in held.items()} if name == "mts12" else held
    hub.files |= {"README.md": b"4821 tr, 2459 ts", ".gitattributes": b""}
    root = download(name, tmp_path / "root")
    report = check_archive(name, root)
    assert report.ok
    assert report.tiles == report_of(write, name).tiles > 0
    assert report.notes == report_of(write, name).notes


@pytest.mark.parametrize("packed_as", ["WHU.zip.001", "whu.z01", "WHU.part1.rar", "whu.tar.gz.aa", "whu.7z"])
def test_an_archive_in_parts_or_of_another_packer_is_refused_before_it_is_fetched(hub, tmp_path, packed_as):
    hub.files = {packed_as: b"x" * 100}
    with pytest.raises(DataError, match=r"unpack it under the root by hand, nothing was downloaded"):
        download("whuohs", tmp_path / "root")
    assert not any("resolve" in path for _, path, _ in hub.requests)


def test_the_command_says_how_many_tiles_it_left_and_what_to_know(hub, tmp_path):
    hub.files = by_folder(write_whuohs_release(tmp_path / "original"))
    console = Console(width=200, record=True, file=io.StringIO())
    archive_commands.download("whuohs", tmp_path / "root", console)
    said = console.export_text()
    assert "56 tiles" in said
    assert "note: 32 tiles lie in transfer-STall" in said


def test_a_download_without_any_tile_is_an_error(hub, tmp_path):
    hub.files = {"WHU-OHS/readme.pdf": b"x"}
    with pytest.raises(SpectralBenchError, match="none of it is a tile"):
        archive_commands.download("whuohs", tmp_path / "root", Console(file=io.StringIO()))


def test_loose_files_keep_their_paths(hub, tmp_path):
    original = write_whuohs(tmp_path / "original", {"tr": ("S1_0001",)})
    hub.files = {f"whu/{p.relative_to(original)}": p.read_bytes() for p in original.rglob("*.tif")}
    root = download("whuohs", tmp_path / "root")
    assert (root / "whu" / "tr" / "image" / "S1_0001.tif").is_file()
    assert len(WHUOHS(root)) == 1


def test_the_dataset_downloads_itself_when_asked_and_only_when_missing(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed}
    assert len(WHUOHS(tmp_path / "root", download=True)) == 2
    seen = len(hub.requests)
    assert len(WHUOHS(tmp_path / "root", download=True)) == 2
    assert len(hub.requests) == seen


def test_a_second_download_fetches_nothing_and_a_lost_tile_fetches_again(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed}
    root = download("whuohs", tmp_path / "root")
    seen = len(hub.requests)
    download("whuohs", root)
    assert len(hub.requests) == seen
    (root / "tr" / "image" / "S1_0001.tif").unlink()
    download("whuohs", root)
    assert (root / "tr" / "image" / "S1_0001.tif").is_file()


def test_an_interrupted_download_leaves_no_tile_and_goes_on_where_it_stopped(hub, tmp_path):
    first = zipped(write_whuohs(tmp_path / "a", {"tr": ("S1_0001",)}))
    second = zipped(write_whuohs(tmp_path / "b", {"ts": ("T1_0001",)}, size=128))
    hub.files = {"whu-1.zip": first, "whu-2.zip": second}
    kept = hub.cut["whu-2.zip"] = len(second) // 2
    root = tmp_path / "root"
    with pytest.raises(DataError, match="cannot download whuohs"):
        download("whuohs", root)
    assert not list(root.rglob("*.tif"))
    hub.cut.clear()
    hub.requests.clear()
    download("whuohs", root)
    ((name, start),) = [
        (path.rsplit("/", 1)[1], int(wanted[6:-1])) for _, path, wanted in hub.requests if "resolve" in path
    ]
    assert name == "whu-2.zip"
    assert kept - 2**16 < start <= kept
    assert len(WHUOHS(root)) == 2
    assert not list(root.rglob("*.zip*"))


def test_a_connection_that_breaks_again_and_again_is_taken_up_as_long_as_something_comes(hub, tmp_path):
    hub.files = {"WHU-OHS.zip": zipped(write_whuohs(tmp_path / "a", {"tr": ("S1_0001",)}, size=128))}
    hub.piece = 100_000
    assert len(WHUOHS(download("whuohs", tmp_path / "root"))) == 1
    assert len([path for _, path, _ in hub.requests if "resolve" in path]) > 8


def test_a_server_without_ranges_starts_again(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed}
    hub.cut["WHU-OHS.zip"] = len(packed) // 2
    with pytest.raises(DataError, match="cannot download"):
        download("whuohs", tmp_path / "root")
    hub.cut.clear()
    hub.ranges = False
    assert len(WHUOHS(download("whuohs", tmp_path / "root"))) == 2


def test_a_wrong_checksum_is_refused_and_the_file_removed(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed}
    hub.sha256["WHU-OHS.zip"] = "0" * 64
    with pytest.raises(DataError, match=r"WHU-OHS\.zip does not have the published SHA-256"):
        download("whuohs", tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*.zip"))


def test_a_repository_without_the_archive_lists_what_it_holds(hub, tmp_path):
    hub.files = {"other.zip": b"", "README.md": b""}
    with pytest.raises(DataError, match=r"whu or transfer-stall, but: other\.zip, README\.md"):
        download("whuohs", tmp_path)


def test_a_listed_path_that_leaves_the_folder_is_refused(hub, tmp_path):
    hub.files = {"../whu.zip": b"x"}
    with pytest.raises(DataError, match="leaves the folder"):
        download("whuohs", tmp_path / "root")
    assert not any("resolve" in path for _, path, _ in hub.requests)


def test_without_network_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DataError, match=f"huggingface.co/datasets/{REPOSITORY}.*unpack them under {tmp_path}") as error:
        download("whuohs", tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_zip_is_refused(hub, packed, tmp_path):
    hub.files = {"WHU-OHS.zip": packed[:-100]}
    with pytest.raises(DataError, match="cannot unpack"):
        download("whuohs", tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*.tif"))


def test_own_tiles_and_unknown_names_cannot_be_downloaded(tmp_path):
    with pytest.raises(UnknownNameError, match="by hand"):
        download("tiles", tmp_path)
    with pytest.raises(UnknownNameError, match="whuohs"):
        download("whuoh", tmp_path)


@pytest.mark.parametrize("name", ["../evil.tif", "/evil.tif", "a/../../evil.tif", "..\\evil.tif", "C:\\evil.tif"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_leave_the_folder_are_refused_before_anything_is_written(tmp_path, kind, name):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("good.tif", b"x")
            member = zipfile.ZipInfo("x")
            member.filename = name
            file.writestr(member, b"x")
    else:
        with tarfile.open(archive, "w") as file:
            for member_name in ("good.tif", name):
                member = tarfile.TarInfo(member_name)
                member.size = 1
                file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="leaves the folder"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_members_that_are_links_or_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("odd")
        member.type = kind
        member.linkname = "/etc/passwd"
        file.addfile(member)
    with pytest.raises(DataError, match="is a link or device"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_zip_members_that_are_links_are_refused(tmp_path):
    member = zipfile.ZipInfo("odd")
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
