"""Downloads from a server on this machine: whole, resumed, refused and damaged."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compress.data import download as module
from compress.data.download import download, download_nyu
from compress.errors import CompressError

BODY = bytes(i * i % 251 for i in range(300_000))
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
SHA = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``body``; the flags make it behave as servers sometimes do."""

    body = BODY
    etag = '"one"'
    ranges = True
    wrong_range = False
    break_after = 0  # bytes, once
    refuse: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.refusals: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range", "")
        server.asked.append(wanted)
        if server.refusals:
            self.send_error(server.refusals.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        same = self.headers.get("If-Range", server.etag) == server.etag
        if start and server.ranges and same:
            if start >= len(server.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            told = start + 1 if server.wrong_range else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {told}-{len(server.body) - 1}/*")
        else:
            start = 0
            self.send_response(200)
        rest = server.body[start:]
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.break_after:
            rest, server.break_after = rest[: server.break_after], 0
        self.wfile.write(rest)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_and_checked(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "new" / "f.bin"
    got = download(
        server.url, path, md5=MD5.upper(), sha256=SHA, progress=lambda *x: seen.append(x)
    )
    assert got == path and path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY)) and leftovers(path.parent) == ["f.bin"]
    download(server.url, path, md5=MD5)
    download(server.url, path)
    assert len(server.asked) == 1  # already here


def test_a_file_with_the_wrong_sum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(b"old")
    assert download(server.url, tmp_path / "f.bin", md5=MD5).read_bytes() == BODY


def test_a_broken_transfer_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = 100_000
    download(server.url, tmp_path / "f.bin", md5=MD5, pause=0.01)
    assert server.asked == ["", "bytes=100000-"]
    assert (tmp_path / "f.bin").read_bytes() == BODY and leftovers(tmp_path) == ["f.bin"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = 70_000
    with pytest.raises(CompressError, match=r"broke off.*try again later"):
        download(server.url, tmp_path / "f.bin", retries=0)
    assert leftovers(tmp_path) == ["f.bin.part", "f.bin.part.json"]
    seen: list[tuple[int, int]] = []
    download(server.url, tmp_path / "f.bin", progress=lambda *x: seen.append(x))
    assert server.asked[-1] == "bytes=70000-" and seen[-1] == (len(BODY), len(BODY))
    assert (tmp_path / "f.bin").read_bytes() == BODY


@pytest.mark.parametrize("change", ["file", "no ranges", "no validator"])
def test_starts_again_where_going_on_would_mix(server: Server, tmp_path: Path, change: str) -> None:
    server.etag = "" if change == "no validator" else server.etag
    server.break_after = 70_000
    with pytest.raises(CompressError):
        download(server.url, tmp_path / "f.bin", retries=0)
    if change == "file":
        server.body, server.etag = BODY[::-1], '"two"'
    server.ranges = change != "no ranges"
    download(server.url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == server.body
    assert server.asked[-1] == ("" if change == "no validator" else "bytes=70000-")


def test_another_stretch_than_asked_for(server: Server, tmp_path: Path) -> None:
    server.break_after, server.wrong_range = 70_000, True
    download(server.url, tmp_path / "f.bin", pause=0.01)
    assert server.asked == ["", "bytes=70000-", ""]
    assert (tmp_path / "f.bin").read_bytes() == BODY


@pytest.mark.parametrize("have", [len(BODY), len(BODY) + 5])
def test_a_part_that_is_complete_or_too_long(server: Server, tmp_path: Path, have: int) -> None:
    (tmp_path / "f.bin.part").write_bytes((BODY + b"extra")[:have])
    download(server.url, tmp_path / "f.bin", md5=MD5, pause=0.01)
    assert (tmp_path / "f.bin").read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=f"the sha256 is {SHA} instead of 0{{64}}"):
        download(server.url, tmp_path / "f.bin", sha256="0" * 64)
    assert leftovers(tmp_path) == []


def test_errors_of_the_server(server: Server, tmp_path: Path) -> None:
    server.refusals = [503, 429]
    download(server.url, tmp_path / "f.bin", pause=0.01)
    assert len(server.asked) == 3
    server.refusals = [404]
    with pytest.raises(CompressError, match="404"):
        download(server.url, tmp_path / "g.bin")
    server.refusals = [500] * 3
    with pytest.raises(CompressError, match=r"500.*3 times"):
        download(server.url, tmp_path / "g.bin", retries=2, pause=0.01)
    server.shutdown()
    server.server_close()
    with pytest.raises(CompressError, match="no connection"):
        download(server.url, tmp_path / "g.bin", retries=1, pause=0.01, timeout=5)


def test_what_cannot_be_fetched_or_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="http or https"):
        download(f"file://{tmp_path}/x", tmp_path / "f.bin")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CompressError, match="cannot be written"):
        download(server.url, tmp_path / "file" / "f.bin")


def test_nyu_fetches_both_files(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NYU_URL", server.url)
    monkeypatch.setattr(module, "NYU_SPLITS_URL", server.url)
    monkeypatch.setattr(module, "NYU_MD5", MD5)
    monkeypatch.setattr(module, "NYU_SPLITS_SHA256", SHA)
    path = download_nyu(tmp_path / "nyu")
    assert path == tmp_path / "nyu" / "nyu_depth_v2_labeled.mat"
    assert leftovers(path.parent) == ["nyu_depth_v2_labeled.mat", "splits.mat"]
