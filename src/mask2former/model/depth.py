"""What comes after what in a backbone: its stem, its blocks, and what segmentation adds to them.

Freezing, learning rates that fall with depth and recomputing all ask for it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from mask2former.model.backbone import ChannelsFirst, PyramidBackbone
from mask2former.model.features import STRIDES, Backbone
from mask2former.model.simple_pyramid import SingleStrideBackbone
from mask2former.model.swin import SwinTransformer

NUM_STAGES = 1 + len(STRIDES)
"""The stem, and one for each stride."""
LISTS = (nn.Sequential, nn.ModuleList)


class Place(NamedTuple):
    """Where in a backbone something stands."""

    stage: int
    """0: the stem; 1 to 4: what makes stride 4 to 32; 5: what segmentation adds to the backbone."""
    block: int
    """0: the stem; residual blocks count from 1; what comes behind them has the next number."""


class Depth(NamedTuple):
    """A backbone from its input to its output."""

    places: dict[str, Place]
    """By path; a module or a parameter without an entry has that of the module around it."""
    blocks: list[str]
    """Paths of the residual blocks, in order; a stage that does not show its blocks is one."""

    def place_of(self, path: str) -> Place:
        """Of a module or a parameter, by its path in the backbone."""
        while path not in self.places:
            path = path.rpartition(".")[0]
        return self.places[path]


class Body(NamedTuple):
    """The network inside a backbone that ImageNet weights are for."""

    path: str
    outputs: tuple[str, ...]
    """Paths in the network of the modules that complete stages 1 to 4."""
    before: tuple[str, ...] = ()
    """Likewise of those that give a stride below 4."""
    added: tuple[str, ...] = ()
    """Likewise of those that ImageNet weights do not have."""


def find_depth(backbone: Backbone) -> Depth:
    """Find the order of a backbone's modules.

    The stages of a plain ViT, which has a single stride, are quarters of its blocks.

    Raises:
        ValueError: The backbone does not show where its stages are.
    """
    body = _find_body(backbone)
    network = backbone.get_submodule(body.path)
    units = [path for path in _units(network, body.before + body.outputs) if path not in body.added]
    missing = {*body.before, *body.outputs} - {*units}
    if missing:
        raise ValueError(
            f"a {type(network).__name__} has no module {min(missing)!r}, where timm says that a "
            "stage ends: its stages cannot be told apart; leave model.backbone.freeze at 0, "
            "optimizer.layer_decay at 1 and training.checkpoint_activations off, or take another "
            "backbone"
        )
    start = _first_of_stage1(units, body)
    ends = [units.index(path) for path in body.outputs]
    # Tables and tokens that stand beside the modules come first, as the stem does.
    stem = [body.path, *(_join(body.path, unit) for unit in units[:start])]
    places = dict.fromkeys(stem, Place(0, 0))
    blocks: list[str] = []
    for number in range(start, ends[-1] + 1):
        stage = 1 + sum(end < number for end in ends)
        module = network.get_submodule(units[number])
        _place(module, _join(body.path, units[number]), stage, places, blocks)
    for unit in units[ends[-1] + 1 :]:
        places[_join(body.path, unit)] = Place(len(STRIDES), len(blocks) + 1)
    added = Place(NUM_STAGES, len(blocks) + 1)
    places |= {_join(body.path, path): added for path in body.added}
    return Depth({"": added} | places, blocks)


def _find_body(backbone: Backbone) -> Body:
    if isinstance(backbone, SwinTransformer):
        outputs = tuple(f"layers.{i}" for i in range(len(STRIDES)))
        return Body("", outputs, added=("norms",))
    assert isinstance(backbone, PyramidBackbone | SingleStrideBackbone)
    path, network = "body", backbone.body
    if isinstance(network, ChannelsFirst):
        path, network = "body.body", network.body
    info: Any = network.feature_info
    names = [str(name) for name in info.module_name()]
    whole = dict(network.named_children()).get("model")
    if whole is not None:
        path, network = f"{path}.model", whole
    else:
        # timm takes a network apart into its stages, under names without dots.
        names = [name if _has(network, name) else name.replace(".", "_") for name in names]
    if isinstance(backbone, SingleStrideBackbone):
        return Body(path, _quarters(network, names[-1]))
    by_stride = dict(zip(backbone.strides, names, strict=True))
    before = tuple(name for stride, name in by_stride.items() if stride < STRIDES[0])
    return Body(path, tuple(by_stride[stride] for stride in STRIDES), before)


def _quarters(network: nn.Module, last: str) -> tuple[str, ...]:
    """Paths of the blocks that end a quarter; `last` is that of the last one."""
    blocks, _, index = last.rpartition(".")
    if not index.isdecimal() or not _has(network, last):
        return (last,)
    count = int(index) + 1
    ends = [-(-count * quarter // len(STRIDES)) - 1 for quarter in range(1, NUM_STAGES)]
    return tuple(f"{blocks}.{end}" for end in ends)


def _has(network: nn.Module, path: str) -> bool:
    return path in dict(network.named_modules())


def _units(module: nn.Module, ends: tuple[str, ...], path: str = "") -> Iterator[str]:
    """Paths of modules, in order, opening those inside which a stage ends."""
    for name, child in module.named_children():
        inside = _join(path, name)
        if any(end.startswith(f"{inside}.") for end in ends):
            yield from _units(child, ends, inside)
        else:
            yield inside


def _first_of_stage1(units: list[str], body: Body) -> int:
    """Stage 1 begins with the first module of the list that its last one is in."""
    after = 1 + max((units.index(path) for path in body.before), default=-1)
    siblings, _, _ = body.outputs[0].rpartition(".")
    return next(
        number
        for number, unit in enumerate(units)
        if number >= after
        and (unit == body.outputs[0] or (siblings and unit.startswith(f"{siblings}.")))
    )


def _place(
    unit: nn.Module, path: str, stage: int, places: dict[str, Place], blocks: list[str]
) -> None:
    """Note a stage, or a part of one, and the blocks that it shows.

    What else is in it, such as the change of resolution, goes with the block next to it.
    """
    places[path] = Place(stage, len(blocks) + 1)
    names = [name for name, _ in unit.named_children()]
    inside = path if isinstance(unit, LISTS) else _join(path, "blocks")
    shown = unit if isinstance(unit, LISTS) else dict(unit.named_children()).get("blocks")
    # A list of single layers is a block, not a list of blocks.
    if not isinstance(shown, LISTS) or not len(shown) or any(map(_is_leaf, shown)):
        blocks.append(path)
        return
    for name, _ in shown.named_children():
        blocks.append(_join(inside, name))
        places[blocks[-1]] = Place(stage, len(blocks))
    behind = names[names.index("blocks") + 1 :] if shown is not unit else []
    places |= {_join(path, name): Place(stage, len(blocks)) for name in behind}


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
