"""How a blend becomes masks: the rule that a config gives, and the decision that comes of it, `decision.yaml`."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from cloudseg.postprocess import Cut, level
from cloudseg.storage.files import damaged, read_text


@dataclass(frozen=True)
class DecisionRule:
    """How a blend is to be decided.

    Parameters
    ----------
    how : fixed, tune or grid.
    thresholds, min_sizes : one per class, of the fixed decision; thresholds are of the blend.
    tune_min_sizes : those that tuning may choose from.
    grid : its `thresholds` and its `min_sizes`, where `how` is grid.
    sharpen : the power of p that is averaged in the blend; None is p itself.
    """

    how: str
    thresholds: Sequence[float]
    min_sizes: Sequence[int]
    tune_min_sizes: Sequence[int]
    grid: Mapping[str, Sequence[Any]] | None = None
    sharpen: float | None = None

    def fixed_cuts(self, classes: Sequence[str]) -> dict[str, Cut]:
        """Return the fixed decision, per class."""
        numbers = zip(classes, self.thresholds, self.min_sizes, strict=True)
        return {name: Cut(level(threshold), min_size) for name, threshold, min_size in numbers}

    @property
    def surface_min_sizes(self) -> list[int]:
        """The minimum sizes that a surface needs for this rule, ascending."""
        return sorted({*self.min_sizes, *self.tune_min_sizes, *(self.grid or {"min_sizes": ()})["min_sizes"]})


@dataclass(frozen=True)
class Decision:
    """How a blend becomes masks, per class.

    Parameters
    ----------
    how : fixed, tune or grid.
    n_images : out-of-fold images that it was chosen and scored on.
    cuts : per class the level from which a pixel is in, and the minimum size from which a component stays.
    nested : where it was chosen and there are two folds or more, per fold what the others choose.
    sharpen : the power of p that is averaged in the blend; None is p itself.
    """

    how: str
    n_images: int
    cuts: Mapping[str, Cut]
    nested: Mapping[int, Mapping[str, Cut]] = field(default_factory=dict)
    sharpen: float | None = None

    @property
    def has_honest_score(self) -> bool:
        """Whether every image can be scored by a decision that was not chosen on it."""
        return self.how == "fixed" or bool(self.nested)

    def cuts_for(self, fold: int) -> Mapping[str, Cut]:
        """Return, per class, what decides the images of a fold when they are scored."""
        return self.nested.get(fold, self.cuts)

    def thresholds(self, cut: Cut) -> dict[str, float]:
        """Return the probability that a level stands for as `threshold`, and as `sharpened` the blend's, if it differs.

        Examples
        --------
        >>> Decision("fixed", 2, {}, sharpen=0.5).thresholds(Cut(179, 0))
        {'threshold': 0.4927, 'sharpened': 0.702}
        """
        of_blend = cut.level / 255
        if self.sharpen is None:
            return {"threshold": round(of_blend, 4)}
        return {"threshold": round(of_blend ** (1 / self.sharpen), 4), "sharpened": round(of_blend, 4)}

    def plain(self) -> dict[str, Any]:
        """Return what `decision.yaml` holds; of a cut, `level` is the authority and thresholds are for the reader."""
        plain: dict[str, Any] = {"how": self.how, "images": self.n_images}
        plain |= {} if self.sharpen is None else {"sharpen": self.sharpen}
        plain["classes"] = self._plain(self.cuts)
        if self.nested:
            plain["nested"] = {fold: self._plain(cuts) for fold, cuts in self.nested.items()}
        return plain

    def _plain(self, cuts: Mapping[str, Cut]) -> dict[str, dict[str, Any]]:
        return {
            name: {"level": cut.level, **self.thresholds(cut), "min_size": cut.min_size} for name, cut in cuts.items()
        }

    @classmethod
    def read(cls, path: str | Path, classes: Sequence[str]) -> Self:
        r"""Read the decision of an ensemble.

        Parameters
        ----------
        path : ``decision.yaml``.
        classes : names of the classes that it must decide on.

        Raises
        ------
        DamagedFileError : if the file is cut short, or does not give each class a ``level`` and a ``min_size``.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> text = "how: fixed\nimages: 2\nclasses:\n  Fish: {level: 128, threshold: 0.502, min_size: 0}\n"
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "decision.yaml").write_text(text)
        ...     Decision.read(f"{folder}/decision.yaml", ["Fish"]).cuts
        {'Fish': Cut(level=128, min_size=0)}
        """
        text = read_text(path)
        try:
            plain = yaml.safe_load(text)
            per_fold = {fold: _cuts(decided) for fold, decided in plain.get("nested", {}).items()}
            read = cls(
                plain["how"], operator.index(plain["images"]), _cuts(plain["classes"]), per_fold, plain.get("sharpen")
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(path, f"not a whole decision ({error!r})") from error
        for cuts in (read.cuts, *read.nested.values()):
            if cuts.keys() != set(classes):
                raise damaged(path, f"expected a decision on each of {', '.join(classes)}, got {', '.join(cuts)}")
        return read


def _cuts(decided: Mapping[str, Mapping[str, Any]]) -> dict[str, Cut]:
    return {name: Cut(one["level"], one["min_size"]) for name, one in decided.items()}
