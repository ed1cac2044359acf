"""The model: images in, masks and classes of every query out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mask2former.model.features import Backbone
from mask2former.model.pixel_decoder import PixelDecoder
from mask2former.model.transformer_decoder import TransformerDecoder
from mask2former.types import MaskPrediction

SIZE_DIVISOR = 32


class Mask2Former(nn.Module):
    """Masked-attention mask transformer for universal image segmentation.

    Source:
        Mask2Former (Cheng et al., CVPR 2022).
    """

    pixel_mean: Float[Tensor, "3 1 1"]
    pixel_std: Float[Tensor, "3 1 1"]

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        num_queries: int = 100,
        hidden_dim: int = 256,
        num_heads: int = 8,
        encoder_layers: int = 6,
        encoder_feedforward_dim: int = 1024,
        decoder_layers: int = 9,
        decoder_feedforward_dim: int = 2048,
        pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> None:
        """Make the model with random weights.

        Args:
            backbone: As `model.backbone.make_backbone` makes it.
            num_classes: Without "no object".
            num_queries: The most segments that one image can get.
            hidden_dim: Channels of both decoders.
            num_heads: Of all attention.
            encoder_layers: Of deformable attention in the pixel decoder.
            encoder_feedforward_dim: Width inside those.
            decoder_layers: Of masked attention.
            decoder_feedforward_dim: Width inside those.
            pixel_mean: Of RGB in [0, 1].
            pixel_std: Of RGB in [0, 1].
        """
        super().__init__()
        # Constants are made on the CPU also where a model is built without memory for its weights.
        mean, std = (torch.tensor(x, device="cpu")[:, None, None] for x in (pixel_mean, pixel_std))
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(
            backbone.channels,
            hidden_dim=hidden_dim,
            num_layers=encoder_layers,
            num_heads=num_heads,
            feedforward_dim=encoder_feedforward_dim,
        )
        self.transformer_decoder = TransformerDecoder(
            num_classes,
            num_queries=num_queries,
            hidden_dim=hidden_dim,
            num_layers=decoder_layers,
            num_heads=num_heads,
            feedforward_dim=decoder_feedforward_dim,
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> MaskPrediction:
        """Predict.

        Args:
            images: RGB in [0, 1], padded right and bottom with the pixel mean; see
                `data.batching.pad_images`.

        Returns:
            Classes and masks of every query, for the initial queries and after every layer.

        Raises:
            ValueError: When the padded size is no multiple of 32.
        """
        check_size(images)
        normalized = (images - self.pixel_mean) / self.pixel_std
        features = self.pixel_decoder(self.backbone(normalized))
        return self.transformer_decoder(features)


def check_size(images: Float[Tensor, "b 3 h w"]) -> None:
    """Refuse a size that the strides do not divide."""
    h, w = images.shape[-2:]
    if h % SIZE_DIVISOR or w % SIZE_DIVISOR:
        wanted = tuple(-(-size // SIZE_DIVISOR) * SIZE_DIVISOR for size in (h, w))
        raise ValueError(
            f"image size (h, w) = {(h, w)} is not a multiple of stride {SIZE_DIVISOR}; "
            f"pad the batch to {wanted}"
        )
