import itertools
from pathlib import Path

from cloudseg import logged
from cloudseg.provenance.chain import Blend, Ensemble, Labels, provenance_of
from cloudseg.texts import number_of

SPLITS = "valid", "test"


def whether_of(split, path, inputs, members, black):
    """Return what the members say of a split that are asked for presence alone: planes, and classification heads."""
    return Blend(
        path=path,
        stores=inputs[f"{split}_whether_stores"],
        members=[member for member in members if "gives" not in member],
        values=inputs.get(f"{split}_values", []),
        value_members=[member for member in members if "gives" in member],
        black=black,
    )


def labels_of(inputs, asked):
    """Return the labels of test images, each with the stores that it was made of."""
    sources = iter(inputs.get("pseudo_stores", []))
    return [
        Labels(path=path, stores=list(itertools.islice(sources, len(each["members"]))), asked=each)
        for path, each in zip(inputs.get("pseudo", []), asked, strict=True)
    ]


def placed(asked, recorded, train, test=()):
    """Return what is asked of runs, and where they and their images lie."""
    found = itertools.zip_longest(asked, recorded, train, test)
    return [
        run | {"folder": str(Path(path).parent), "pixels": {"train": images} | ({"test": other} if other else {})}
        for run, path, images, other in found
    ]


if __name__ == "__main__":
    with logged(snakemake):
        inputs, params = snakemake.input, snakemake.params
        black = {split: next(iter(inputs[f"{split}_black"]), None) for split in SPLITS}
        asked = {name: params.facts.get(name, []) for name in ("earlier", "pseudo")}
        ensemble = Ensemble(
            **{
                name: getattr(inputs, name)
                for name in ("submission", "decision", "scores", "images", "parts", "surface", "truth")
            },
            blends={
                split: Blend(
                    path=inputs[split],
                    stores=inputs[f"{split}_stores"],
                    members=params.members[split],
                    voters=inputs[f"{split}_voters"],
                    black=black[split],
                )
                for split in SPLITS
            },
            whether={
                split: whether_of(split, path, inputs, params.members[f"{split}-whether"], black[split])
                for split in SPLITS
                for path in inputs[f"{split}_whether"]  # one or none
            },
            selection=next(iter(inputs.selection), None),
            runs=placed(params.runs, inputs.runs, inputs.train_pixels, inputs.test_pixels),
            earlier=placed(asked["earlier"], inputs.get("earlier", []), inputs.get("earlier_pixels", [])),
            labels=labels_of(inputs, asked["pseudo"]),
            test_images={Path(path).stem: path for path in inputs.get("test_images", [])},
            weights={f"{Path(path).parent.name}/{Path(path).stem}": path for path in inputs.get("weights", [])},
            folds=inputs.folds,
            logs=Path(snakemake.log[0]).parents[1],
            facts=params.facts,
        )
        provenance = provenance_of(ensemble, params.codes)
        provenance.write(snakemake.output.provenance)
        members, runs = number_of(len(provenance.members), "member"), number_of(len(provenance.all_trainings), "run")
        print(f"{snakemake.output.provenance}: {members} of {runs}")
