"""Checkpoints that are none of ours: what they are of, told by the names of their tensors."""

import re
from collections.abc import Collection

# (a name matches, and none matches the other) -> what it is; the first that fits is meant.
_KINDS = (
    (r"sem_seg_head\.predictor\.transformer\.decoder\.", None, "a MaskFormer (v1) by its authors"),
    (r"sem_seg_head\.predictor\.", None, "a per-pixel baseline of the Mask2Former release"),
    (r"(roi_heads?|proposal_generator|rpn_head)\.", None, "a Mask R-CNN or another R-CNN"),
    (r"model\.(task_encoder|text_mapper)\.", None, "a OneFormer"),
    (
        r"model\.pixel_level_module\.",
        r"model\.transformer_module\.queries_features\.",
        "a MaskFormer (v1) as Hugging Face saves it",
    ),
    (
        r"(pixel_level_module|transformer_module)\.",
        None,
        "a Mask2Former of Hugging Face without its classifier; save "
        "Mask2FormerForUniversalSegmentation, not Mask2FormerModel",
    ),
    (r"(panoptic|decode|track)_head\.pixel_decoder\.", None, "a MaskFormer (v1) of OpenMMLab"),
    (r"(bbox|mask|decode|auxiliary|panoptic|semantic)_head\.", None, "another model of OpenMMLab"),
    (r"sem_seg_head\.", None, "another segmentation model of detectron2"),
    (r"(class_labels_classifier|class_embed|input_proj|bbox_embed)\.", None, "a DETR"),
    (r"segformer\.", None, "a SegFormer"),
    (r"(image_encoder|vision_encoder|mask_decoder|sam_)", None, "a Segment Anything"),
    (r"model\.\d+\.(conv|cv1|m)\b", None, "a YOLO"),
)


def describe(names: Collection[str]) -> str | None:
    """What other model has tensors of such names, to be put after "is"; none if unknown."""
    for pattern, absent, kind in _KINDS:
        found = re.compile(pattern)
        if any(map(found.match, names)):
            unless = None if absent is None else re.compile(absent)
            if unless is None or not any(map(unless.match, names)):
                return kind
    return None
