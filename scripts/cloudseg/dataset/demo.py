"""Synthetic satellite scenes in the layout of the contest "Understanding Clouds from Satellite Images".

Nothing here was photographed. Every scene is drawn from a seed by the formulas below, so that the whole workflow
runs without a download: dark ocean, a grey band of sun glint, thin veils, the black wedge between two passes of the
satellite, and fields of cloud in the four organisations of the contest:

- Fish: skeletal bands, a curved spine with ribs and clear sea around it,
- Flower: large round clumps with clear gaps between them,
- Gravel: arcs and rings of 20-100 km around clear cells,
- Sugar: fine dust of very small clouds.

Frontal sheets and scattered clouds of no organisation stand between them, unlabelled. The labels are made as the
contest's were: unions of boxes by up to three annotators, who disagree about edges, overlook fields and take one
organisation for another. Even the boxes that the fields were drawn in score a Dice of only about 0.9 against them.

Structures are laid out on a grid of fixed size, where 20-100 km are 5-25 pixels (a pixel is about 1.1 km in an image
of 1400 x 2100, 4.4 km on the grid); they are then enlarged to the image and roughened there, pixel by pixel.
"""

import csv
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from cloudseg.dataset.fetch import write_marker
from cloudseg.dataset.labels.tables import HEADER
from cloudseg.errors import DatasetError
from cloudseg.postprocess import encode_rle
from cloudseg.runtime.job_progress import counted
from cloudseg.runtime.memory import OVERHEAD
from cloudseg.storage import files

CLASSES = ("Fish", "Flower", "Gravel", "Sugar")
FISH, FLOWER, GRAVEL = range(3)
RATES = (0.50, 0.45, 0.54, 0.66)  # share of scenes with each class; with the mislabelling about as in the contest
GRID = (350, 525)
GRID_Y, GRID_X = np.mgrid[: GRID[0], : GRID[1]].astype(np.float32)
SCENE_BYTES = 75  # memory per pixel that drawing a scene takes (69 measured)
SCENE_SIDES = 1.5  # of a scene that crops are cut out of, in sides of a crop: any two crops overlap
JPEG_QUALITY = 85  # gives the contest's 0.5-1 MB an image

# BGR, the order of OpenCV; read off real images.
SEA, HAZE, GLINT, CLOUD = (
    np.array(bgr, np.float32) for bgr in ((32, 14, 9), (87, 67, 51), (106, 110, 109), (246, 247, 247))
)


