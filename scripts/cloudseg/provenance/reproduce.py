"""Say where a submission comes from and whether the same bytes can be made again here, and make them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudseg.commands import command
from cloudseg.provenance import here
from cloudseg.provenance.content import Content, read_content
from cloudseg.provenance.find import Match, beside, find, known_here, nearest_facts, original
from cloudseg.provenance.here import Lacking
from cloudseg.provenance.record import Provenance
from cloudseg.texts import in_words, number_of

MOST_LINES = 20


@dataclasses.dataclass(frozen=True)
class Question:
    """A file that somebody asks about.

    Parameters
    ----------
    submission : the file.
    results : the folder with the results of all configs.
    root : the folder of the images here, where they are the user's.
    """

    submission: Path
    results: Path
    root: Path = Path()

    @functools.cached_property
    def content(self) -> Content:
        """What it holds."""
        known = [*known_here(self.results), *beside(self.submission, self.results)]
        return read_content(self.submission, [each.form for each in known])

    @functools.cached_property
    def match(self) -> Match | None:
        """Its provenance."""
        return find(self.submission, self.content, self.results)

    @functools.cached_property
    def lacking(self) -> Lacking:
        """What is not there any more of what it was made from."""
        return here.lacking(self.match.known, self.root)

    @functools.cached_property
    def names(self) -> list[str] | None:
        """The names of the rows of our file, in its order; None where that order is not known here."""
        wanted = self.match.known.provenance.csv.names
        known = [self.content, original(self.match.known)]
        return next((list(each.masks) for each in known if each is not None and each.facts.names == wanted), None)

    @property
    def is_ours(self) -> bool:
        """Whether it says what a submission of ours says."""
        return self.match is not None and self.match.by != "beside"

    def introduction(self) -> list[str]:
        """Say what the file is."""
        facts = self.content.facts
        lines = [f"{self.submission}: {facts.rows} rows, {facts.filled} with a mask, SHA-256 {facts.sha256[:12]}"]
        if self.match is None:
            searched = f"none beside it, nor in {self.results}/*/ensembles"
            lines.append(f"not a submission of ours: there is no provenance of it ({searched})")
            return lines + nearest_facts(self.content, known_here(self.results))
        return [*lines, *_of(self.match.known.provenance, self.match.known.path), *self._written_otherwise()]

    def _written_otherwise(self) -> list[str]:
        """Say how the file differs from the one that its provenance is of."""
        if self.match.by == "bytes":
            return []
        if self.match.by == "content":
            return [f"the same rows and masks as ours, in other bytes: {', '.join(self._forms())}"]
        ours = original(self.match.known)
        if ours is None:
            return [f"not the file that {self.match.known.path} is of: other masks, and ours is not here to compare"]
        names = self.content.differences(ours)
        return [
            f"not the file that {self.match.known.path} is of: {len(names)} of {ours.rows} masks differ from those of "
            f"{self.match.known.submission}, the first of {names[0]}"
        ]

    def _forms(self) -> list[str]:
        content, ours = self.content, self.match.known.provenance.csv
        forms = [f"{content.line_ends} line ends"] if content.line_ends != "LF" else []
        forms += ["a byte order mark"] if content.mark else []
        forms += ["rows in another order"] if content.facts.names != ours.names else []
        return forms or ["written by another program"]

    def can_be_made(self) -> list[str]:
        """Say what lacks for making it from the stored models."""
        provenance, lacking = self.match.known.provenance, self.lacking
        lines = [f"lacking: {reason}" for reason in [*lacking.runs.values(), *lacking.other][:MOST_LINES]]
        # Of a submission that is made from its members' checkpoints, nothing asks for what those go back to
        word = "lacking" if lacking else "changed since"
        lines += [f"{word}: {reason}" for reason in [*lacking.earlier.values()][:MOST_LINES]]
        if lacking and lacking.to_train:
            trainings = [each for each in provenance.all_trainings if each.run in lacking.to_train]
            seconds = here.training_seconds(provenance, lacking.to_train)
            kinds = sorted({name for each in trainings for name in each.devices})
            lines.append(
                f"{len(trainings)} of {len(provenance.all_trainings)} networks must be trained again, which took "
                f"{in_words(seconds)} on {', '.join(kinds)}"
            )
        if self.names is None:
            lines.append(f"lacking: the order of our rows, which {self.match.known.submission} would tell")
        return lines


def _of(provenance: Provenance, path: Path) -> list[str]:
    score = provenance.score
    dice = "no score" if score.dice is None else f"Dice {score.dice:.4f} out of fold ({score.how})"
    dice += f" without {provenance.unscored} members, trained on all images" if provenance.unscored else ""
    commits = sorted({here._short(each.commit) for each in provenance.all_trainings})
    made_of = f"{number_of(len(provenance.members), 'member')} of {number_of(len(provenance.trainings), 'network')}"
    made_of += f", which go back to {len(provenance.earlier)} more," if provenance.earlier else ""
    return [
        f"ensemble {provenance.ensemble} of config {provenance.results_name} ({path}): {dice}, "
        f"{made_of} trained by commit {', '.join(commits)}"
    ]


def how_to_go_on(submission: Path, lacking: Lacking) -> list[str]:
    """Return what to type where something lacks."""
    words = command("reproduce", settings=[f"csv={submission}", "train=true"])
    what = "train what lacks" if lacking.to_train else "make it from the images"
    return [f"To {what}, in a folder of its own, and compare, type:", f"  {words}"]


def expectation(doubts: Sequence[str]) -> list[str]:
    """Say whether the same bytes can be expected."""
    if not doubts:
        return ["the bytes of then are to be expected: same code, libraries, kind of processor and images"]
    return ["other bytes may come out here:", *(f"  {line}" for line in doubts[:MOST_LINES])]


def verdict(question: Question, made: Path, seconds: float, how: str, remarks: Sequence[str]) -> tuple[list[str], bool]:
    """Compare what was made with the file, and with ours.

    Returns
    -------
    lines, same : what to say, and whether the bytes are those of the file that was asked about.
    """
    again, ours = read_content(made, [question.match.known.form]), question.match.known.provenance.csv
    same = again.sha256 == question.content.sha256
    lines = [f"made again {how} in {in_words(seconds)}: {made}"]
    if same:
        return [*lines, "THE SAME BYTES."], True
    if again.sha256 == ours.sha256:
        return [
            *lines,
            "the bytes of our file, and the masks of this one; ITS OWN BYTES ARE OTHERS (see above).",
        ], False
    names = again.differences(question.content)
    if not names:
        return [*lines, "the same masks, in OTHER BYTES."], False
    return [
        *lines,
        *remarks,
        f"OTHER BYTES: {len(names)} of {question.content.rows} masks differ, the first of {names[0]}.",
    ], False


def settings_of(provenance: Provenance, placement: Mapping[str, Any]) -> dict[str, Any]:
    """Return where to compute: on the CPU what was predicted there, else where the config says."""
    used = {each.device for member in provenance.members for each in member.predictions.values()}
    return {**placement, "device": "cpu"} if used == {"cpu"} else dict(placement)
