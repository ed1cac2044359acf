"""Parts of a backbone that keep the weights they start with."""

from mask2former.model.depth import find_depth
from mask2former.model.features import Backbone


def freeze_stages(backbone: Backbone, num_stages: int) -> None:
    """Freeze a backbone from its input on.

    What is frozen gets no gradient and stays in evaluation mode: its batch norms keep their
    statistics and none of its blocks is dropped. Names of weights stay. What segmentation adds to
    the network that ImageNet weights are for (Swin's four output norms, the pyramid behind a plain
    ViT) learns on.

    Args:
        backbone: Any mode.
        num_stages: 0 for nothing, 1 for the stem, then one more for each of strides 4 to 32; those
            of a plain ViT are quarters of its blocks.

    Raises:
        ValueError: The backbone does not show where its stages are.

    Source:
        Counted as detectron2's `FREEZE_AT` is; Mask2Former's Swin leaves out its output norms too.
    """
    if num_stages == 0:
        return
    depth = find_depth(backbone)
    for name, parameter in backbone.named_parameters():
        if depth.place_of(name).stage < num_stages:
            parameter.requires_grad_(False)
    learning = [path for path, place in depth.places.items() if place.stage >= num_stages]
    backbone.frozen = tuple(
        path
        for path, place in depth.places.items()
        if path
        and place.stage < num_stages
        and not any(inside.startswith(f"{path}.") for inside in learning)
    )
    backbone.train(backbone.training)
