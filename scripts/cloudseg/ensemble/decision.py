"""How a blend becomes masks: the rule that a config gives, and the decision that comes of it, `decision.yaml`."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import yaml

from cloudseg.ensemble.masking import ImageRule, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import Cut, level
from cloudseg.storage.files import damaged, read_text

TUNE = "tune"
# What makes more of a decision than a level and a minimum size
FURTHER = ("presence", "plane_min", "high", "fill_holes")


@dataclass(frozen=True)
class DecisionRule:
    """How a blend is to be decided.

    Parameters
    ----------
    how : fixed, tune, grid, rate or expected.
    thresholds, min_sizes : one per class, of the fixed decision; thresholds are of the blend.
    tune_min_sizes : those that tuning may choose from.
    grid : its `thresholds` and its `min_sizes`, where `how` is grid.
    sharpen : the power of p that is averaged in the blend; None is p itself.
    presence : `scores`, each the one key of a :class:`cloudseg.ensemble.plane_scores.PlaneScore` with its number (of
        `area` the threshold of the blend), `thresholds`, one per class or None where they are to be chosen, and
        `pixels` of a plane, and where classification heads take part what they weigh, `classifiers`, a fraction as
        text; None of no presence.
    best : as of :class:`cloudseg.ensemble.masking.ImageRule`.
    plane_min : `thresholds` of the blend and `areas`, one per class, or "tune"; None of none.
    high : a threshold of the blend per class, or "tune"; None of none.
    fill_holes : whether holes are filled.
    rates : for `how: rate`, "training" or one share per class.
    rate_of : images or pixels.
    """

    how: str
    thresholds: Sequence[float]
    min_sizes: Sequence[int]
    tune_min_sizes: Sequence[int]
    grid: Mapping[str, Sequence[Any]] | None = None
    sharpen: float | None = None
    presence: Mapping[str, Any] | None = None
    best: str = "never"
    plane_min: Mapping[str, Sequence[Any]] | str | None = None
    high: Sequence[float] | str | None = None
    fill_holes: bool = False
    rates: Sequence[float] | str | None = None
    rate_of: str = "images"

    def of_power(self, power: float | None) -> Self:
        """Return the same rule for a blend of p to a power, where its numbers are of p.

        Examples
        --------
        >>> DecisionRule("fixed", [0.25], [0], [0]).of_power(0.5).thresholds
        [0.5]
        """
        if power is None:
            return self
        presence, plane_min, high = self.presence, self.plane_min, self.high
        if presence is not None:
            presence = _presence_of_power(presence, power)
        if plane_min not in (None, TUNE):
            plane_min = {**plane_min, "thresholds": _powers(plane_min["thresholds"], power)}
        if high not in (None, TUNE):
            high = _powers(high, power)
        thresholds = _powers(self.thresholds, power)
        return replace(self, thresholds=thresholds, sharpen=power, presence=presence, plane_min=plane_min, high=high)

    @property
    def is_of_surface(self) -> bool:
        """Whether the surface holds all that it may come to: a level and a minimum size per class."""
        return self.how in ("fixed", "tune", "grid") and not any(getattr(self, name) for name in FURTHER)

    @property
    def scores(self) -> list[PlaneScore]:
        """The scores of presence that may be chosen, or the one that is given."""
        presence = self.presence or {"scores": []}
        given = [score for plain in presence["scores"] for score in plain.items()]
        heads = Fraction(presence.get("classifiers", 0))
        return [PlaneScore(kind, level(number) if kind == "area" else number, heads) for kind, number in given]

    def fixed(self, classes: Sequence[str]) -> ImageRule:
        """Return the decision that the config gives; what is to be chosen has no part in it."""
        presence = self._fixed_presence(len(classes))
        rules = [PlaneRule(cut, present) for cut, present in zip(self._fixed_cuts(classes), presence, strict=True)]
        return ImageRule(dict(zip(classes, rules, strict=True)), self.best if any(presence) else "never")

    def fixed_cuts(self, classes: Sequence[str]) -> dict[str, Cut]:
        """Return how the decision that the config gives cuts the planes of each class."""
        return dict(zip(classes, self._fixed_cuts(classes), strict=True))

    def _fixed_cuts(self, classes: Sequence[str]) -> list[Cut]:
        none = [0] * len(classes)
        highs = none if self.high in (None, TUNE) else self.high
        plane_min = {"thresholds": none, "areas": none} if self.plane_min in (None, TUNE) else self.plane_min
        tops = zip(plane_min["thresholds"], plane_min["areas"], strict=True)
        return [
            Cut(level(threshold), min_size, level(high), level(top), area, self.fill_holes)
            for threshold, min_size, high, (top, area) in zip(self.thresholds, self.min_sizes, highs, tops, strict=True)
        ]

    def _fixed_presence(self, classes: int) -> list[Presence | None]:
        if self.presence is None or self.presence["thresholds"] is None:
            return [None] * classes
        [score] = self.scores
        return [
            Presence(score, score.at_least(threshold, self.presence["pixels"]))
            for threshold in self.presence["thresholds"]
        ]

    @property
    def surface_min_sizes(self) -> list[int]:
        """The minimum sizes that a surface needs for this rule, ascending."""
        return sorted({*self.min_sizes, *self.tune_min_sizes, *(self.grid or {"min_sizes": ()})["min_sizes"]})


def _powers(thresholds: Sequence[float], power: float) -> list[float]:
    return [threshold**power for threshold in thresholds]


def _presence_of_power(presence: Mapping[str, Any], power: float) -> dict[str, Any]:
    """Return the presence of a rule for a blend of p to a power; a share of the plane stays what it is."""
    scores = [
        {kind: number**power if kind == "area" else number for kind, number in each.items()}
        for each in presence["scores"]
    ]
    thresholds = presence["thresholds"]
    if thresholds is not None and "area" not in scores[0]:
        thresholds = _powers(thresholds, power)
    return {**presence, "scores": scores, "thresholds": thresholds}


@dataclass(frozen=True)
class Decision:
    """How a blend becomes masks.

    Parameters
    ----------
    how : fixed, tune, grid, rate or expected.
    n_images : out-of-fold images that it was chosen and scored on.
    rule : what makes the masks.
    nested : where it was chosen and there are two folds or more, per fold what the others choose.
    sharpen : the power of p that is averaged in the blend; None is p itself.
    """

    how: str
    n_images: int
    rule: ImageRule
    nested: Mapping[int, ImageRule] = field(default_factory=dict)
    sharpen: float | None = None

    @property
    def has_honest_score(self) -> bool:
        """Whether every image can be scored by a decision that was not chosen on it."""
        return self.how == "fixed" or bool(self.nested)

    @property
    def everywhere(self) -> Self:
        """The same decision, by which the images that it was chosen on are scored as well."""
        return replace(self, nested={})

    @property
    def cuts(self) -> dict[str, Cut]:
        """How planes that count are cut, per class: what a person is shown. Masks are made by `rule_for`."""
        return {name: rule.cut for name, rule in self.rule.classes.items()}

    @property
    def is_by_plane(self) -> bool:
        """Whether each plane has a level of its own, so that the levels of cuts mean nothing."""
        return self.how == "expected"

    @property
    def further(self) -> list[str]:
        """What it asks for besides a level and a minimum size, of any fold, as the config calls it."""
        rules = [rule for each in (self.rule, *self.nested.values()) for rule in each.classes.values()]
        asked = {
            "presence": any(rule.presence for rule in rules),
            f"best {self.rule.best}": self.rule.best != "never",
            "plane_min": any(rule.cut.top_area for rule in rules),
            "high": any(rule.cut.high for rule in rules),
            "fill_holes": any(rule.cut.fill_holes for rule in rules),
        }
        return [name for name, is_asked in asked.items() if is_asked]

    def rule_for(self, fold: int | None) -> ImageRule:
        """Return what makes the masks of the images of a fold when they are scored; None is that of test images."""
        return self.rule if fold is None else self.nested.get(fold, self.rule)

    def thresholds(self, cut: Cut) -> dict[str, float]:
        """Return the probability that a level stands for as `threshold`, and as `sharpened` the blend's, if it differs.

        Examples
        --------
        >>> Decision("fixed", 2, ImageRule({}), sharpen=0.5).thresholds(Cut(179, 0))
        {'threshold': 0.4927, 'sharpened': 0.702}
        """
        return self._as_probability(cut.level / 255)

    def _as_probability(self, of_blend: float) -> dict[str, float]:
        if self.sharpen is None:
            return {"threshold": round(of_blend, 4)}
        return {"threshold": round(of_blend ** (1 / self.sharpen), 4), "sharpened": round(of_blend, 4)}

    def plain(self) -> dict[str, Any]:
        """Return what `decision.yaml` holds; of a cut, `level` is the authority and thresholds are for the reader."""
        plain: dict[str, Any] = {"how": self.how, "images": self.n_images}
        plain |= {} if self.sharpen is None else {"sharpen": self.sharpen}
        plain |= {} if self.rule.best == "never" else {"best": self.rule.best}
        plain["classes"] = self._plain(self.rule)
        if self.nested:
            plain["nested"] = {fold: self._plain(rule) for fold, rule in self.nested.items()}
        return plain

    def _plain(self, rule: ImageRule) -> dict[str, dict[str, Any]]:
        return {name: self._plain_rule(each) for name, each in rule.classes.items()}

    def _plain_rule(self, rule: PlaneRule) -> dict[str, Any]:
        cut, presence = rule.cut, rule.presence
        plain = {"level": cut.level, **self.thresholds(cut), "min_size": cut.min_size}
        plain |= {"high": cut.high} if cut.high else {}
        plain |= {"plane_min": {"level": cut.top_level, "area": cut.top_area}} if cut.top_area else {}
        plain |= {"fill_holes": True} if cut.fill_holes else {}
        if presence is not None:
            # An area is a share of the plane, which is not known here
            score = presence.score
            threshold = {} if score.kind == "area" else self._as_probability(presence.at_least / score.scale(0))
            plain["presence"] = {"score": score.plain(), "at_least": presence.at_least, **threshold}
        if rule.steps:
            plain["steps"] = [list(step) for step in rule.steps]
        return plain

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
        ...     Decision.read(f"{folder}/decision.yaml", ["Fish"]).cuts["Fish"].level
        128
        """
        return cls.parse(read_text(path), path, classes)

    @classmethod
    def parse(cls, text: str, path: str | Path, classes: Sequence[str]) -> Self:
        """Return the decision that a text holds, as :meth:`read` does; `path` says where the text came from."""
        try:
            plain = yaml.safe_load(text)
            best = plain.get("best", "never")
            per_fold = {fold: _image_rule(decided, best) for fold, decided in plain.get("nested", {}).items()}
            rule = _image_rule(plain["classes"], best)
            read = cls(plain["how"], operator.index(plain["images"]), rule, per_fold, plain.get("sharpen"))
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(path, f"not a whole decision ({error!r})") from error
        for each in (read.rule, *read.nested.values()):
            if list(each.classes) != list(classes):
                raise damaged(
                    path, f"expected a decision on each of {', '.join(classes)}, got {', '.join(each.classes)}"
                )
        return read


def _image_rule(decided: Mapping[str, Mapping[str, Any]], best: str) -> ImageRule:
    return ImageRule({name: _plane_rule(one) for name, one in decided.items()}, best)


def _plane_rule(plain: Mapping[str, Any]) -> PlaneRule:
    """Return the rule of a class that `decision.yaml` has."""
    plane_min = plain.get("plane_min", {"level": 0, "area": 0})
    cut = Cut(
        plain["level"],
        plain["min_size"],
        plain.get("high", 0),
        plane_min["level"],
        plane_min["area"],
        fill_holes=plain.get("fill_holes", False) is True,
    )
    presence = None
    if "presence" in plain:
        score = PlaneScore.read(plain["presence"]["score"])
        presence = Presence(score, operator.index(plain["presence"]["at_least"]))
    steps = tuple((operator.index(numerator), operator.index(lev)) for numerator, lev in plain.get("steps", ()))
    return PlaneRule(cut, presence, steps)
