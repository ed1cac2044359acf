"""The image that a LabelMe file is of: a file that it names, or one that lies in it."""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from mask2former.data.formats.listing import is_file
from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.sources import Source

IMAGE_FOLDERS = ("images", "img", "imgs", "JPEGImages")
"""Beside the folder of the JSON files."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image that lies in a LabelMe file."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path}: imageData"

    def read_bytes(self) -> bytes:
        """Decode it.

        Raises:
            FileNotFoundError: The file is gone.
            ValueError: It has no image any more.
        """
        try:
            return base64.b64decode(json.loads(self.path.read_bytes())["imageData"])
        except (json.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
            raise ValueError(f"{self} is no image ({error}); restore the file") from error


def find_image(path: Path, content: dict[str, Any]) -> Source | None:
    """The file that is named, else one of the same name, else the image inside."""
    named = str(content.get("imagePath") or f"{path.stem}.jpg")
    posix = PureWindowsPath(named).as_posix()  # LabelMe on Windows writes backslashes
    beside = [path.parent, *(path.parent.parent / name for name in IMAGE_FOLDERS)]
    candidates = [path.parent / posix, *(place / Path(posix).name for place in beside)]
    candidates += [path.with_suffix(suffix) for suffix in sorted(IMAGE_SUFFIXES)]
    image = next((candidate for candidate in candidates if is_file(candidate)), None)
    if image is None and content.get("imageData"):
        return EmbeddedImage(path, Path(posix).name)
    return image
