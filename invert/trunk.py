"""The convolutions of VGG-16 and AlexNet, whose feature maps LPIPS compares.

They are built here, without weights, since it takes longer to import torchvision than torch.
Sources: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", table 1, D; Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
networks". LPIPS compares the maps after the ReLU that ends each slice.
"""

from __future__ import annotations

from torch import Tensor, nn

# The output channels of the convolutions in each block, between poolings.
VGG_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# The convolutions after the first: output channels, side, and whether a pooling comes before.
ALEX_CONVOLUTIONS = ((192, 5, True), (384, 3, True), (256, 3, False), (256, 3, False))


class Trunk(nn.Module):
    """A sequence of layers in slices; it returns the map [B, C, H, W] at the end of each slice.

    The name of a layer holds its number in the whole sequence, as in files of weights:
    `slice2.5.weight` is the weight of layer 5.
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
            layers += convolution(channels, width, 3)
            channels = width
        slices.append(layers)
    return Trunk(slices)


def alex() -> Trunk:
    """The 5 convolutions of AlexNet. A slice ends after each ReLU."""
    first = nn.Conv2d(3, 64, 11, stride=4, padding=2)
    slices: list[list[nn.Module]] = [[first, nn.ReLU(inplace=True)]]
    channels = 64
    for width, side, is_pooled in ALEX_CONVOLUTIONS:
        layers: list[nn.Module] = []
        if is_pooled:
            layers.append(nn.MaxPool2d(3, 2))
        layers += convolution(channels, width, side)
        slices.append(layers)
        channels = width
    return Trunk(slices)


def convolution(channels: int, width: int, side: int) -> list[nn.Module]:
    """A convolution that keeps the size of the map, and a ReLU."""
    margin = side // 2
    layer = nn.Conv2d(channels, width, side, padding=margin)
    return [layer, nn.ReLU(inplace=True)]
