"""Names in files of a backbone alone."""

from collections.abc import Collection, Mapping

from torch import Tensor

from mask2former.weights import official
from mask2former.weights.names import to_ours

# The authors of Swin and of Mask2Former name its parts alike; a classifier has no `norm{i}`.
_SWIN_RELEASE = tuple(
    (ours.removeprefix("backbone."), theirs.removeprefix("backbone."))
    for ours, theirs in official.SWIN
)
# timm merges patches at the start of a stage, the authors at the end of the one before.
_SWIN_TIMM = tuple(
    (ours, theirs.replace("{i}.downsample.", "{i+1}.downsample.")) for ours, theirs in _SWIN_RELEASE
)
_RESNET_DETECTRON2 = (
    *(
        (ours.removeprefix("backbone.body."), theirs.removeprefix("backbone."))
        for ours, theirs in official.RESNET
    ),
    ("fc.*", "stem.fc.*"),
)
_DETECTRON2 = "res2.0.conv1.weight"
_MARKS = (
    ("layer1.0.conv1.weight", "a ResNet as torchvision and timm name it"),
    (_DETECTRON2, "a ResNet as detectron2 names it"),
    ("layers.0.blocks.0.attn.qkv.weight", "a Swin"),
    ("res2_0_branch2a_w", "a ResNet of Caffe2"),
)


def recognises(names: Collection[str]) -> str | None:
    """What backbone has such names, or none."""
    return next((kind for mark, kind in _MARKS if mark in names), None)


def to_our_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our Swin's part of a classifier's state dict, by its authors or by timm."""
    is_release = "layers.0.downsample.reduction.weight" in state
    return to_ours(state, _SWIN_RELEASE if is_release else _SWIN_TIMM)[0]


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Timm's names for a classifier's state dict.

    Raises:
        ValueError: It is of Caffe2, whose ResNet is another network.
    """
    if _DETECTRON2 in state:
        return to_ours(state, _RESNET_DETECTRON2)[0]
    if "res2_0_branch2a_w" in state:
        raise ValueError(
            "a ResNet of Caffe2 (detectron2's MSRA/R-50.pkl) was given: it strides in the first "
            "convolution of a block and reads BGR in 0 to 255; take torchvision's, which the "
            "authors of Mask2Former take (detectron2's torchvision/R-50.pkl)"
        )
    return dict(state)
