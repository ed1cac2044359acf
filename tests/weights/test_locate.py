import errno
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import close_session

from mask2former.presets import all_published
from mask2former.weights import locate as module
from mask2former.weights.download import cached_path
from mask2former.weights.locate import AUTHORS, Located, locate, preset_of_file

R50 = "mask2former/coco/panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = ("config.json", "preprocessor_config.json", "model.safetensors")


class Hub(ThreadingHTTPServer):
    """As much of the hub as is asked for: one repository, or one reason why there is none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files: tuple[str, ...] = MODEL
        self.refusal: tuple[int, str] | None = None
        self.refuses_files: tuple[int, str] | None = None
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no error here."""


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(path)
        is_file = "/resolve/" in path
        refusal = self.server.refuses_files if is_file else self.server.refusal
        if refusal is not None or not path.startswith(("/api/models/owner/", "/owner/")):
            status, code = refusal or (404, "RepoNotFound")
            self.answer(b"", status, {"X-Error-Code": code})
        elif is_file:
            body = path.rpartition("/resolve/")[2].partition("/")[2].encode()
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            self.answer(body, 200, {"ETag": etag, "X-Repo-Commit": COMMIT})
        elif "/tree/" in path:
            tree = [
                {"type": "file", "path": name, "size": len(name), "oid": hashed(name)}
                for name in self.server.files
            ]
            self.answer(json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": name} for name in self.server.files]
            info = {"id": "owner/name", "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(info).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def hashed(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to work in, with empty caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASK2FORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents"), raising=False)
    return tmp_path


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        close_session()
        server.shutdown()
        thread.join()


@pytest.fixture
def downloads(monkeypatch) -> list[str]:
    urls: list[str] = []

    def fake(url: str) -> Path:
        urls.append(url)
        return Path("/cache") / url.rpartition("/")[2]

    monkeypatch.setattr(module, "cached_download", fake)
    return urls


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["coco-panoptic-resnet50", "owner/name", "run", "w.safetensors"])
def test_what_exists_is_a_path(name: str, place: Path) -> None:
    (place / name).mkdir(parents=True)
    assert locate(name) == Located(Path(name), None)
    assert locate(place / name) == Located(place / name, None)


def test_a_path_may_begin_at_home(place: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    (place / "w.safetensors").touch()
    assert locate("~/w.safetensors").path == place / "w.safetensors"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_final_94dc52.pkl", "coco-panoptic-resnet50"),
        ("r50_94dc52.pkl", "coco-panoptic-resnet50"),
        ("94dc52.pkl", "coco-panoptic-resnet50"),
        ("model_final_94dc52.pth", None),
        ("model_final_94dc53.pkl", None),
        ("model94dc52.pkl", None),
        ("model_final.pkl", None),
    ],
)
def test_the_authors_files_tell_their_preset(name: str, expected: str | None, place: Path) -> None:
    (place / "any").mkdir()
    (place / "any" / name).touch()
    assert locate(f"any/{name}") == Located(Path("any") / name, expected)


def test_no_two_published_files_are_taken_for_each_other() -> None:
    published = all_published()
    assert {preset_of_file(Path(p.checkpoint or "").name) for p in published.values()} == {
        *published
    }


@pytest.mark.parametrize("name", ["coco-panoptic-resnet50", "coco_panoptic_resnet50"])
def test_a_published_preset_means_the_authors_file(name: str, downloads: list[str]) -> None:
    path = Path("/cache/model_final_94dc52.pkl")
    assert locate(name) == Located(path, "coco-panoptic-resnet50")
    assert downloads == ["https://dl.fbaipublicfiles.com/maskformer/" + R50]


def test_video_models_have_published_files_too(downloads: list[str]) -> None:
    assert locate("youtube-vis-2019-resnet50").preset == "youtube-vis-2019-resnet50"
    assert "/maskformer/video_mask2former/" in downloads[0]


def test_an_address_is_downloaded(downloads: list[str]) -> None:
    url = "https://example.org/m_20220326_224516-11a44721.pth"
    assert locate(url) == Located(Path("/cache/m_20220326_224516-11a44721.pth"), None)
    assert locate(AUTHORS + R50).preset == "coco-panoptic-resnet50"
    assert downloads == [url, AUTHORS + R50]


def test_a_published_file_put_there_by_hand_is_found_offline(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"94dc52\.pkl is not in the cache, and HF_HUB_OFFLINE"):
        locate("coco-panoptic-resnet50")
    path = cached_path(AUTHORS + R50)
    path.parent.mkdir(parents=True)
    path.touch()
    assert locate("coco-panoptic-resnet50") == Located(path, "coco-panoptic-resnet50")


