"""A feature pyramid network whose sum leaves out its finest level."""

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_head
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from torch import nn


class CoarsePyramid(nn.Module):
    """The decoder of smp's FPN without P2, its level at 1/4 of the image.

    P5, P4 and P3 are brought to 1/4 of the image as they always are and merged. What only P2 needed is gone, from the
    state, too; what stays has smp's names and the weights that it had.

    Parameters
    ----------
    decoder : smp's, whose parts are taken over.

    Examples
    --------
    >>> decoder = CoarsePyramid(FPNDecoder((3, 4, 4, 8, 8, 8), pyramid_channels=32, segmentation_channels=32))
    >>> sides = (32, 16, 8, 4, 2, 1)
    >>> features = [torch.zeros(2, n, side, side) for n, side in zip((3, 4, 4, 8, 8, 8), sides, strict=True)]
    >>> decoder(features).shape
    torch.Size([2, 32, 8, 8])
    """

    def __init__(self, decoder: FPNDecoder) -> None:
        super().__init__()
        self.p5, self.p4, self.p3 = decoder.p5, decoder.p4, decoder.p3
        self.seg_blocks = decoder.seg_blocks[:3]
        self.merge, self.dropout = decoder.merge, decoder.dropout

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Return the merged levels, (N, channels, H / 4, W / 4), of the features of all stages."""
        c3, c4, c5 = features[-3:]
        p5 = self.p5(c5)
        p4 = self.p4(p5, c4)
        p3 = self.p3(p4, c3)
        merged = self.merge([block(level) for block, level in zip(self.seg_blocks, (p5, p4, p3), strict=True)])
        return self.dropout(merged)


def leave_out_finest_level(network: smp.FPN, classes: int) -> None:
    """Make the decoder of an FPN a :class:`CoarsePyramid`.

    The weights that stay are those which the whole network drew. Where levels are concatenated (`cat`) the last layer
    sees three levels in place of four, and is drawn anew.

    Parameters
    ----------
    network : changed in place.
    classes : number of its planes.
    """
    network.decoder = CoarsePyramid(network.decoder)
    if network.decoder.merge.policy == "cat":
        seen = network.segmentation_head[0].in_channels * 3 // 4
        network.segmentation_head = SegmentationHead(seen, classes, kernel_size=1, upsampling=4)
        initialize_head(network.segmentation_head)
