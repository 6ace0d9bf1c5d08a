import sys

from cloudseg import logged
from cloudseg.config.schema import whole_recipe
from cloudseg.storage import files
from cloudseg.training.finished import FinishedTraining, data_digest, decisive

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        wildcards, inputs, params = snakemake.wildcards, snakemake.input, snakemake.params
        outputs = dict(snakemake.output.items())
        own = {"encoder": wildcards.encoder, "decoder": wildcards.decoder, "fold": int(wildcards.fold)}
        own |= {"seed": params.seed, "threads": params.threads, "code": params.code}
        submission_size = params.get("submission_size")
        training = FinishedTraining(
            outputs,
            decisive(
                recipe=params.recipe,
                loss_size=submission_size,
                data=data_digest(inputs.pixels, inputs.folds),
                weights=files.sha256(inputs.weights),
                **own,
            ),
        )
        if training.restore():
            for stream in (sys.stdout, sys.__stderr__):
                print(f"{training.run}: had finished with this recipe and these data; its files are back", file=stream)
        else:
            # Where a job runs is no property of its result: no param, so that moving house reruns nothing.
            with leased(snakemake) as device:
                from cloudseg.training.attempts import train_on

                recipe = whole_recipe(params.recipe)
                train_on(
                    device,
                    pixels=inputs.pixels,
                    folds=inputs.folds,
                    weights=inputs.weights,
                    recipe=recipe,
                    outputs=outputs,
                    canvas_pixels=inputs.get("canvas") or None,
                    submission_size=submission_size,
                    keep_state=snakemake.config.get("keep_state", True) not in (False, "false"),
                    workers=max(0, snakemake.threads // recipe["gpus"] - params.threads),
                    **own,
                )
            training.keep()
