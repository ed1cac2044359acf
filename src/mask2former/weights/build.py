"""The model that a configuration describes."""

from mask2former import config
from mask2former.model.backbone import make_backbone, pixel_statistics
from mask2former.model.mask2former import Mask2Former


def build_model(model: config.Model, num_classes: int) -> Mask2Former:
    """Make a model with random weights.

    Args:
        model: Its sizes.
        num_classes: Without "no object".

    Raises:
        ValueError: The backbone is unknown or the sizes do not fit each other.
    """
    backbone = model.backbone
    pixel_mean, pixel_std = pixel_statistics(backbone.name)
    return Mask2Former(
        make_backbone(backbone.name, norm=backbone.norm, drop_path=backbone.drop_path),
        num_classes,
        num_queries=model.num_queries,
        hidden_dim=model.hidden_dim,
        num_heads=model.num_heads,
        encoder_layers=model.encoder_layers,
        encoder_feedforward_dim=model.encoder_feedforward_dim,
        decoder_layers=model.decoder_layers,
        decoder_feedforward_dim=model.decoder_feedforward_dim,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
    )
