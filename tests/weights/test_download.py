import hashlib
import io
import os
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request

import pytest

from mask2former.weights import download
from mask2former.weights.download import (
    Digest,
    Redirects,
    answer_within,
    cache_folder,
    cached_download,
    cached_path,
    digest_in_name,
)

CONTENT = bytes(range(256)) * 20
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Answer(NamedTuple):
    body: bytes = CONTENT
    status: int = 200
    length: int | None = len(CONTENT)
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "binary/octet-stream"),)


class Site(ThreadingHTTPServer):
    """A server on this machine that counts what it is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.meeting: threading.Barrier | None = None

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no error here."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def offer(self, path: str, answer: Answer | None = None) -> str:
        self.answers[path] = answer or Answer()
        return self.url(path)


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers[self.path]
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.length is not None:
            self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        half = len(answer.body) // 2
        self.wfile.write(answer.body[:half])
        self.wfile.flush()
        if self.server.meeting is not None:
            self.server.meeting.wait(timeout=10)
        self.wfile.write(answer.body[half:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("MASK2FORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(site: Site, cache: Path) -> None:
    url = site.offer("/zoo/r50/model.pth")
    path = cached_download(url)
    assert path.read_bytes() == CONTENT
    assert path.name == "model.pth"
    assert cached_download(url) == path
    assert site.asked == ["/zoo/r50/model.pth"]
    assert files(cache) == [path]


def test_files_of_one_name_do_not_meet(site: Site) -> None:
    urls = [
        site.offer(path, Answer(path.encode(), length=None))
        for path in ("/a/m.pth", "/b/m.pth", "/m.pth", "/a/m.pth?version=2", "/a_/m.pth")
    ]
    paths = [cached_download(url) for url in urls]
    assert len({*paths}) == len(urls)
    assert {path.name for path in paths} == {"m.pth"}
    assert [site.url(path.read_text()) for path in paths] == urls


def test_an_address_cannot_leave_the_cache(cache: Path) -> None:
    for path in ("/../../etc/m.pth", "/%2e%2e/%2fetc%2fm.pth", "/a/..%5c..%5cm.pth", "/%00/m.pth"):
        kept = cached_path(f"https://example.org{path}")
        assert kept.resolve().parent.parent == cache.resolve()
        assert kept.name.endswith("m.pth")


@pytest.mark.parametrize("path", ["", "/", "/..", "/a/%2e%2e"])
def test_an_address_without_a_file_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="names no file; give the whole address of a checkpoint"):
        cached_download(f"https://example.org{path}")


def test_long_and_foreign_names_fit_a_file_system(site: Site) -> None:
    url = site.offer("/" + "%C3%A9" * 150 + "_20220326_224516-" + SHA256[:8] + ".pth")
    path = cached_download(url.replace("%C3%A9", "é"))
    assert path.name.endswith(f"_20220326_224516-{SHA256[:8]}.pth")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MASK2FORMER_CACHE": "/big/disk", "XDG_CACHE_HOME": "/caches"}, "/big/disk"),
        ({"MASK2FORMER_CACHE": "~/disk"}, "/home/someone/disk"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/mask2former"),
        ({}, "/home/someone/.cache/mask2former"),
        ({"MASK2FORMER_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/someone/.cache/mask2former"),
    ],
)
def test_the_cache_is_where_the_variables_say(variables, expected, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("MASK2FORMER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_final_94dc52.pkl", Digest("md5", "94dc52")),
        (
            "mask2former_r50_lsj_8x2_50e_coco-panoptic_20230118_125535-54df384a.pth",
            Digest("sha256", "54df384a"),
        ),
        ("mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth", Digest("sha256", "d4b0c5d6")),
        ("mask2former-20230118.pth", None),
        ("model_final.pth", None),
        ("model_final_94dc5.pkl", None),
        ("model_final_94dc52.safetensors", None),
        ("epoch_20_20230118-12345678.pt", None),
        ("m_20220326_224516-11a44721.pth.tar", None),
    ],
)
def test_publishers_write_hashes_into_names(name: str, expected: Digest | None) -> None:
    assert digest_in_name(name) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (f"model_final_{MD5[:6]}.pkl", {}),
        (f"mask2former_20220326_224516-{SHA256[:8]}.pth", {}),
        ("model_final_000000.pkl", {"md5_prefix": MD5[:6].upper()}),
        ("model_final_000000.pkl", {"md5_prefix": MD5, "sha256_prefix": SHA256}),
    ],
)
def test_a_right_hash_is_accepted(name: str, given: dict[str, str], site: Site) -> None:
    assert cached_download(site.offer(f"/{name}"), **given).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("model_final_000000.pkl", {}, f"md5 {MD5[:6]}, expected 000000; try again"),
        ("m_20220326_224516-00000000.pth", {}, f"sha256 {SHA256[:8]}, expected 00000000; try"),
        (f"model_final_{MD5[:6]}.pkl", {"sha256_prefix": "0"}, f"sha256 {SHA256[0]}, expected 0;"),
        ("m.pth", {"md5_prefix": MD5, "sha256_prefix": "0"}, f"sha256 {SHA256[0]}, expected 0;"),
    ],
)
def test_a_wrong_hash_leaves_nothing(
    name: str, given: dict[str, str], message: str, site: Site, cache: Path
) -> None:
    with pytest.raises(ValueError, match=f"/{name} arrived with {message}"):
        cached_download(site.offer(f"/{name}"), **given)
    assert files(cache) == []


def test_a_truncated_file_leaves_nothing(site: Site, cache: Path) -> None:
    url = site.offer("/m.pth", Answer(length=5121))
    with pytest.raises(ValueError, match=r"m\.pth ended after 5120 bytes of 5121; try again"):
        cached_download(url)
    assert files(cache) == []


def test_an_empty_file_is_refused(site: Site, cache: Path) -> None:
    with pytest.raises(ValueError, match="ended after 0 bytes of an unknown number"):
        cached_download(site.offer("/m.pth", Answer(b"", length=None)))
    assert files(cache) == []


def test_a_broken_chunk_is_a_broken_download(site: Site, cache: Path) -> None:
    headers = (("Transfer-Encoding", "chunked"), ("Content-Type", "binary/octet-stream"))
    url = site.offer("/m.pth", Answer(b"ff\r\nabc", length=None, headers=headers))
    with pytest.raises(ValueError, match=r"m\.pth broke off .*; try again"):
        cached_download(url)
    assert files(cache) == []


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_error_status_is_named(status: int, site: Site, cache: Path) -> None:
    url = site.offer("/zoo/m.pth", Answer(b"sorry", status, 5))
    message = rf"zoo/m\.pth answered HTTP {status} .*put it at {cached_path(url)}"
    with pytest.raises(ValueError, match=message):
        cached_download(url)
    assert site.asked == ["/zoo/m.pth"]
    assert files(cache) == []


def test_a_web_page_is_no_checkpoint(site: Site, cache: Path) -> None:
    page = Answer(b"<html>", length=6, headers=(("Content-Type", "text/html; charset=utf-8"),))
    with pytest.raises(ValueError, match=r"is a web page, not a checkpoint; .*/resolve/"):
        cached_download(site.offer("/blob/main/m.pth", page))
    assert files(cache) == []


@pytest.mark.parametrize("value", ["1", "on", "TRUE", "yes"])
def test_offline_only_the_cache_is_used(value: str, site: Site, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    url = site.offer("/m.pth")
    message = f"{url} is not in the cache, and HF_HUB_OFFLINE forbids .* {cached_path(url)}"
    with pytest.raises(ValueError, match=message):
        cached_download(url)
    cached_path(url).parent.mkdir(parents=True)
    cached_path(url).write_bytes(b"by hand")
    assert cached_download(url).read_bytes() == b"by hand"
    assert site.asked == []


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_offline_has_to_be_said(value: str, site: Site, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert cached_download(site.offer("/m.pth")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/m.pth",
        "http://127.0.0.1.example.org/m.pth",
        "ftp://example.org/m.pth",
        "file:///etc/m.pth",
        "https:///m.pth",
        "s3://bucket/m.pth",
        "m.pth",
    ],
)
def test_only_https_is_downloaded(url: str) -> None:
    with pytest.raises(ValueError, match=f"{url} is no https:// address, .*; fetch the file your"):
        cached_download(url)


def test_a_redirect_is_followed_and_kept_under_the_first_address(site: Site) -> None:
    site.offer("/moved/to.pth")
    url = site.offer("/m.pth", Answer(b"", 302, 0, (("Location", "/moved/to.pth"),)))
    assert cached_download(url) == cached_path(url)
    assert cached_path(url).read_bytes() == CONTENT
    assert site.asked == ["/m.pth", "/moved/to.pth"]


@pytest.mark.parametrize("target", ["http://example.org/m.pth", "ftp://example.org/m.pth"])
def test_a_redirect_to_what_cannot_be_given_is_refused(
    target: str, site: Site, cache: Path
) -> None:
    url = site.offer("/m.pth", Answer(b"", 302, 0, (("Location", target),)))
    with pytest.raises(ValueError, match=f"{url} redirects to {target}, which is no https://"):
        cached_download(url)
    assert files(cache) == []


def test_a_redirect_to_a_file_of_this_machine_is_refused(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    url = site.offer("/m.pth", Answer(b"", 302, 0, (("Location", secret.as_uri()),)))
    with pytest.raises(ValueError, match=r"answered HTTP 302 .*file://.* is not allowed"):
        cached_download(url)


def test_a_redirect_that_goes_in_circles_ends(site: Site) -> None:
    url = site.offer("/m.pth", Answer(b"", 302, 0, (("Location", "/m.pth"),)))
    with pytest.raises(ValueError, match="answered HTTP 302"):
        cached_download(url)


def test_https_is_not_left_for_a_server_on_this_machine() -> None:
    request = Request("https://example.org/m.pth")
    target = "http://127.0.0.1:8000/m.pth"
    with pytest.raises(ValueError, match=f"redirects to {target}"):
        Redirects().redirect_request(request, io.BytesIO(), 302, "Found", HTTPMessage(), target)


def test_without_a_network_the_place_for_the_file_is_named(cache: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/m.pth"
        message = rf"m\.pth cannot be reached \(.+\); connect to .* {cached_path(url)}"
        with pytest.raises(ValueError, match=message):
            cached_download(url)
    assert files(cache) == []


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(download, "SILENCE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/m.pth"
        with pytest.raises(ValueError, match=r"cannot be reached \(no answer within 0\.1 s\)"):
            cached_download(url)


def test_a_timeout_of_the_call_itself_keeps_its_message() -> None:
    def call() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        answer_within(10.0, call)


def test_a_server_that_falls_silent_is_given_up(site: Site, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.1)
    url = site.offer("/m.pth")
    site.meeting = threading.Barrier(2)
    with pytest.raises(ValueError, match=r"m\.pth broke off \(timed out\); try again"):
        cached_download(url)
    assert files(cache) == []
    site.meeting.wait(timeout=10)


def test_processes_that_download_the_same_file_do_not_meet(site: Site, cache: Path) -> None:
    url = site.offer(f"/model_final_{MD5[:6]}.pkl")
    site.meeting = threading.Barrier(4)  # every answer stops half-way until all are there
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(cached_download, [url] * 4))
    assert len(site.asked) == 4
    assert files(cache) == [*paths]
    assert paths.pop().read_bytes() == CONTENT


def test_an_interrupted_download_leaves_nothing(site: Site, cache: Path, monkeypatch) -> None:
    class Interrupted(download.tqdm):
        def update(self, *_: object) -> None:
            assert len(files(cache)) == 1
            assert not cached_path(url).exists()
            raise KeyboardInterrupt

    url = site.offer("/m.pth")
    monkeypatch.setattr(download, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_download(url)
    assert files(cache) == []


def test_a_full_disk_is_named(site: Site, cache: Path) -> None:
    url = site.offer("/m.pth", Answer(bytes(1 << 20), length=1 << 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            cached_download(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(cached_path(url))
    assert files(cache) == []


def test_a_cache_that_is_no_folder_is_named(site: Site, cache: Path) -> None:
    cache.touch()
    with pytest.raises(OSError, match=f"'{cache}") as raised:
        cached_download(site.offer("/m.pth"))
    assert "unfinished" not in str(raised.value)


def test_others_may_read_the_cache(site: Site) -> None:
    before = os.umask(0o022)
    try:
        path = cached_download(site.offer("/m.pth"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(site: Site, monkeypatch) -> None:
    shown = {}
    for name, stream in (("terminal.pth", Terminal()), ("file.pth", io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        cached_download(site.offer(f"/{name}"))
        shown[name] = stream.getvalue()
    assert "terminal.pth: 100%" in shown["terminal.pth"]
    assert shown["file.pth"] == ""
