"""The images of a folder that an ensemble predicts, cut into shards that are jobs of their own."""

import dataclasses
import functools
import os
import re
from pathlib import Path

from cloudseg.bundle.archive import PROVENANCE, Archive
from cloudseg.bundle.provenance import read_provenance
from cloudseg.bundle.shards import cut_into_shards, in_shard
from cloudseg.commands import command
from cloudseg.config.model import Config
from cloudseg.config.views import variants_of
from cloudseg.dataset.folder import list_images
from cloudseg.errors import ConfigError
from cloudseg.provenance.record import Provenance
from cloudseg.storage import files
from cloudseg.workflow.costs import Work

SHARD_MEGABYTES = 34  # of a store, whose module brings zarr


@dataclasses.dataclass(frozen=True)
class NewImages:
    """The images of the config's `images`.

    Parameters
    ----------
    config : the config.
    results : the folder of its results.

    Raises
    ------
    ConfigError : if there is no bundle to predict with.
    DatasetError : if there is no such folder, or no image in it.
    """

    config: Config
    results: Path

    def __post_init__(self) -> None:
        """Say at once what is wrong: jobs that find it out come too late."""
        if not Path(self.bundle).is_file():
            hint = f"type: {command('bundle')}" if self.config.bundle is None else "see the config key `bundle`"
            raise ConfigError(f"{self.bundle}: no such file, and images are predicted with a bundle; {hint}")
        written = Path(self.bundle).with_name(PROVENANCE)
        is_old = self.config.bundle is None and written.is_file()
        if is_old and files.sha256(written) != self._archive.contents.texts.get(PROVENANCE):
            hint = f"type: {command('bundle')}"
            raise ConfigError(f"{self.bundle}: packed before the submission that is there now; {hint}")
        if Path(self.folder).resolve().is_relative_to(Path("predictions").resolve()):
            raise ConfigError(f"images: {self.folder} lies in predictions/, which jobs write and remove; move it")
        for folder in (path for name in ("png", "overlays") for path in Path("predictions").glob(f"*/{name}")):
            if not (folder / ".snakemake_timestamp").is_file():  # Snakemake removes what is in its place
                raise ConfigError(f"{folder}: not made by a job; move it, since a job would replace it")
        self._provenance, self.shards  # noqa: B018 (each raises what is wrong with it)

    @property
    def folder(self) -> str:
        """The folder with the images."""
        return self.config.images

    @property
    def bundle(self) -> str:
        """What they are predicted with."""
        return self.config.bundle or self.own_bundle

    @property
    def own_bundle(self) -> str:
        """The bundle of the config's submission."""
        return (self.results / "ensembles" / self.config.submission / "bundle.zip").as_posix()

    @property
    def name(self) -> str:
        """What the predictions are called if nobody says: the name of the folder, in letters that all systems take."""
        return re.sub(r"[^a-z0-9]+", "-", Path(self.folder).resolve().name.lower()).strip("-") or "images"

    @functools.cached_property
    def shards(self) -> dict[str, list[str]]:
        """The images of each shard."""
        return cut_into_shards(list_images(self.folder), self.config.shard)

    def shard(self, shard: str, prediction: str = "") -> "Shard":
        """Return one shard, whatever the prediction is called; it may be of an earlier call."""
        return Shard(self, shard)

    @property
    def contents(self) -> str:
        """A digest of what there is to know of all images, as of those of a shard."""
        return files.digest([self.shard(name).contents for name in self.shards])

    @functools.cached_property
    def _archive(self) -> Archive:
        return Archive(self.bundle)

    @functools.cached_property
    def _provenance(self) -> Provenance:
        return read_provenance(self._archive)

    @property
    def classes(self) -> list[str]:
        """The names of the classes of its masks."""
        return self._provenance.images.classes

    @property
    def size(self) -> list[int]:
        """Height and width of its masks."""
        return self._provenance.images.submission_size

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the bundle: of what it says of its parts, which holds their digests."""
        return self._archive.digest

    @property
    def threads(self) -> int:
        """The numerical threads of a job, as many as when the submission was made."""
        return self._provenance.prediction_threads

    @property
    def whole_work(self) -> Work:
        """What is to be done with the masks of all images."""
        images = sum(map(len, self.shards.values()))
        return Work(images=images, masks=images * len(self.classes))

    def work(self, images: int) -> Work:
        """Return what predicting so many images has to do."""
        archive, provenance = self._archive, self._provenance
        recipes = {each.run: each.own_recipe for each in provenance.trainings}
        seen = at_once = 0.0
        for network in archive.contents.networks:
            recipe, megapixels = recipes[network.run], network.height * network.width / 1e6
            areas = [variant.scale**2 for variant in variants_of(recipe)]
            seen += sum(areas) * megapixels
            at_once = max(at_once, (recipe.micro_batch or recipe.batch) * max(areas) * megapixels)
        classes, (height, width) = len(provenance.images.classes), provenance.images.submission_size
        image_megabytes = classes * height * width / 1e6
        networks = len(archive.contents.networks)
        return Work(
            images=images,
            masks=images * classes * networks,
            megapixels=images * seen,
            megapixels_at_once=at_once,
            image_megabytes=image_megabytes,
            # The networks, and what each says of the images of a shard of a store, or of one that is larger
            megabytes=archive.path.stat().st_size / 1e6 + networks * max(SHARD_MEGABYTES, image_megabytes),
        )


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some images of a folder.

    Parameters
    ----------
    images : all of them.
    name : of the shard, such as 01.
    """

    images: NewImages
    name: str

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of its images."""
        if self.name in self.images.shards:
            return self.images.shards[self.name]
        return [name for name in list_images(self.images.folder) if in_shard(name, self.name)]

    @property
    def contents(self) -> str:
        """A digest of the names, sizes and times of its images: a folder of any size is looked at in no time."""
        return files.digest([[name, *self._facts(name)] for name in self.names])

    def _facts(self, name: str) -> list[int]:
        try:
            stat = os.stat(os.path.join(self.images.folder, name))  # noqa: PTH116, PTH118  # of very many
        except OSError:
            return []
        return [stat.st_size, stat.st_mtime_ns]

    @property
    def work(self) -> Work:
        """What predicting it has to do."""
        return self.images.work(len(self.names))
