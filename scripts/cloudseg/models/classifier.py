"""A network that says of an image as a whole which classes are in it, and no masks."""

import torch
from segmentation_models_pytorch.base import ClassificationHead
from segmentation_models_pytorch.base.initialization import initialize_head
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import nn


class Classifier(nn.Module):
    """An encoder, and the classification head that smp's networks of masks have beside them.

    Its state has smp's keys, ``encoder.*`` and ``classification_head.*``, so that networks of masks start from it, and
    it from them.

    Parameters
    ----------
    encoder : of smp or timm, as :func:`cloudseg.models.encoder.build_encoder` makes it.
    classes : number of them.
    pooling : ``avg`` or ``max``, of the last features.
    dropout : before the linear layer.

    Examples
    --------
    >>> from cloudseg.models.encoder import build_encoder
    >>> masks, logits = Classifier(build_encoder("tu-test_resnet"), classes=4)(torch.zeros(2, 3, 40, 50))
    >>> masks is None, logits.shape
    (True, torch.Size([2, 4]))
    """

    def __init__(self, encoder: nn.Module, classes: int, pooling: str = "avg", dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = encoder
        self.classification_head = ClassificationHead(encoder.out_channels[-1], classes, pooling, dropout)
        initialize_head(self.classification_head)

    @property
    def stride(self) -> int:
        """What sides must be multiples of: the patches of a vision transformer, or 1."""
        return self.encoder.output_stride if isinstance(self.encoder, TimmViTEncoder) else 1

    def forward(self, image: torch.Tensor) -> tuple[None, torch.Tensor]:
        """Return no masks, and class logits (N, classes), of images (N, channels, H, W)."""
        features = self.encoder(image)
        if isinstance(self.encoder, TimmViTEncoder):  # which gives its prefix tokens beside them
            features, _ = features
        return None, self.classification_head(features[-1])
