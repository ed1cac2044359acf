"""Predictions kept image by image, so that an evaluation that was interrupted goes on.

The first line of the file is its header, every other one an image, all of them JSON. What was
written comes back exactly equal. A last line without its end, as a killed process leaves behind,
does not count.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from mask2former.evaluation.kept.as_json import decode_result, encode_result
from mask2former.evaluation.kept.sole_writer import sole_writer
from mask2former.files import naming
from mask2former.tasks import Task
from mask2former.types import Classes, Result

FORMAT = "mask2former predictions"
VERSION = 1
START = b'{"image_id": '
HASHED = {
    "fingerprint.model": "another model: its weights are not the same",
    "fingerprint.images": "other images, or of these before they were changed",
}
"""What another hash of a fingerprint means."""
LONGEST_ID = 4096
"""Bytes; so much of a line is looked at to find which image it is of."""


@dataclass(frozen=True)
class Header:
    """What the predictions of a file are of."""

    classes: Classes
    """Of the model: what class ids in the file count."""
    fingerprint: Mapping[str, Any]
    """What was evaluated, as JSON has it: lists, no tuples."""


class PredictionsFile:
    """Adds predictions to a file; use it with `with`."""

    def __init__(self, path: Path, classes: Classes, fingerprint: Mapping[str, Any]) -> None:
        """Say what is predicted; nothing is written yet.

        Args:
            path: In a folder that is there; the file may be there, too.
            classes: Of the model.
            fingerprint: What else must be the same for predictions of an earlier run to count, as
                values that JSON has.
        """
        self.path = path
        self.header = Header(classes, json.loads(json.dumps(fingerprint)))
        self._file: BinaryIO | None = None
        self._held = ExitStack()

    def __enter__(self) -> "PredictionsFile":
        """Open the file, made with its header if need be, and cut off a torn last line.

        Until it is closed nobody else can open it to write.

        Raises:
            ValueError: There is a file of other predictions, or no predictions file, or another
                evaluation is writing to it.
        """
        with naming(self.path), ExitStack() as held:
            # unbuffered: what failed to be written is not tried again when the file is closed
            file = held.enter_context(self.path.open("ab", buffering=0))
            held.enter_context(sole_writer(file, self.path))
            length = whole_length(self.path)
            if length:
                check_header(self.path, self.header)
            file.truncate(length)
            self._file = file
            if not length:
                self._write(_header_line(self.header))
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file = None
        self._held.close()

    def append(self, image_id: int | str, results: Mapping[Task, Result]) -> None:
        """Add an image; when this returns the system has it all.

        Raises:
            OSError: The disk is full, for example; nothing of the image is in the file then.
        """
        encoded = {task: encode_result(result) for task, result in results.items()}
        line = {"image_id": image_id, "results": encoded}
        with naming(self.path):
            self._write(json.dumps(line).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise RuntimeError(f"{self.path} is not open; use the predictions file with `with`")
        start = self._file.seek(0, 2)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            self._file.truncate(start)
            raise


def read_predictions(path: Path) -> Header:
    """What the predictions of a file are of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no predictions file, or one of another version.
    """
    with path.open("rb") as file:
        return _read_header(file, path)


def check_header(path: Path, header: Header) -> None:
    """Refuse a file that holds predictions of something else.

    Raises:
        ValueError: It has another header, or none.
    """
    found, wanted = (_flat(asdict(one)) for one in (read_predictions(path), header))
    missing = object()
    for name in [*wanted, *found]:
        there, now = found.get(name, missing), wanted.get(name, missing)
        if there != now:
            told = ("nothing" if value is missing else repr(value) for value in (there, now))
            other = HASHED.get(name) or f"something else: {name} is {' there and '.join(told)} now"
            raise ValueError(
                f"{path} holds predictions of {other}; give another folder, or delete the file"
            )


def iterate(path: Path) -> Iterator[tuple[int | str, dict[Task, Result]]]:
    """Image id and results of every image, one at a time; of one that comes again, the first.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no predictions file, or a line is damaged.
    """
    with path.open("rb") as file:
        _read_header(file, path)
        seen: set[int | str] = set()
        for number, line in enumerate(file, start=2):
            where = f"line {number} of {path}"
            if line.endswith(b"\n") and (image_id := _image_id(line, where)) not in seen:
                seen.add(image_id)
                yield image_id, _decode(line, image_id, where)


def offsets_by_image(path: Path) -> dict[int | str, int]:
    """Where the first line of each image begins, in bytes, for `read_image_at`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no predictions file, or a line is damaged.
    """
    offsets: dict[int | str, int] = {}
    with path.open("rb") as file:
        _read_header(file, path)
        offset = file.tell()
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                break
            offsets.setdefault(_image_id(line, f"line {number} of {path}"), offset)
            offset += len(line)
    return offsets


def read_image_at(path: Path, offset: int) -> dict[Task, Result]:
    """The results of one image.

    Args:
        path: Of a predictions file.
        offset: From `offsets_by_image`.

    Raises:
        ValueError: The line is damaged.
    """
    with path.open("rb") as file:
        file.seek(offset)
        line, where = file.readline(), f"the line at byte {offset} of {path}"
    return _decode(line, _image_id(line, where), where)


def whole_length(path: Path) -> int:
    """Bytes up to the end of the last line that is complete; 0 if not even the header is."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        end = file.seek(0, 2)
        step = 1 << 16
        for stop in range(end, 0, -step):
            start = max(0, stop - step)
            file.seek(start)
            position = file.read(stop - start).rfind(b"\n")
            if position >= 0:
                return start + position + 1
    return 0


def _header_line(header: Header) -> bytes:
    content = {"format": FORMAT, "version": VERSION, **asdict(header)}
    return json.dumps(content).encode() + b"\n"


def _read_header(file: BinaryIO, path: Path) -> Header:
    try:
        content = json.loads(file.readline())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        version, fingerprint = content["version"], content["fingerprint"]
        classes = Classes(**{name: tuple(of_all) for name, of_all in content["classes"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no predictions file ({type(error).__name__}: {error}); its first line says "
            f"what the predictions are of: give another file, or delete it"
        ) from error
    if version != VERSION:
        raise ValueError(
            f"{path} is of version {version} and version {VERSION} is read; use the release that "
            f"wrote it, or predict again"
        )
    return Header(classes, fingerprint)


def _image_id(line: bytes, where: str) -> int | str:
    text = line[len(START) : len(START) + LONGEST_ID].decode(errors="replace")
    try:
        image_id = json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        image_id = None
    is_id = isinstance(image_id, int | str) and not isinstance(image_id, bool)
    if is_id and line.startswith(START):
        return image_id
    raise ValueError(f"{where} is damaged: no image id is where it should be; delete the line")


def _decode(line: bytes, image_id: int | str, where: str) -> dict[Task, Result]:
    try:
        encoded = json.loads(line)["results"]
        return {task: decode_result(task, content) for task, content in encoded.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{where} (image {image_id!r}) is damaged ({type(error).__name__}: {error}); delete "
            f"the line and predict the image again"
        ) from error


def _flat(content: Any, name: str = "") -> dict[str, Any]:
    """Values by the path to them."""
    if isinstance(content, dict):
        items = [(f"{name}.{key}" if name else str(key), value) for key, value in content.items()]
    elif isinstance(content, list | tuple):
        items = [(f"{name}[{i}]", value) for i, value in enumerate(content)]
    else:
        items = []
    if not items:
        return {name: content}
    return {path: leaf for key, value in items for path, leaf in _flat(value, key).items()}
