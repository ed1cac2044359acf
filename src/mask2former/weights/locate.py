"""Where weights are: a path, a published preset, a hub id or an address becomes a path."""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mask2former.presets import all_presets, all_published, without_weights
from mask2former.suggestions import did_you_mean
from mask2former.weights.download import (
    OFFLINE_VARIABLE,
    answer_within,
    cached_download,
    is_offline,
)

AUTHORS = "https://dl.fbaipublicfiles.com/maskformer/"
HUB_SECONDS = 6.0

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./+-]+))?", re.ASCII)
_ZOO_FILE = re.compile(r"(?:.*_)?([0-9a-f]{6})\.pkl")
_FILE_SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt", ".bin", ".ckpt", ".yaml", ".json")
_BESIDE = ("config.json", "preprocessor_config.json")
# Of a repository the first of these that it has: a model, a run's folder, a model before 2023.
_WEIGHTS = (
    ("*.safetensors", "*.safetensors.index.json"),
    ("weights/best.safetensors", "weights/last.safetensors"),
    ("pytorch_model*.bin", "pytorch_model*.bin.index.json"),
)


class Located(NamedTuple):
    """A checkpoint on this machine."""

    path: Path
    """A file or a folder."""
    preset: str | None
    """The published configuration that its name says it is of."""


class _Repository(NamedTuple):
    name: str
    revision: str | None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def locate(weights: str | Path) -> Located:
    """Find a checkpoint, downloading it the first time.

    Args:
        weights: An existing file or folder; or an `https://` address; or the name of a published
            preset (`-` and `_` are the same), which means the authors' weights; or a Hugging Face
            id `owner/name` or `owner/name@revision`. What exists as a path is a path.

    Raises:
        FileNotFoundError: It is none of these, or the hub has no such repository or revision.
        ValueError: A download failed, or it is a preset that nobody has published weights of.
    """
    text = str(weights)
    if "://" in text:
        path = cached_download(text)
        return Located(path, preset_of_file(path.name))
    path = Path(text).expanduser()
    if path.exists():
        return Located(path, preset_of_file(path.name))
    preset = all_published().get(text.replace("_", "-"))
    if preset is not None and preset.checkpoint is not None:
        return Located(cached_download(AUTHORS + preset.checkpoint), preset.name)
    trainable = all_presets().get(text.replace("_", "-"))
    if trainable is not None:
        raise ValueError(without_weights(trainable))
    hub_id = _HUB_ID.fullmatch(text)
    if hub_id is not None and not text.endswith(_FILE_SUFFIXES):
        return Located(_snapshot(_Repository(hub_id[1], hub_id[2])), None)
    raise FileNotFoundError(
        f"no weights at {text}; give a file or folder, a published preset, a Hugging Face id "
        f"owner/name or owner/name@revision, or an https:// address{_hint(text)}"
    )


def preset_of_file(name: str) -> str | None:
    """The published preset of one of the authors' files, by the hash at the end of its name.

    The content is not looked at: whoever opens the file checks that it fits.
    """
    zoo_file = _ZOO_FILE.fullmatch(name)
    if zoo_file is None:
        return None
    for preset in all_published().values():
        if preset.checkpoint and PurePosixPath(preset.checkpoint).stem.endswith(zoo_file[1]):
            return preset.name
    return None


def _hint(text: str) -> str:
    """For what looks like a name rather than a path."""
    if re.search(r"[/\\.]", text):
        return ""
    close = did_you_mean(text, all_published())
    return f"; {close}" if close.endswith("?") else "; `mask2former presets` lists the presets"


def _snapshot(repository: _Repository) -> Path:
    """A hub repository's files on this machine, only those that a model is made of."""
    refusal = _ask(repository)
    for patterns in _WEIGHTS:
        folder = _fetch(repository, patterns, refusal)
        if any(path for pattern in patterns for path in folder.glob(pattern)):
            return folder
    raise ValueError(
        f"the Hugging Face repository {repository} holds neither .safetensors nor "
        f"pytorch_model.bin; for another of its files, give the address "
        f"{constants.ENDPOINT}/{repository.name}/resolve/{repository.revision or 'main'}/FILE"
    )


def _ask(repository: _Repository) -> Exception | None:
    """Why the hub does not give a repository; nothing when it does.

    `snapshot_download` sets no timeout on its first request: on a network that swallows packets
    it would wait for minutes before it looks into its cache.
    """
    if is_offline():
        return ConnectionError(f"{OFFLINE_VARIABLE} forbids downloads")
    name, revision = repository
    try:
        answer_within(
            HUB_SECONDS,
            lambda: HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS),
        )
    except Exception as error:  # the hub's, or of the HTTP library that its release is built on
        return error
    return None


def _fetch(repository: _Repository, patterns: tuple[str, ...], refusal: Exception | None) -> Path:
    """Download what is new; of what the hub does not give, take what is in its cache."""
    nested = any("/" in pattern for pattern in patterns)
    try:
        folder = snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=[*_BESIDE, *patterns],
            ignore_patterns=None if nested else ["*/*"],  # `*` matches slashes too
            local_files_only=refusal is not None,
        )
    except Exception as error:  # see `_ask`
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's
        raise _explained(repository, refusal or error) from error
    return Path(folder)


def _explained(repository: _Repository, error: Exception) -> Exception:
    """An error of the hub in our words."""
    page = f"{constants.ENDPOINT}/{repository.name}"
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(
            f"the Hugging Face repository {repository.name} has no revision "
            f"{repository.revision}; name a branch, tag or commit of it"
        )
    if isinstance(error, GatedRepoError):
        return ValueError(
            f"the Hugging Face repository {repository.name} is gated; accept its terms at {page} "
            "and set HF_TOKEN to a token of that account"
        )
    if isinstance(error, RepositoryNotFoundError):
        return FileNotFoundError(
            f"no path {repository} here and no repository {page}; check the spelling, or set "
            "HF_TOKEN to a token that may read it"
        )
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    remedy = f"unset {OFFLINE_VARIABLE}" if is_offline() else "connect to the network"
    return ValueError(
        f"no path {repository} here, and the Hugging Face repository of that name cannot be "
        f"fetched ({reason}) and is not complete in {constants.HF_HUB_CACHE}; {remedy}, or give "
        "the path of a copy"
    )
