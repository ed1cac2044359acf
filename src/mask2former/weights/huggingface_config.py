"""The two JSON files that make a folder of weights a model of Hugging Face's."""

from collections.abc import Mapping
from typing import Any

from mask2former.config import Backbone, Run
from mask2former.model.backbone import SWIN_SIZES, pixel_statistics
from mask2former.model.features import STRIDES
from mask2former.model.mask2former import SIZE_DIVISOR
from mask2former.types import Classes
from mask2former.weights.architecture import RESNETS

_STAGES = [f"stage{stage}" for stage in range(1, 5)]
_RESNET_KINDS = {name: (block, depths) for (block, depths), name in RESNETS.items()}
_RESNET_CHANNELS = {"basic": (64, 128, 256, 512), "bottleneck": (256, 512, 1024, 2048)}


def model_config(run: Run, classes: Classes) -> dict[str, Any]:
    """The content of `config.json`, as `Mask2FormerConfig` takes it.

    Raises:
        ValueError: Hugging Face's model cannot have this backbone.
    """
    model, loss = run.model, run.loss
    names = distinct(classes.names)
    return {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "backbone_config": _backbone(model.backbone),
        "feature_size": model.hidden_dim,
        "mask_feature_size": model.hidden_dim,
        "hidden_dim": model.hidden_dim,
        "encoder_feedforward_dim": model.encoder_feedforward_dim,
        "encoder_layers": model.encoder_layers,
        # Theirs counts the prediction before the first layer.
        "decoder_layers": model.decoder_layers + 1,
        "num_attention_heads": model.num_heads,
        "dim_feedforward": model.decoder_feedforward_dim,
        "activation_function": "relu",
        "dropout": 0.0,
        "pre_norm": False,
        "enforce_input_projection": False,
        "common_stride": 4,
        "feature_strides": list(STRIDES),
        "num_queries": model.num_queries,
        "no_object_weight": loss.no_object_weight,
        "class_weight": loss.class_weight,
        "mask_weight": loss.mask_weight,
        "dice_weight": loss.dice_weight,
        "train_num_points": loss.num_points,
        "oversample_ratio": loss.oversample_ratio,
        "importance_sample_ratio": loss.importance_ratio,
        "ignore_value": run.data.ignore_index,
        "use_auxiliary_loss": True,
        "id2label": {str(class_id): name for class_id, name in enumerate(names)},
        "label2id": {name: class_id for class_id, name in enumerate(names)},
        "torch_dtype": "float32",
    }


def image_processor_config(run: Run, classes: Classes) -> dict[str, Any]:
    """The content of `preprocessor_config.json`, as `Mask2FormerImageProcessor` takes it."""
    mean, std = pixel_statistics(run.model.backbone.name)
    size = run.data.test_size
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size.short_side, "longest_edge": size.max_long_side},
        "size_divisor": SIZE_DIVISOR,
        "resample": 2,  # Pillow's number of bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_reduce_labels": False,
        "ignore_index": run.data.ignore_index,
        "num_labels": len(classes),
    }


def _backbone(backbone: Backbone) -> Mapping[str, Any]:
    if backbone.name in SWIN_SIZES:
        size = SWIN_SIZES[backbone.name]
        return {
            "model_type": "swin",
            "embed_dim": size.embed_dim,
            "depths": list(size.depths),
            "num_heads": list(size.num_heads),
            "window_size": size.window,
            "image_size": 384 if size.window == 12 else 224,
            "drop_path_rate": backbone.drop_path,
            "out_features": _STAGES,
        }
    if backbone.name in _RESNET_KINDS:
        block, depths = _RESNET_KINDS[backbone.name]
        return {
            "model_type": "resnet",
            "layer_type": block,
            "depths": list(depths),
            "hidden_sizes": list(_RESNET_CHANNELS[block]),
            "embedding_size": 64,
            "out_features": _STAGES,
        }
    raise ValueError(
        f"backbone {backbone.name} has no place in Hugging Face's Mask2Former; a model with one of "
        f"{', '.join([*SWIN_SIZES, *_RESNET_KINDS])} can be converted"
    )


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that a mapping from names to numbers can hold: those that repeat get their number."""
    return tuple(
        f"{name} ({class_id})" if names.count(name) > 1 else name
        for class_id, name in enumerate(names)
    )