@pytest.mark.parametrize(
    ("weights", "hint"),
    [
        ("coco-panoptic-swin-larg", "; did you mean coco-panoptic-swin-large[?]$"),
        ("zzz", "; `mask2former presets` lists the presets$"),
        ("runs/best.safetensors", "an https:// address$"),
        ("./owner/name", "an https:// address$"),
        ("a/b/c", "an https:// address$"),
        ("owner/name@", "an https:// address$"),
        ("owner/-name", "an https:// address$"),
        ("coco-panoptic-swin-large.pkl", "an https:// address$"),
    ],
)
def test_anything_else_is_told_what_weights_may_be(weights: str, hint: str) -> None:
    message = (
        f"^no weights at {re.escape(weights)}; give a file or folder, a published preset, a Hugging"
    )
    with pytest.raises(FileNotFoundError, match=message + ".*" + hint):
        locate(weights)


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (MODEL, MODEL),
        # both formats, other frameworks, training leftovers
        (
            (*MODEL, "pytorch_model.bin", "tf_model.h5", "README.md", "old/model.safetensors"),
            MODEL,
        ),
        (
            ("config.json", "pytorch_model.bin", "tf_model.h5", "training_args.bin"),
            ("config.json", "pytorch_model.bin"),
        ),
        (
            (
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ),
        )
        * 2,
        (("README.md", "cells.safetensors"), ("cells.safetensors",)),
        (
            ("config.yaml", "weights/best.safetensors", "resume/last.ckpt"),
            ("weights/best.safetensors",),
        ),
    ],
)
def test_a_hub_id_fetches_what_a_model_is_made_of(
    offered: tuple[str, ...], taken: tuple[str, ...], hub: Hub, place: Path
) -> None:
    hub.files = offered
    path, preset = locate("owner/name")
    assert path == place / "hub/models--owner--name/snapshots" / COMMIT
    assert names(path) == {*taken}
    assert preset is None


def test_a_second_time_fetches_no_file_again(hub: Hub) -> None:
    first = locate("owner/name")
    del hub.asked[:]
    assert locate("owner/name") == first
    assert not [path for path in hub.asked if "/resolve/" in path]


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/3", COMMIT])
def test_a_revision_may_be_named(revision: str, hub: Hub) -> None:
    locate(f"owner/name@{revision}")
    assert hub.asked[0].endswith(f"/api/models/owner/name/revision/{revision}")


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    hub.files = ("README.md", "config.json", "model_final.pkl")
    message = (
        "owner/name@v1 holds neither .safetensors nor pytorch_model.bin; .*"
        f"{hub.url}/owner/name/resolve/v1/FILE"
    )
    with pytest.raises(ValueError, match=message):
        locate("owner/name@v1")


@pytest.mark.parametrize(
    ("refusal", "error", "message"),
    [
        ((401, "RepoNotFound"), FileNotFoundError, "no path owner/name@v1 here and no repository"),
        ((404, "RepoNotFound"), FileNotFoundError, "owner/name; check the spelling, .*HF_TOKEN"),
        ((403, "GatedRepo"), ValueError, "owner/name is gated; accept its terms .*HF_TOKEN"),
        ((404, "RevisionNotFound"), FileNotFoundError, "owner/name has no revision v1; name a"),
        ((503, ""), ValueError, "name cannot be fetched .*503 .*Service Unavailable.*; connect"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    refusal: tuple[int, str], error: type[Exception], message: str, hub: Hub
) -> None:
    hub.refusal = refusal
    with pytest.raises(error, match=message):
        locate("owner/name@v1")


def test_a_gate_before_the_files_is_explained(hub: Hub) -> None:
    hub.refuses_files = (403, "GatedRepo")
    with pytest.raises(ValueError, match="owner/name is gated; accept its terms"):
        locate("owner/name")


@pytest.mark.parametrize("refusal", [(503, ""), (401, "RepoNotFound"), (404, "RevisionNotFound")])
def test_what_was_fetched_stays_of_use(refusal: tuple[int, str], hub: Hub) -> None:
    first = locate("owner/name")
    hub.refusal = refusal
    assert locate("owner/name") == first


def test_a_hub_that_says_nothing_is_not_waited_for(place: Path, hub: Hub, monkeypatch) -> None:
    fetched = locate("owner/name")
    monkeypatch.setattr(module, "HUB_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert locate("owner/name") == fetched
        message = rf"fetched \(.+\) and is not complete in {place}/hub; connect to the network"
        with pytest.raises(ValueError, match=message):
            locate("owner/other")


def test_offline_nothing_is_asked(hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = r"fetched \(HF_HUB_OFFLINE forbids downloads\) .*; unset HF_HUB_OFFLINE, or give the"
    with pytest.raises(ValueError, match=message):
        locate("owner/name")
    assert hub.asked == []


def test_a_full_disk_is_the_disks_error(hub: Hub, monkeypatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", "/hub/blob")

    monkeypatch.setattr(module, "snapshot_download", full)
    with pytest.raises(OSError, match=r"No space left on device: '/hub/blob'"):
        locate("owner/name")


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("half of it is missing\nand more"),
        RuntimeError("half of it is missing"),
        ConnectionError("half of it is missing"),
    ],
)
def test_a_download_that_breaks_off_is_explained(error: Exception, hub: Hub, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(module, "snapshot_download", broken)
    with pytest.raises(ValueError, match=r"cannot be fetched \(half of it is missing\) and"):
        locate("owner/name")


def test_hub_errors_are_no_disk_errors() -> None:
    # `locate` passes on what has an errno.
    assert issubclass(HfHubHTTPError, OSError)
    assert LocalEntryNotFoundError("no file").errno is None


def test_the_libraries_own_offline_mode_reads_a_cache_of_other_programs(place: Path) -> None:
    repository = place / "elsewhere/models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text(name)
    code = "from mask2former.weights.locate import locate; print(locate('owner/name').path)"
    variables = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "elsewhere")}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.strip() == str(snapshot)
    assert found.stderr == ""
