"""What the rule `classifiers` is told of a plan: the classification heads of the sheet."""

import dataclasses
from typing import Any

from cloudseg.config.sheet import KEY
from cloudseg.report.params import page_params
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import DatasetPlan
from cloudseg.workflow.ensemble import Member
from cloudseg.workflow.sheet import Sheet, key_of, keys_of_row


@dataclasses.dataclass(frozen=True)
class Heads:
    """The out-of-fold values of every row of the sheet that has a classification head, checkpoint by checkpoint.

    Parameters
    ----------
    dataset : the images.
    sheet : the rows.
    members : of each row and checkpoint its runs, fold by fold.
    """

    dataset: DatasetPlan
    sheet: Sheet
    members: list[list[Member]]

    @classmethod
    def of(cls, dataset: DatasetPlan, sheet: Sheet) -> "Heads":
        """Return those of a sheet, sorted, so that the order of rows is no change."""
        rows = [row for row in sheet.rows if sheet.gives_values(key_of(row, 0))]
        members = [
            [Member(key, checkpoint, 1, 1) for key in keys_of_row(row)]
            for row in sorted(rows, key=lambda row: (key_of(row, 0).order(), row.folds))
            for checkpoint in sheet.recipe_of(key_of(row, 0)).checkpoints
        ]
        return cls(dataset, sheet, members)

    @property
    def values(self) -> list[str]:
        """The stores of values, in the order of `rows`, fold by fold."""
        return [member.values("valid") for members in self.members for member in members]

    @property
    def planes(self) -> list[str]:
        """The stores of planes of those that have some, likewise."""
        return [
            member.store("valid")
            for members in self.members
            for member in members
            if self.sheet.gives_masks(member.key)
        ]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The key of each row, its folds, its checkpoint, and whether its networks make planes, too."""
        has_seeds = any(members[0].key.seed is not None for members in self.members)
        return page_params([self._row(members, has_seeds=has_seeds) for members in self.members])

    def _row(self, members: list[Member], *, has_seeds: bool) -> dict[str, Any]:
        key = members[0].key
        cells = {name: getattr(key, name) for name in KEY}
        seed = {"seed": "" if key.seed is None else key.seed} if has_seeds else {}
        return {
            **cells,
            **seed,
            "folds": len(members),
            "checkpoint": members[0].checkpoint,
            "planes": self.sheet.gives_masks(key),
        }

    @property
    def work(self) -> Work:
        """What there is to read: the planes."""
        images = self.dataset.train_work
        return dataclasses.replace(images, masks=(1 + len(self.members)) * images.masks)
