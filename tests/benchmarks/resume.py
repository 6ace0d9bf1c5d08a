"""Time what the state after an epoch costs the training thread, beside an epoch's end without it.

python tests/benchmarks/resume.py [--encoder efficientnet-b2] [--decoder fpn]
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from cloudseg.models.segmenter import build_model
from cloudseg.training.state_file import StateFile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet-b2")
    parser.add_argument("--decoder", default="fpn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model(options.encoder, options.decoder, 4)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 3, 64, 96)).sum().backward()
    optimiser.step()
    best = {key: value.clone() for key, value in model.network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        seconds, written = [], []
        for _ in range(7):
            file = StateFile(Path(folder, "state"), "digest")
            start = time.perf_counter()
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
            file.keep(state, unchanging={"best_network": best})
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
            file.close()
            written.append(time.perf_counter() - start)
        megabytes = Path(folder, "state").stat().st_size / 1e6
    print(f"{options.decoder} on {options.encoder}: {megabytes:.0f} MB; on the training thread, minimum / median:")
    print(f"{1e3 * min(seconds):.0f} / {1e3 * median(seconds):.0f} ms; on the other: {1e3 * median(written):.0f} ms")


if __name__ == "__main__":
    main()
