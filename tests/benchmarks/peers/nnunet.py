"""nnU-Net's 2D configuration on two cores, with regions, since classes overlap: its plan, its losses, one fold.

A label is the sum of the bits of its classes, and a region is all labels with its bit. Images are shrunk once, since a
processor would see a few dozen batches of 1400x2100 otherwise. The number of epochs, 1000 by default, is what fits.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE = (128, 192)
DATASET = "Dataset001_Clouds"
BITS = range(1 << len(CLASSES))
REGIONS = {name: [bits for bits in BITS if bits >> index & 1] for index, name in enumerate(CLASSES)}
ITERATIONS, VALIDATIONS = 50, 5  # of an epoch; 250 and 50 are for 1000 epochs on a GPU
TRIED = 20  # iterations, before the time counts, to find out how many epochs fit


def write_image(source, target):
    image = cv2.imread(str(source))
    cv2.imwrite(str(target), cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA))
    return image.shape[:2]


def read_mask(runs, shape):
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = [int(number) for number in str(runs).split()] if isinstance(runs, str) else []
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 255
    return cv2.resize(flat.reshape(shape, order="F"), SIZE[::-1], interpolation=cv2.INTER_AREA) > 127


def convert(data, raw):
    """Write the data set as nnU-Net reads it, images of the test set beside it."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / folder).mkdir(parents=True)
    table = pd.read_csv(data / "train.csv")
    table[["image", "label"]] = table.Image_Label.str.rsplit("_", n=1, expand=True)
    runs = table.pivot(index="image", columns="label", values="EncodedPixels")
    for name in runs.index:
        case = Path(name).stem
        shape = write_image(data / "train_images" / name, raw / "imagesTr" / f"{case}_0000.png")
        bits = sum(read_mask(runs.loc[name, label], shape) * (1 << index) for index, label in enumerate(CLASSES))
        cv2.imwrite(str(raw / "labelsTr" / f"{case}.png"), bits.astype(np.uint8))
    for path in (data / "test_images").iterdir():
        write_image(path, raw / "imagesTs" / f"{path.stem}_0000.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, **REGIONS},
        "regions_class_order": list(range(1, len(CLASSES) + 1)),
        "numTraining": len(runs),
        "file_ending": ".png",
    }
    (raw / "dataset.json").write_text(json.dumps(description))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1200)
    arguments = parser.parse_args()
    began = time.monotonic()
    folders = {
        name: arguments.out.absolute() / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    }
    os.environ |= {name: str(folder) for name, folder in folders.items()}
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "2", "nnUNet_compile": "f"}
    raw, prepared = folders["nnUNet_raw"] / DATASET, folders["nnUNet_preprocessed"] / DATASET
    convert(arguments.data, raw)
    plan = [Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"), "-d", "1", "-c", "2d"]
    subprocess.run([*plan, "-np", "2", "-npfp", "2", "--verify_dataset_integrity"], check=True)

    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(2)
    plans, description = (json.loads((prepared / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))

    def train(epochs, iterations):
        trainer = nnUNetTrainer({**plans, "continue_training": False}, "2d", 0, description, device=torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
        trainer.num_val_iterations_per_epoch = VALIDATIONS
        trainer.run_training()
        return trainer

    prepared_after = time.monotonic() - began
    train(1, TRIED)
    each = ((time.monotonic() - began) - prepared_after) / (TRIED + VALIDATIONS / 3)  # no backward pass
    epochs = int((arguments.seconds - prepared_after) / each / (ITERATIONS + VALIDATIONS / 3))
    shutil.rmtree(folders["nnUNet_results"])
    training = time.monotonic()
    trainer = train(epochs, ITERATIONS)
    trained = time.monotonic()
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        description,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    valid = json.loads((prepared / "splits_final.json").read_text())[0]["val"]
    test = sorted(path.stem for path in (arguments.data / "test_images").iterdir())
    for split, folder, cases in (("valid", "imagesTr", valid), ("test", "imagesTs", test)):
        (arguments.out / split).mkdir()
        files = [[str(raw / folder / f"{case}_0000.png")] for case in cases]
        outputs = [str(arguments.out / split / case) for case in cases]
        predictor.predict_from_files(files, outputs, True, num_processes_preprocessing=1,
                                     num_processes_segmentation_export=1)  # fmt: skip
    # What the comparison asks for beyond the conversion and the calls
    facts = {"seconds": prepared_after + trained - training, "predicting": time.monotonic() - trained}
    facts["seen"] = trainer.num_epochs * ITERATIONS * trainer.batch_size
    facts["bytes"] = sum(path.stat().st_size for path in (arguments.out / "test").iterdir())
    for path in arguments.out.glob("*/*.npz"):
        with np.load(path) as arrays:
            planes = arrays["probabilities"][:, 0].astype(np.float32)
        large = cv2.resize(planes.transpose(1, 2, 0), (525, 350), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
        np.save(path.with_suffix(".npy"), np.rint(255 * large.clip(0, 1)).astype(np.uint8))
    (arguments.out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
