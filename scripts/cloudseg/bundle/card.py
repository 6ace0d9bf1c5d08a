"""The model card of a bundle: what it is, how good it is, and what it was made from."""

from collections import Counter

from cloudseg.config.packaged_weights import PACKAGED
from cloudseg.provenance.record import Provenance, Training

HOW = {
    "fixed": "decided by the numbers of the config",
    "nested": "decided for each fold by what the others choose",
    "on itself": "decided by numbers chosen on the same images, so too good",
    "none": "no image is out of fold",
}


def model_card(provenance: Provenance) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    provenance : of the ensemble's submission.
    """
    images = provenance.images
    height, width = images.submission_size
    lines = [
        f"# {provenance.ensemble} of {provenance.results_name}",
        "",
        f"Masks of {', '.join(images.classes)}, {height}x{width} pixels each, of RGB images of any size.",
        "",
        "    python -m cloudseg predict FILE IMAGES submission.csv",
        "",
        "## How good",
        "",
        *_score(provenance),
        "",
        "## Networks",
        "",
        "| networks | encoder | decoder | size | recipe | initial weights |",
        "| ---: | --- | --- | --- | --- | --- |",
        *_networks(provenance),
        "",
        "## Images",
        "",
        f"Trained on {images.counts.get('train', 0)} images and their labels. "
        f"Digests of these: {', '.join(digest[:16] for digest in images.train)}.",
        "",
        "## Made with",
        "",
        *_made_with(provenance),
        "",
    ]
    return "\n".join(lines)


def _score(provenance: Provenance) -> list[str]:
    score = provenance.score
    if score.dice is None:
        return ["There is no score: " + HOW[score.how] + "."]
    folds = ", ".join(map(str, score.folds))
    lines = [
        f"Dice {score.dice:.4f} over {score.images} images that no network has seen (folds {folds}), {HOW[score.how]}."
    ]
    lines += [f"It is too good: {'; '.join(score.optimistic)}."] if score.optimistic else []
    lines += [f"{score.expected:.4f} is to be expected at the config's rates of the classes."] if score.expected else []
    lines += [f"{provenance.unscored} networks have seen all images and no score."] if provenance.unscored else []
    lines += ["It was a smoke run: good for trying out, not for masks."] if provenance.smoke else []
    return lines


def _networks(provenance: Provenance) -> list[str]:
    used = {member.run for member in provenance.predicted("test")}
    kinds = Counter(_kind(training) for training in provenance.trainings if training.run in used)
    return [f"| {count} | {' | '.join(kind)} |" for kind, count in sorted(kinds.items())]


def _kind(training: Training) -> tuple[str, ...]:
    start = training.start
    if start != "none":
        packaged = PACKAGED.get(training.encoder) if start == "imagenet" else None
        start += f" ({training.start_sha256[:12]})"
        start += f" of {packaged.requirement}, whose licence holds" if packaged else ""
    return training.encoder, training.decoder, training.size, training.recipe_name, start


def _made_with(provenance: Provenance) -> list[str]:
    commits = sorted({training.commit or "unknown" for training in provenance.all_trainings})
    versions = sorted({f"{name} {version}" for each in provenance.trainings for name, version in each.versions.items()})
    devices = sorted({device for each in provenance.trainings for device in each.devices})
    return [
        f"- cloudseg at {', '.join(commit[:12] for commit in commits)}",
        f"- {', '.join(versions)}",
        f"- {', '.join(devices)}",
        f"- seeds {', '.join(map(str, sorted({each.seed for each in provenance.trainings})))}",
    ]
