"""A bundle: a finished ensemble in one file, which makes masks of images where there is no workflow."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import torch

from cloudseg.bundle.archive import DECISION, Archive
from cloudseg.bundle.provenance import member_key, read_provenance
from cloudseg.ensemble.decision import Decision
from cloudseg.errors import DamagedFileError
from cloudseg.inference.ensemble import EnsembleSettings, Network, Share
from cloudseg.provenance.record import Member, Provenance


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A finished ensemble in one file.

    Parameters
    ----------
    archive : the file.
    provenance : what the ensemble's submission was made from.
    decision : how its probabilities become masks.
    """

    archive: Archive
    provenance: Provenance = dataclasses.field(repr=False)
    decision: Decision = dataclasses.field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read all of a bundle but its networks.

        Raises
        ------
        FileNotFoundError : if there is none.
        DamagedFileError : if the file is no bundle, is cut short, or was packed by a later version of this code.
        """
        archive = Archive(path)
        provenance = read_provenance(archive)
        try:
            decision = Decision.parse(archive.text(DECISION), DECISION, provenance.images.classes)
        except DamagedFileError as error:
            raise archive.damaged_by(error) from None
        return cls(archive, provenance, decision)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.provenance.images.classes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the masks."""
        height, width = self.provenance.images.submission_size
        return height, width

    @contextlib.contextmanager
    def unpacked(self, device: torch.device, threads: int | None = None) -> Iterator[EnsembleSettings]:
        """Yield what makes masks of images; its networks lie in a temporary folder until the block ends.

        Parameters
        ----------
        device : where networks will compute. On another kind of device than then they compute as their recipes say,
            and last bits differ.
        threads : numerical threads; None is as many as then, so that the bits are the same.

        Raises
        ------
        DamagedFileError : if a network is not the one that was packed.
        """
        with tempfile.TemporaryDirectory() as folder:
            yield self._settings(self.archive.unpack(folder), device, threads or self.provenance.prediction_threads)

    def _settings(self, files: list[Path], device: torch.device, threads: int) -> EnsembleSettings:
        provenance, entries = self.provenance, self.archive.contents.networks
        number_of = {entry.key: number for number, entry in enumerate(entries)}
        trainings = {training.run: training for training in provenance.trainings}
        members = {member_key(member): member for member in provenance.predicted("test")}

        def shares(blended: list[Member]) -> list[Share]:
            return [
                Share(number_of[member_key(each)], each.weight, each.levels and each.levels["test"]) for each in blended
            ]

        networks = []
        for file, entry in zip(files, entries, strict=True):
            training, prediction = trainings[entry.run], members[entry.key].predictions["test"]
            recipe = training.recipe_of(prediction) if prediction.device == device.type else training.own_recipe
            names = {"encoder": training.encoder, "decoder": training.decoder}
            networks.append(Network(file, recipe, (entry.height, entry.width), names))
        return EnsembleSettings(
            networks=networks,
            where=shares(provenance.blended("test")),
            whether=shares(provenance.blended("test", "whether")) if provenance.whether else None,
            heads=shares(provenance.classifiers("test")),
            classes=self.classes,
            size=self.size,
            rule=self.decision.rule,
            sharpen=provenance.sharpen,
            grey=provenance.black and provenance.black.grey,
            threads=threads,
        )
