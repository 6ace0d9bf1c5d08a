"""What is done with a bundle where there is no workflow: ``python -m cloudseg predict``."""

import argparse
import sys
from pathlib import Path

from cloudseg.errors import UserError


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m cloudseg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="write the masks of a folder of images as submission.csv")
    predict.add_argument("bundle", type=Path, help="what `snakemake bundle` packed")
    predict.add_argument("images", type=Path, help="a folder of JPEG or PNG files")
    predict.add_argument("out", type=Path, help="the CSV to write")
    predict.add_argument("--sample", type=Path, help="a sample submission, whose rows and order are wanted")
    predict.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    predict.add_argument("--threads", type=int, help="of a CPU that computes; others than then give other last bits")
    arguments = parser.parse_args(words)
    try:
        from cloudseg.bundle.command import predict_folder

        for line in predict_folder(
            arguments.bundle,
            arguments.images,
            arguments.out,
            sample=arguments.sample,
            device=arguments.device,
            threads=arguments.threads,
        ):
            print(line, flush=True)
    except (UserError, FileNotFoundError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
