"""Translate the names of a state dict by a table of name templates.

A row holds our template and theirs. `{i}` stands for a number that both share, `{i+1}` for that
number plus one, a final `*` for the last part of the name (weight, bias, ...). `[n]` after a
template is the n-th third of the rows, for tensors that one side keeps apart and the other packed.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NameTable = Sequence[tuple[str, str]]

_THIRD = re.compile(r"\[(\d)\]$")
_PLACEHOLDER = re.compile(r"\\\{(\w+?)(\\\+1)?\\\}")


def to_ours(theirs: Mapping[str, Tensor], table: NameTable) -> tuple[dict[str, Tensor], list[str]]:
    """Rename and regroup a foreign state dict.

    Returns:
        Our state dict, and the foreign names that no row of the table knows.
    """
    return _translate(theirs, [(their, our) for our, their in table])


def to_theirs(ours: Mapping[str, Tensor], table: NameTable) -> tuple[dict[str, Tensor], list[str]]:
    """The inverse of `to_ours`."""
    return _translate(ours, table)


def _translate(
    state: Mapping[str, Tensor], table: NameTable
) -> tuple[dict[str, Tensor], list[str]]:
    rows = [(_pattern(source), source, target) for source, target in table]
    whole: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = defaultdict(dict)
    unknown = []
    for name, tensor in state.items():
        matches = [(m, s, t) for pattern, s, t in rows if (m := pattern.fullmatch(name))]
        if not matches:
            unknown.append(name)
        for match, source, target in matches:
            part = _third(source)
            chunk = tensor if part is None else _third_of(name, tensor, part)
            target_name = _fill(target, match)
            target_part = _third(target)
            if target_part is None:
                whole[target_name] = chunk
            else:
                thirds[target_name][target_part] = chunk
    for name, parts in thirds.items():
        chunks = [parts[i] for i in sorted(parts)]
        if len({chunk.shape[1:] for chunk in chunks}) > 1 or not chunks[0].ndim:
            shapes = ", ".join(str(tuple(chunk.shape)) for chunk in chunks)
            raise ValueError(f"the parts of {name} have shapes {shapes}; they must be alike")
        whole[name] = torch.cat(chunks)
    return whole, unknown


def _third_of(name: str, tensor: Tensor, part: int) -> Tensor:
    if tensor.ndim == 0 or len(tensor) % 3:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; its rows are those of three tensors"
        )
    return tensor.chunk(3)[part]


def _third(template: str) -> int | None:
    found = _THIRD.search(template)
    return int(found[1]) if found else None


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(_THIRD.sub("", template))

    def group(found: re.Match[str]) -> str:
        return rf"(?P<{found[1]}{'_more' if found[2] else ''}>\d+)"

    return re.compile(_PLACEHOLDER.sub(group, escaped).replace(r"\*", r"(?P<leaf>\w+)"))


def _fill(template: str, match: re.Match[str]) -> str:
    numbers = {}
    for group, text in match.groupdict().items():
        if group != "leaf":
            numbers[group.removesuffix("_more")] = int(text) - group.endswith("_more")
    name = _THIRD.sub("", template)
    for group, number in numbers.items():
        name = name.replace(f"{{{group}}}", str(number)).replace(f"{{{group}+1}}", str(number + 1))
    return name.replace("*", match.groupdict().get("leaf") or "")
