"""Fetching a published file once: resumed where it broke off, checked, then put in place."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from compress.errors import CompressError

CHUNK = 1 << 20
_AGAIN = {408, 425, 429, 500, 502, 503, 504}

NYU_URL = "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat"
NYU_SPLITS_URL = "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat"
# The authors publish no checksums. These are what several unrelated public loaders of the data
# set state (four for the MD5, two for the SHA-256); neither was computed here from the file.
NYU_MD5 = "520609c519fba3ba5ac58c8fefcc3530"
NYU_SPLITS_SHA256 = "6e081404491a8bfba2f066beaa9713ef6046f9007aa5f799f2a350506a580cee"

Progress = Callable[[int, int], None]


class _Retry(Exception):
    """A transfer that broke off and may go on."""


def download(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    retries: int = 4,
    timeout: float = 60.0,
    pause: float = 1.0,
) -> Path:
    """Fetch ``url`` to ``path`` and return the path; a whole file with the right sum stays as is.

    The bytes gather in ``path.part``, which a later call goes on with if the server still has
    the same file. ``progress`` gets (bytes done, bytes in all or 0). A transfer that breaks off
    is tried up to ``retries`` more times without getting further, after ``pause``, 2 ``pause``,
    4 ``pause`` ... seconds. Raises ``CompressError`` when the server refuses, the checksum
    differs or the disk is full.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise CompressError(f"cannot fetch {url}; give an http or https address")
    sums = {name: s.lower() for name, s in (("md5", md5), ("sha256", sha256)) if s}
    if path.is_file() and not _wrong_sum(path, sums):
        return path
    part, note = (path.with_name(path.name + end) for end in (".part", ".part.json"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        failures, most = 0, 0
        while True:
            try:
                _transfer(url, part, note, bool(sums), timeout, progress)
                break
            except _Retry as broken:
                size = part.stat().st_size if part.exists() else 0
                failures, most = (1 if size > most else failures + 1), max(most, size)
                if failures > retries:
                    raise CompressError(
                        f"{url}: {broken}, {failures} times; what came is kept in {part}: try "
                        "again later"
                    ) from broken
                time.sleep(pause * 2 ** (failures - 1))
        wrong = _wrong_sum(part, sums)
        if wrong:
            size = part.stat().st_size
            part.unlink()
            note.unlink(missing_ok=True)
            raise CompressError(
                f"{url}: {wrong} over {size} bytes; the download was removed, try again, and if it "
                "recurs the server has another file"
            )
        part.replace(path)
        note.unlink(missing_ok=True)
    except OSError as broken:
        raise CompressError(f"{path}: cannot be written ({broken}); make room there") from broken
    return path


def download_nyu(dest: Path, *, progress: Progress | None = None) -> Path:
    """Fetch NYU Depth v2's labelled .mat (2.8 GB) and official split to the folder ``dest``.

    Returns the path of the .mat, as ``nyu:PATH`` reads it; raises as ``download`` does.

    Source: Silberman et al., ECCV 2012, and the data set's page.
    """
    folder = dest.expanduser()
    download(NYU_SPLITS_URL, folder / "splits.mat", sha256=NYU_SPLITS_SHA256)
    mat = folder / "nyu_depth_v2_labeled.mat"
    return download(NYU_URL, mat, md5=NYU_MD5, progress=progress)


def _wrong_sum(path: Path, sums: dict[str, str]) -> str:
    """What is wrong with a file's checksums; empty when nothing is."""
    found = {name: hashlib.new(name, usedforsecurity=False) for name in sums}
    if found:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                for digest in found.values():
                    digest.update(chunk)
    for name, digest in found.items():
        if digest.hexdigest() != sums[name]:
            return f"the {name} is {digest.hexdigest()} instead of {sums[name]}"
    return ""


def _transfer(
    url: str, part: Path, note: Path, checked: bool, timeout: float, progress: Progress | None
) -> None:
    """Bring ``part`` to its full length with one request; raises ``_Retry`` if it breaks off."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "depth-compress", "Accept-Encoding": "identity"}
    validator = _validator(note, url)
    if have and (validator or checked):  # otherwise nothing would tell that the file has changed
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        reply = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code == 416:
            if checked and refused.headers.get("Content-Range", "") == f"bytes */{have}":
                return  # all of it is here already
            part.unlink(missing_ok=True)
            raise _Retry("the server cannot go on from what is here") from refused
        if refused.code in _AGAIN:
            raise _Retry(f"the server answers {refused.code} {refused.reason}") from refused
        raise CompressError(
            f"{url}: the server answers {refused.code} {refused.reason}; check the address, or "
            "fetch the file by hand"
        ) from refused
    except (OSError, http.client.HTTPException) as broken:
        raise _Retry(f"no connection ({getattr(broken, 'reason', broken)})") from broken
    with reply:
        if reply.status == 206:
            unit = reply.headers.get("Content-Range", "")
            if not unit.startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _Retry(f"the server answers with another stretch ({unit})")
        else:
            have = 0
            tag, date = reply.headers.get("ETag", ""), reply.headers.get("Last-Modified", "")
            kept = tag if tag and not tag.startswith("W/") else date
            part.write_bytes(b"")  # before the note, which must never describe older bytes
            note.write_text(json.dumps({"url": url, "validator": kept}), encoding="utf-8")
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else 0
        with part.open("ab") as file:
            while True:
                try:
                    chunk = reply.read(CHUNK)
                except (OSError, http.client.HTTPException) as broken:
                    raise _Retry(f"the transfer broke off ({broken})") from broken
                if not chunk:
                    break
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
    if total and have < total:
        raise _Retry(f"the transfer broke off after {have} of {total} bytes")


def _validator(note: Path, url: str) -> str:
    """What the server said identifies the bytes of the part: an ETag or a date."""
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        return str(kept["validator"]) if kept["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
