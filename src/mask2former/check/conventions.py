"""How a task treats what annotations leave open: overlaps, crowds, pixels that nobody labelled."""

from collections.abc import Iterator, Mapping

from mask2former.check.survey import Split
from mask2former.data.annotations import Instances
from mask2former.tasks import Task


def conventions(splits: Mapping[str, Split], task: Task) -> Iterator[str]:
    """A sentence each, for what the data may show."""
    if task == "instance":
        if any(map(_has_outlines, splits.values())):
            yield "Objects may overlap: each keeps all of its pixels."
        else:
            yield "Objects do not overlap: every pixel belongs to one at most."
        yield (
            "Pixels of no object are background, which is no class: an object that is predicted "
            "there counts as wrong."
        )
    else:
        scored = (
            "no predicted segment is wrong for covering them"
            if task == "panoptic"
            else "in scoring they do not count"
        )
        yield f"Unlabelled pixels belong to no mask in training; {scored}."
    if task == "semantic" and any(s.raw.tasks[0] != task for s in splits.values()):
        yield "Crowds, where there are any, are pixels of their class."
    if any(split.objects["is_crowd"].any() for split in splits.values()):
        yield (
            "Crowds are not trained on, and no object is expected there; what is predicted inside "
            "a crowd of its class counts neither as right nor as wrong."
        )


def _has_outlines(split: Split) -> bool:
    """Whether its objects are annotated one by one, and not as a map."""
    readable = next((image.index for image in split.images if image.is_annotated), None)
    if readable is None:
        return False
    return isinstance(split.dataset.annotations(readable), Instances)
