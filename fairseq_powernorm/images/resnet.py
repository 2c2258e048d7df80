"""ResNet20 for CIFAR-10 (He et al. 2016, section 4.2) with the norms of this package.

An image's positions are the rows of a norm: (B, C, H, W) is B·H·W tokens of C channels, without padding, which is what
BatchNorm over images is. So ``batch`` is the standard network, and every other name of
:func:`~fairseq_powernorm.norms.registry.available_norms` takes BatchNorm's place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..norms.registry import available_norms, build_norm, settings_of

NONE = "none"
"""In the place of a norm's name: no norm."""
WIDTHS = (16, 32, 64)
CLASSES = 10
BLOCKS = 3  # of each width: 6 · 3 + 2 layers


def build_image_norm(name: str, channels: int, **settings: float | int) -> nn.Module:
    """A norm by name, for images (B, C, H, W); settings that it has no use for are left out.

    Raises:
        ValueError: an unknown name, or a value outside its range.
    """
    if name == NONE:
        return nn.Identity()
    if name not in available_norms():
        raise ValueError(f"unknown norm {name!r}; known norms: {', '.join(available_norms())}")
    taken = {key: value for key, value in settings.items() if key in settings_of(name)}
    return build_norm(name, channels, channel_dim=1, **taken)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3 × 3, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """conv – norm – ReLU – conv – norm, added to the input, ReLU. Where the width doubles, the input is taken at every
    second position and the new channels are zero (option A of the paper: no parameters)."""

    def __init__(self, inputs: int, outputs: int, norm: str, **settings: float | int):
        """Args:
        inputs: channels.
        outputs: channels; the first convolution has stride 2 where they are more.
        norm: its name.
        **settings: of the norm.
        """
        super().__init__()
        self.stride, self.added = (1 if inputs == outputs else 2), outputs - inputs
        self.conv1, self.norm1 = convolution(inputs, outputs, self.stride), build_image_norm(norm, outputs, **settings)
        self.conv2, self.norm2 = convolution(outputs, outputs), build_image_norm(norm, outputs, **settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(images)))))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        if self.added:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.added))
        return F.relu(inner + shortcut)


class ResNet20(nn.Module):
    """269,722 parameters with ``batch``: a stem, three blocks each of 16, 32 and 64 channels, mean over positions,
    linear. He initialisation by fan-out."""

    def __init__(self, norm: str = "batch", **settings: float | int):
        """Args:
            norm: a name of :func:`~fairseq_powernorm.norms.registry.available_norms`, or ``none``.
            **settings: of the norms; those that a norm has no use for are left out.

        Raises:
            ValueError: an unknown norm.
        """
        super().__init__()
        self.stem, self.stem_norm = convolution(3, WIDTHS[0]), build_image_norm(norm, WIDTHS[0], **settings)
        widths = [width for width in WIDTHS for _ in range(BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                Block(inputs, outputs, norm, **settings)
                for inputs, outputs in zip([WIDTHS[0], *widths[:-1]], widths, strict=True)
            )
        )
        self.linear = nn.Linear(WIDTHS[-1], CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) → logits (B, 10)."""
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.blocks(F.relu(self.stem_norm(self.stem(images))))
        return self.linear(features.mean(dim=(2, 3)))