def make_demo(
    root: Path,
    *,
    train: int = 100,
    test: int = 30,
    seed: int = 2019,
    height: int = 1400,
    width: int = 2100,
    shift: float = 0,
    scenes: int | None = None,
    workers: int = 2,
    memory: int | None = None,
) -> None:
    """Write a synthetic data set in the contest's layout: train_images, test_images and the two CSV files.

    Image i of a split depends on the seed, the split, the number of scenes and i alone: more workers or more images
    leave its bytes as they are. Work runs in threads (NumPy and OpenCV release the lock), with OpenCV's own threads off
    meanwhile.

    Parameters
    ----------
    root : Path
        Folder to make; it may exist if it is empty. It appears whole or not at all: files are written to
        `<root>.part`, which is renamed at the end and replaced if an earlier run left one behind.
    train, test : int, default 100 and 30
        Number of images in each split, at least 1.
    seed : int, default 2019
        Start of all randomness, not negative.
    height, width : int, default 1400 and 2100
        Size of the images in pixels, at least 32. The scenes fill it, whatever it is.
    shift : float, default 0
        Opacity, from 0 to 1, of a haze over all that is seen in the test images, so that they differ from the
        training images. At 0 they are drawn alike.
    scenes : int, optional
        Cut the images of each split out of so many scenes, at least 1, whose sides are `SCENE_SIDES` times as long:
        image i is a crop of scene i modulo `scenes`, at a random place, so that crops of a scene overlap, and share
        what its annotators drew. No scene is in both splits. By default each image is a scene of its own.
    workers : int, default 2
        Number of threads, at most.
    memory : int, optional
        Bytes that the process may take: fewer threads draw where their scenes take more.

    Raises
    ------
    ValueError
        If a number is out of its range, or (a DatasetError) `root` exists and is not an empty folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_demo(Path(folder, "demo"), train=2, test=1, height=70, width=105)
    ...     print(*sorted(path.name for path in Path(folder, "demo").glob("[!.]*")))
    sample_submission.csv test_images train.csv train_images
    """
    root = Path(root)
    _check_arguments(root, train=(train, 1), test=(test, 1), seed=(seed, 0), height=(height, 32), width=(width, 32),
                     workers=(workers, 1), scenes=(1 if scenes is None else scenes, 1))  # fmt: skip
    if not 0 <= shift <= 1:
        raise ValueError(f"make_demo: shift: expected a number from 0 (no haze) to 1 (nothing but haze), got {shift}")
    drawn = (height, width) if scenes is None else (round(SCENE_SIDES * height), round(SCENE_SIDES * width))
    if memory is not None:
        workers = max(1, min(workers, (memory - OVERHEAD) // (SCENE_BYTES * math.prod(drawn))))
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    counts = {"train": train, "test": test}
    tasks = [(split, index) for split, count in counts.items() for index in range(min(count, scenes or count))]

    def write_scene(task):
        split, index = task
        image, masks = _make_image(seed, split, index, *drawn, haze=shift if split == "test" else 0)
        if scenes is None:
            return [write_image(split, _image_name(seed, split, index), image, masks)]
        crops = _place_crops(seed, split, index, counts[split], scenes, height, width)
        return [write_image(split, name, image[crop], masks[:, *crop]) for name, crop in crops]

    def write_image(split, name, image, masks):
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (part / f"{split}_images" / name).write_bytes(jpeg)
        return split, name, [encode_rle(mask) for mask in masks]

    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for split in ("train", "test"):
            (part / f"{split}_images").mkdir(parents=True)
        with ThreadPoolExecutor(workers) as pool:
            each = counted(pool.map(write_scene, tasks), len(tasks), "images" if scenes is None else "scenes")
            written = sorted(image for of_scene in each for image in of_scene)
        _write_csv(part / "train.csv", [(name, rles) for split, name, rles in written if split == "train"])
        unknown = ["1 1"] * len(CLASSES)
        _write_csv(part / "sample_submission.csv", [(name, unknown) for split, name, _ in written if split == "test"])
        write_marker(part, images="demo")
        files.sync_tree(part)
        if root.exists():
            root.rmdir()
        part.replace(root)
        files.sync(root.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        cv2.setNumThreads(opencv_threads)


def _check_arguments(root, **bounds):
    for name, (value, minimum) in bounds.items():
        if value < minimum:
            raise ValueError(f"make_demo: {name}: expected at least {minimum}, got {value}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(f"{root}: exists and is not an empty folder; remove it or choose another for the demo data")


def _write_csv(path, images):
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEADER)
        rows.writerows(
            [f"{name}_{label}", rle] for name, rles in images for label, rle in zip(CLASSES, rles, strict=True)
        )


def _image_name(seed, split, index):
    """Name an image with seven hex digits; an odd factor permutes the 28-bit numbers, so no two are the same."""
    number = (2 * index + (split == "test")) * 0x9E3779B1 + seed * 0x85EBCA6B
    return f"{number % 2**28:07x}.jpg"


def _place_crops(seed, split, scene, count, scenes, height, width):
    """Name the crops of a scene and place them at random: (name, (rows, columns)) of every `scenes`-th image."""
    number = scene + scenes * (split == "test")
    for index in range(scene, count, scenes):
        rng = np.random.default_rng([seed, split == "test", scenes, index])
        top, left = (int(rng.integers(round(SCENE_SIDES * side) - side + 1)) for side in (height, width))
        yield f"scene{number:03}_{index // scenes:02}.jpg", (slice(top, top + height), slice(left, left + width))


def _make_image(seed, split, index, height, width, haze=0):
    """Draw image `index` of a split and its four masks: (height, width, 3) and (4, height, width), both uint8."""
    rng = np.random.default_rng([seed, split == "test", index])
    regions = _place_regions(rng, _choose_classes(seed, split, index))
    masks = _annotate(rng, regions, height, width)
    return _draw_scene(rng, regions, height, width, haze), masks


def _choose_classes(seed, split, index):
    """Say which classes scene `index` holds, by Kronecker sequences: any run of scenes comes close to the rates."""
    offsets = np.random.default_rng([seed, split == "test"]).random(len(CLASSES))
    return np.modf(offsets + index * np.sqrt((2, 3, 5, 7)))[0] < RATES


def _place_regions(rng, present):
    """Give each present class one or two boxes (top, left, bottom, right; image = 1) that overlap little."""
    regions = []
    for label in rng.permutation(np.flatnonzero(present)).tolist():
        for _ in range(1 + (rng.random() < 0.3)):
            sides = rng.uniform((0.35, 0.3), (0.7, 0.6), (12, 2))
            corners = rng.uniform(-0.05, 1.05 - sides)
            boxes = np.hstack([corners, corners + sides]).clip(0, 1)
            overlap = [sum(_shared_area(box, other) for _, other in regions) for box in boxes]
            regions.append((label, boxes[np.argmin(overlap)]))
    return regions


def _shared_area(a, b):
    return np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))


def _annotate(rng, regions, height, width):
    """Join the boxes of three annotators: 40 % of the boxes are overlooked, 5 % of the fields go to any class."""
    masks = np.zeros((len(CLASSES), height, width), np.uint8)
    for label, box in regions:
        seen_as = int(rng.integers(len(CLASSES))) if rng.random() < 0.05 else label
        for _ in range(3):
            top, left, bottom, right = (box + rng.normal(0, 0.03, 4)).clip(0, 1)
            if rng.random() < 0.6:
                rows = slice(round(top * height), round(bottom * height))
                masks[seen_as, rows, round(left * width) : round(right * width)] = 1
    return masks


def _draw_scene(rng, regions, height, width, haze):
    """Draw the sea, the clouds over it, a haze of that opacity over both and the black wedge over all."""
    along, across = _wind_coordinates(rng)
    gap = _place_gap(rng)
    sea, veil = _draw_sea(rng, along, across, gap)
    cumulus, dust = _draw_clouds(rng, regions, along, across)
    halo = 0.4 * _smoothstep(-0.5, 0.9, cumulus)

    def enlarge(field):
        return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)

    detail = _fractal(rng, (height, width), 20, 0.8)
    detail = _look_up(detail, enlarge(along) * (width / GRID[1]), enlarge(across) * (height / GRID[0]))
    lace = np.abs(detail[::-1, ::-1])  # turned round, the same noise serves twice
    grain = _fractal(rng, (height, width), max(2, height // 7), 0.9)

    thick = enlarge(cumulus) + 0.38 * detail + 0.2 * grain
    fine = enlarge(dust) + 0.45 * grain - 0.4 * lace + np.clip(0.6 * thick, -0.4, 0) + 0.05
    cloud = np.maximum(1 - np.exp(-2.2 * np.maximum(thick, 0)), 0.75 - 0.75 * np.exp(-1.6 * np.maximum(fine, 0)))
    cloud *= np.minimum(1.02 - 0.08 * lace, 1)
    thin = enlarge(np.maximum(veil, halo)) * np.clip(0.75 + 0.25 * detail, 0, 1.5)
    cloud += thin * (1 - cloud)

    image = enlarge(sea)
    image += cloud[..., None] * (CLOUD - image)
    if haze:
        image += haze * (HAZE - image)
    black = np.zeros((height, width), np.uint8)
    corners = np.round(gap * (width * 16, height * 16)).astype(np.int32)
    cv2.fillConvexPoly(black, corners, 255, cv2.LINE_AA, 4)
    image *= (1 - black / np.float32(255))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _draw_sea(rng, along, across, gap):
    """Colour the sea, with haze towards the edge of the pass and sun glint in its middle, and draw thin veils."""
    y, x = GRID_Y / GRID[0], GRID_X / GRID[1]
    broad = _fractal(rng, GRID, 3, 0.5)
    (left, _), (right, _), (right_below, _), (left_below, _) = gap.tolist()
    middle = (left + right) / 2 + (left_below + right_below - left - right) / 2 * y
    haze = rng.uniform(0.1, 0.4) + 0.08 * broad + 0.3 * np.exp(-np.abs(x - middle) / 0.12)
    sea = SEA + np.clip(haze, 0, 1)[..., None] * (HAZE - SEA)
    if rng.random() < 0.7:
        ridge = middle + rng.choice([-1, 1]).item() * rng.uniform(0.4, 0.7) + 0.012 * broad
        strength = np.clip(rng.uniform(0.4, 0.9) + rng.uniform(-0.6, 0.6) * (y - 0.5), 0, 0.9)
        glint = strength * np.exp(-0.5 * ((x - ridge) / rng.uniform(0.05, 0.12)) ** 2)
        sea += glint[..., None] * (GLINT - sea)
    streaks = _look_up(_fractal(rng, GRID, 4, 0.7), along, across)
    return sea, 0.36 * _smoothstep(rng.uniform(-0.3, 1.1), 2.5, streaks + 0.5 * broad)


def _place_gap(rng):
    """Choose the corners (x, y; image = 1) of the wedge that no pass of the satellite saw; it may miss the image."""
    left = rng.uniform(-0.35, 1.2)
    slant = rng.choice([-1, 1]) * rng.uniform(0.1, 0.2)
    above, below = rng.uniform(0.03, 0.18, 2)
    return np.array([[left, 0], [left + above, 0], [left + slant + below, 1], [left + slant, 1]])


def _draw_clouds(rng, regions, along, across):
    """Lay out the clouds on the grid: thickness of cumulus and density of dust, both below 0 where the sky is clear."""
    clumpy = _fractal(rng, GRID, 14, 0.75)
    drawn_out = _look_up(_fractal(rng, GRID, 3, 0.62), along, across)
    x, y = GRID_X + 5 * _fractal(rng, GRID, 8, 0.6), GRID_Y + 5 * _fractal(rng, GRID, 8, 0.6)
    front = np.minimum(1.1 * (drawn_out + 0.25 * clumpy - rng.uniform(0.5, 2.0)), 0.9)
    scattered = 0.5 * (clumpy - rng.uniform(1.1, 2.2))
    cumulus = np.maximum(front, scattered)
    dust = 0.35 * drawn_out[::-1] + rng.uniform(-0.7, -0.25)
    for label, box in regions:
        top, left, bottom, right = (box * (GRID * 2)).tolist()
        inside = np.minimum(np.minimum(GRID_Y - top, bottom - GRID_Y), np.minimum(GRID_X - left, right - GRID_X))
        weight = _smoothstep(-15, 20, inside + 9 * clumpy + 6 * drawn_out)
        speckle = 0.2 * clumpy - 0.3
        if label == FISH:
            field = _bones(rng, box, x, y) + 0.3 * clumpy
        elif label == FLOWER:
            nearest, _, _ = _cells(rng, x, y, rng.uniform(26, 42), 0.45)
            field = np.minimum(1.7 - 4.2 * nearest, 0.6)
        elif label == GRAVEL:
            nearest, second, lean = _cells(rng, x, y, rng.uniform(12, 19), 0.15)
            field = 0.42 - 2.2 * (second - nearest) + 0.45 * lean + 0.3 * clumpy
            speckle += 0.25
        else:  # Sugar
            field = scattered - 0.4
            speckle = 0.3 + 0.25 * drawn_out + 0.15 * clumpy
        cumulus = np.maximum(cumulus * (1 - weight) - weight, field * weight + weight - 1)
        dust += weight * (speckle - dust)
    return cumulus, dust


def _bones(rng, box, x, y):
    """Draw two or three spines with ribs through a box, blur the lines to ridges and bend them by looking up (x, y)."""
    lines = np.zeros(GRID, np.float32)
    top, left, bottom, right = (box * (GRID * 2)).tolist()
    count, tilt = int(rng.integers(2, 4)), rng.uniform(-0.6, 0.6)
    for k in range(count):
        length = rng.uniform(0.7, 1.1) * (right - left)
        angle = tilt + rng.uniform(-0.2, 0.2) + rng.uniform(-1, 1) * np.linspace(-0.5, 0.5, 32)
        spine = np.cumsum([np.cos(angle), np.sin(angle)], axis=1) * (length / 32)
        centre_x = rng.uniform(0.4, 0.6) * (left + right)
        centre_y = top + (k + rng.uniform(0.3, 0.7)) / count * (bottom - top)
        spine += np.array([[centre_x], [centre_y]]) - spine.mean(axis=1, keepdims=True)
        cv2.polylines(lines, [spine.T.astype(np.int32)], False, 1.0, 3)
        side = rng.choice([-1, 1])
        for joint in rng.integers(0, 32, 44):
            turn = angle[joint] + side * rng.normal(0.7, 0.25)
            tip = spine[:, joint] + rng.uniform(0.05, 0.35) * length * np.array([np.cos(turn), np.sin(turn)])
            cv2.line(lines, spine[:, joint].astype(int).tolist(), tip.astype(int).tolist(), rng.uniform(0.5, 1), 1)
    ridges = 0.9 * cv2.GaussianBlur(lines, (0, 0), 1.3) + cv2.GaussianBlur(lines, (0, 0), 4)
    return np.minimum(1.5 * _look_up(ridges, x, y) - 0.8, 0.7)


def _cells(rng, x, y, pitch, spread):
    """Divide the plane into cells around jittered points `pitch` apart, whose sizes differ by the share `spread`.

    This is cellular noise (Worley, SIGGRAPH 1996). Returns the distances to the nearest and the second nearest
    point, in pitches over the size of the cell, and how far right and down of the nearest point a pixel lies.
    """
    u, v = x / pitch + 3, y / pitch + 3  # 3: bent coordinates reach a little below 0
    column, row = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    u, v = u - np.floor(u), v - np.floor(v)
    points = rng.random((3, row.max() + 2, column.max() + 2), dtype=np.float32)
    nearest = np.full(GRID, np.inf, np.float32)
    second, lean = nearest.copy(), np.zeros(GRID, np.float32)
    for below in (-1, 0, 1):
        for beside in (-1, 0, 1):
            point_x, point_y, size = points[:, row + below, column + beside]
            right, down = u - beside - point_x, v - below - point_y
            distance = np.hypot(right, down) / (1 + spread * (2 * size - 1))
            second = np.minimum(second, np.maximum(nearest, distance))
            lean = np.where(distance < nearest, right + down, lean)
            nearest = np.minimum(nearest, distance)
    return nearest, second, lean


def _wind_coordinates(rng):
    """Turn and bend the grid so that noise looked up there is drawn out along a wandering wind."""
    angle, stretch = rng.uniform(-0.6, 0.6), rng.uniform(1.5, 3.0)
    along = GRID_X * math.cos(angle) + GRID_Y * math.sin(angle) + 20 * _fractal(rng, GRID, 3, 0.33)
    across = GRID_Y * math.cos(angle) - GRID_X * math.sin(angle) + 20 * _fractal(rng, GRID, 3, 0.33)
    return along / stretch, across


def _fractal(rng, shape, coarsest, gain):
    """Add octaves of random grids, from `coarsest` rows up to `shape`, each `gain` times the last; mean 0, std 1."""
    field = np.zeros((2, 2), np.float32)
    rows, amplitude = coarsest, 1.0
    while field.shape != shape:
        size = shape if rows >= shape[0] else (rows, max(2, rows * shape[1] // shape[0]))
        field = cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC)
        field += amplitude / 128 * np.frombuffer(rng.bytes(size[0] * size[1]), np.int8).reshape(size)
        rows, amplitude = rows * 2, amplitude * gain
    return (field - field.mean()) / field.std()


def _look_up(field, x, y):
    """Read `field` at the pixel coordinates (x, y), mirrored beyond its edges."""
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT_101)


def _smoothstep(low, high, x):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
