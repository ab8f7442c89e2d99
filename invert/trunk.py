"""The convolutions of VGG-16 and AlexNet, whose feature maps LPIPS compares.

Built here without weights: to import torchvision for them takes longer than to import torch.
Sources: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", table 1, D; Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
networks". LPIPS takes the maps after the ReLUs that end a slice.
"""

from __future__ import annotations

from torch import Tensor, nn

VGG_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Trunk(nn.Module):
    """A sequence of layers in slices; it returns the map [B, C, H, W] at the end of each slice.

    A layer's name is its number in the whole sequence, as in files of weights: `slice2.5.weight` is
    the weight of layer 5.
    """

    def __init__(self, slices: list[list[nn.Module]]):
        super().__init__()
        number = 0
        for position, layers in enumerate(slices, start=1):
            sequence = nn.Sequential()
            for layer in layers:
                sequence.add_module(str(number), layer)
                number += 1
            self.add_module(f"slice{position}", sequence)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for sequence in self.children():
            x = sequence(x)
            maps.append(x)
        return tuple(maps)


def vgg() -> Trunk:
    """The 13 convolutions of VGG-16. A slice ends before the next pooling."""
    slices: list[list[nn.Module]] = []
    channels = 3
    for block in VGG_CHANNELS:
        layers: list[nn.Module] = []
        if slices:
            layers.append(nn.MaxPool2d(2, 2))
        for width in block:
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        slices.append(layers)
    return Trunk(slices)


def alex() -> Trunk:
    """Build the 5 convolutions of AlexNet, with random weights. A slice ends after each ReLU."""
    return Trunk(
        [
            [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True)],
            [nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True)],
            [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)],
            [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)],
            [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)],
        ]
    )
