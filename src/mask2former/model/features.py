"""What the model asks of a backbone."""

from jaxtyping import Float
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """Features at strides 4, 8, 16 and 32 of normalised images."""

    channels: dict[int, int]
    """By stride."""
    frozen: tuple[str, ...] = ()
    """Paths of modules that do not train; they stay in evaluation mode."""

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode, except that of what is frozen: no drop path, no statistics of the batch."""
        super().train(mode)
        for path in self.frozen:
            self.get_submodule(path).eval()
        return self

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Features `(b, c, h, w)` by stride; sizes are rounded up where a stride does not divide.

        Args:
            images: Normalised; their sizes are multiples of 32 when the model asks.
        """
        raise NotImplementedError
