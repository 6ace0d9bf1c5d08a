"""Write the networks of a bundle as ONNX, for programs without torch (`pip install onnx onnxscript`)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from cloudseg.bundle.bundle import Bundle
from cloudseg.config.views import record_of_views
from cloudseg.errors import ConfigError
from cloudseg.inference.ensemble import Network
from cloudseg.inference.predictor import Predictor
from cloudseg.models.preprocessing import Preprocessing
from cloudseg.models.probabilities import probabilities_of
from cloudseg.storage.files import atomic, write_text


class Exported(nn.Module):
    """A network with what comes before and behind it: bytes in, probabilities out, in one view.

    Parameters
    ----------
    predictor : the network.
    preprocessing : what makes its input of bytes.
    """

    def __init__(self, predictor: Predictor, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self._preprocessing = predictor.model, preprocessing
        self._header = predictor.header

    @property
    def outputs(self) -> list[str]:
        """The names of what it gives: `probabilities` of pixels, `values` of its classification head, or both."""
        return ["probabilities"] * self._header.has_masks + ["values"] * self._header.has_head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return probabilities (N, classes, H, W), values (N, classes), or both, of images (N, H, W, 3) uint8."""
        logits = self.model(self._preprocessing(images))
        logits = logits if isinstance(logits, tuple) else (logits,)
        return tuple(probabilities_of(each) for each in logits if each is not None)


def export_onnx(bundle: str | Path, folder: str | Path) -> Iterator[str]:
    """Write each network as `000.onnx` and so on, with `networks.json`, which says what each is of; yield their files.

    A network takes images (N, H, W, 3) uint8 RGB, of any N and of its own size, and gives probabilities of one view.
    Views, blend and decision are left to the program; `networks.json` has them.

    Parameters
    ----------
    bundle : the file.
    folder : is made.

    Raises
    ------
    ConfigError : if the packages that write ONNX are not there.
    """
    try:
        import onnxscript  # noqa: F401  # torch would raise in the middle
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed; type: pip install onnx onnxscript") from None
    read = Bundle.read(bundle)
    entries = []
    with read.unpacked(torch.device("cpu")) as settings:
        for number, network in enumerate(settings.networks):
            exported = _exported(network, settings.classes)
            file = f"{number:03}.onnx"
            _write(exported, network.size, Path(folder, file))
            entry = read.archive.contents.networks[number]
            roles = {"where": settings.where, "whether": settings.whether or (), "heads": settings.heads}
            blended = {
                role: {"weight": share.weight} | ({} if share.levels is None else {"levels": list(share.levels)})
                for role, shares in roles.items()
                for share in shares
                if share.network == number
            }
            entries.append(
                {
                    "file": file,
                    "run": entry.run,
                    "checkpoint": entry.checkpoint,
                    "size": list(network.size),
                    "blended": blended,
                    "views": record_of_views(network.recipe),
                    "outputs": exported.outputs,
                }
            )
            yield str(Path(folder, file))
    plain = {
        "networks": entries,
        "classes": read.classes,
        "mask_size": list(read.size),
        "sharpen": settings.sharpen,
        "black": settings.grey,
        "decision": read.decision.plain(),
    }
    write_text(Path(folder, "networks.json"), json.dumps(plain, indent=1) + "\n")


def _exported(network: Network, classes: Sequence[str]) -> Exported:
    recipe = network.recipe.model_copy(update={"precision": "float32"})
    predictor = Predictor(network.checkpoint, recipe, classes=classes, network=network.network)
    normalise = recipe.normalise
    return Exported(predictor, Preprocessing(normalise.mean, normalise.std, predictor.header.channels)).eval()


def _write(exported: Exported, size: tuple[int, int], path: Path) -> None:
    # Two images: one would be taken for the only number
    example = torch.zeros((2, *size, 3), dtype=torch.uint8)
    with atomic(path) as temporary, torch.inference_mode():
        torch.onnx.export(
            exported,
            (example,),
            temporary,
            input_names=["images"],
            output_names=exported.outputs,
            dynamic_shapes={"images": {0: torch.export.Dim("images")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
