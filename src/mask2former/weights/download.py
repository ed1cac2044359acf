"""Files from the web: each address is downloaded once, verified, and kept in a folder."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from uuid import uuid4

from tqdm import tqdm

from mask2former.files import unfinished_path

CACHE_VARIABLE = "MASK2FORMER_CACHE"
OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
ANSWER_SECONDS = 20.0  # for names, connections to all of a host's addresses, and redirects together
SILENCE_SECONDS = 20.0
CHUNK_BYTES = 1 << 20

_DATED = re.compile(r"_\d{8}(?:_\d{6})?-([0-9a-f]{8})\.pth$")
_ZOO = re.compile(r"model_final_([0-9a-f]{6})\.pkl")
_PUNCTUATION = "%/:?#[]@!$&'()*+,;=~"  # stays as it is in an address that is already encoded
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

T = TypeVar("T")


class Digest(NamedTuple):
    """What a file's content must hash to."""

    algorithm: str
    """`md5` or `sha256`."""
    prefix: str
    """First hexadecimal digits, in lower case."""


def cache_folder() -> Path:
    """Where downloads are kept: `$MASK2FORMER_CACHE`, or a folder in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "mask2former"


def cached_path(url: str) -> Path:
    """Where the file of an address is kept, whether it is there or not.

    The file keeps its name, in a folder of its own for every address: two checkpoints called
    `model_final.pth` lie beside each other.

    Raises:
        ValueError: The address names no file.
    """
    *folders, name = PurePosixPath(unquote(urlsplit(url).path)).parts or ("",)
    if not name.strip("./"):
        raise ValueError(f"{url} names no file; give the whole address of a checkpoint")
    parent = folders[-1].strip("/.") if folders else ""
    of_address = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_folder() / "-".join(filter(None, (_plain(parent), of_address))) / _plain(name)


def digest_in_name(name: str) -> Digest | None:
    """The hash that publishers write into a file's name.

    Returns:
        For `..._20220326_224516-11a44721.pth` the first 8 digits of its SHA-256, for
        `model_final_94dc52.pkl` the first 6 of its MD5, nothing for other names.

    Source:
        OpenMMLab's publish_model.py; the authors' convert_to_model_zoo.py, made for detectron2.
    """
    if dated := _DATED.search(name):
        return Digest("sha256", dated[1])
    if zoo := _ZOO.fullmatch(name):
        return Digest("md5", zoo[1])
    return None


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids the network, as `huggingface_hub` reads it."""
    return os.environ.get(OFFLINE_VARIABLE, "").upper() in {"1", "ON", "YES", "TRUE"}


def cached_download(
    url: str, *, md5_prefix: str | None = None, sha256_prefix: str | None = None
) -> Path:
    """Download a file, or find it where an earlier call left it.

    A file is in its place only when it is complete and verified; several processes may download
    the same one. A file put there by hand is taken as it is.

    Args:
        url: `https://`; `http://` too on this machine.
        md5_prefix: First hexadecimal digits that the content must hash to.
        sha256_prefix: The same; without either, `digest_in_name` tells what to expect.

    Raises:
        ValueError: The address is not accepted or does not answer with a file, the network is
            forbidden or fails, or the file arrives incomplete or altered.
        OSError: The file cannot be written.
    """
    check_address(url)
    path = cached_path(url)
    if path.is_file():
        return path
    if is_offline():
        raise ValueError(
            f"{url} is not in the cache, and {OFFLINE_VARIABLE} forbids downloads; unset it, or "
            f"put the file at {path}"
        )
    given = {"md5": md5_prefix, "sha256": sha256_prefix}
    expected = {name: prefix.lower() for name, prefix in given.items() if prefix}
    if not expected and (digest := digest_in_name(path.name)):
        expected = {digest.algorithm: digest.prefix}
    with _open(url, path) as response:
        _save(response, url, path, expected)
    return path


def check_address(url: str) -> None:
    """Refuse what could arrive altered.

    Raises:
        ValueError: It is neither `https://` nor on this machine.
    """
    if not _is_safe(url):
        raise ValueError(
            f"{url} is no https:// address, the only kind that is downloaded; fetch the file "
            "yourself and give its path"
        )


def answer_within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, if it does so in time.

    A timeout on a socket bounds neither the look-up of a name nor the sum over a host's addresses.

    Args:
        seconds: To wait at most; the call itself goes on in a thread that nobody waits for.
        call: Without side effects.

    Raises:
        TimeoutError: It takes longer.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from error


class Redirects(HTTPRedirectHandler):
    """Follows redirects to addresses that could have been given."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        leaves_https = req.type == "https" and not newurl.lower().startswith("https:")
        if leaves_https or not _is_safe(newurl):
            fp.close()
            raise ValueError(
                f"{req.full_url} redirects to {newurl}, which is no https:// address; fetch the "
                "file yourself and give its path"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return parts.hostname in _LOOPBACK
    return parts.scheme == "https" and bool(parts.hostname)


def _open(url: str, path: Path) -> Any:
    """The answer to a request, which is a file's."""
    request = Request(quote(url, safe=_PUNCTUATION), headers={"User-Agent": "mask2former"})
    opener = build_opener(Redirects)
    by_hand = f"fetch the file elsewhere and put it at {path}"
    try:
        response = answer_within(
            ANSWER_SECONDS, lambda: opener.open(request, timeout=SILENCE_SECONDS)
        )
    except HTTPError as error:
        error.close()
        raise ValueError(
            f"{url} answered HTTP {error.code} {error.reason}; check the address, try again "
            f"later, or {by_hand}"
        ) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ValueError(
            f"{url} cannot be reached ({reason}); connect to the network, or {by_hand}"
        ) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise ValueError(
            f"{url} is a web page, not a checkpoint; give the address behind its download button "
            "(/resolve/ instead of /blob/ at Hugging Face)"
        )
    return response


def _save(response: HTTPResponse, url: str, path: Path, expected: Mapping[str, str]) -> None:
    """Put a file into its place when all of it is there and as expected."""
    length = response.length  # in bytes, None when the server does not say
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in expected}
    # Processes that download the same file must not write into each other's.
    unfinished = unfinished_path(path.with_name(f"{path.name}.{uuid4().hex[:8]}"))
    received = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("xb") as file, _progress(path.name, length) as bar:
            for chunk in _chunks(response, url):
                file.write(chunk)
                for running in hashes.values():
                    running.update(chunk)
                received += len(chunk)
                bar.update(len(chunk))
        _check_complete(url, received, length)
        _check_content(url, {name: h.hexdigest() for name, h in hashes.items()}, expected)
        unfinished.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise ValueError(f"the download of {url} broke off ({error}); try again") from error


def _progress(name: str, length: int | None) -> tqdm:
    """A bar on standard error, if that is a terminal."""
    return tqdm(desc=name, total=length, unit="B", unit_scale=True, unit_divisor=1024, disable=None)


def _check_complete(url: str, received: int, length: int | None) -> None:
    if received == 0 or length not in (None, received):
        raise ValueError(
            f"{url} ended after {received} bytes of {length or 'an unknown number'}; try again"
        )


def _check_content(url: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for algorithm, prefix in expected.items():
        digits = found[algorithm]
        if not digits.startswith(prefix):
            raise ValueError(
                f"{url} arrived with {algorithm} {digits[: len(prefix)]}, expected {prefix}; try "
                "again, and if that does not help, something on the way or at the server altered it"
            )


def _plain(name: str) -> str:
    """As a file system takes it; the end is kept, where hash and suffix are."""
    return re.sub(r"[^A-Za-z0-9._+=-]", "_", name)[-100:]
