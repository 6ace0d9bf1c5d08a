"""What is done with a bundle where there is no workflow: ``python -m cloudseg predict`` and ``export``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloudseg.errors import UserError


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; what a person can mend is said in one line."""
    try:
        for line in _lines(_parser().parse_args(words)):
            print(line, flush=True)
    except (UserError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cloudseg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="write the masks of a folder of images as submission.csv")
    export = commands.add_parser("export", help="write the networks as ONNX")
    for command in (predict, export):
        command.add_argument("bundle", type=Path, help="what `snakemake bundle` packed")
    predict.add_argument("images", type=Path, help="a folder of JPEG or PNG files")
    predict.add_argument("out", type=Path, help="the CSV to write")
    predict.add_argument("--sample", type=Path, help="a sample submission, whose rows are wanted, in their order")
    predict.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    predict.add_argument("--threads", type=_positive, help="of the CPU; by default as many as then, for the same bits")
    export.add_argument("folder", type=Path, help="where the files go")
    return parser


def _positive(text: str) -> int:
    """Return a whole number of at least 1; argparse says what else came."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _lines(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.command == "export":
        from cloudseg.bundle.export import export_onnx

        return export_onnx(arguments.bundle, arguments.folder)
    from cloudseg.bundle.command import predict_folder

    options = {"sample": arguments.sample, "device": arguments.device, "threads": arguments.threads}
    return predict_folder(arguments.bundle, arguments.images, arguments.out, **options)


if __name__ == "__main__":
    sys.exit(main())
