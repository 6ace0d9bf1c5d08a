import collections
import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from network_fixtures import write_pixels

from cloudseg.config.recipe_parts import CutMix, MixUp
from cloudseg.training.data import mixing
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler, epoch_order

STEPS = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "RandomBrightnessContrast", "p": 1},
    {"name": "Affine", "rotate": [-30, 30], "p": 1},
]
IMAGES, SEED = 16, 7
BOTH = {"cutmix": CutMix(p=0.5), "mixup": MixUp(p=0.3)}


class Watched:
    """Samples that note which of them were made."""

    def __init__(self, samples):
        self._samples, self.made = samples, []

    def __len__(self):
        return len(self._samples)

    def name(self, index):
        return self._samples.name(index)

    def __getitem__(self, key):
        self.made.append(key)
        return self._samples[key]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixing") / "p.zarr"
    write_pixels(path, train=IMAGES)
    return path


def unmixed(store, *, soft=False):
    classes = 2 if soft else None
    images = LabelledImages(store, range(IMAGES))
    return SegmentationDataset(images, transform=build_transform(STEPS), seed=SEED, soft_classes=classes)


def mixed(store, **mixes):
    return mixing.MixedDataset(unmixed(store, soft="mixup" in mixes), seed=SEED, **mixes)


def content(sample):
    return tuple(part.numpy().tobytes() for part in sample)


def keys_of(epochs):
    return [(epoch, index) for epoch in epochs for index in range(IMAGES)]


def partner_of(epoch, index):
    order = epoch_order(IMAGES, SEED, epoch).tolist()
    return epoch, order[(order.index(index) + 1) % IMAGES]


def test_cutmix_pastes_a_rectangle_of_the_next_sample_and_its_mask_and_leaves_the_others_alone(store):
    plain, samples = unmixed(store), mixed(store, cutmix=CutMix(p=0.5))
    pasted = 0
    for key in keys_of(range(1, 7)):
        (image, mask), (own_image, own_mask) = samples[key], plain[key]
        changed = (image != own_image).any(-1) | (mask != own_mask).any(-1)
        if not changed.any():
            continue
        pasted += 1
        rows, columns = (slice(int(line.min()), int(line.max()) + 1) for line in torch.nonzero(changed).T)
        next_image, next_mask = plain[partner_of(*key)]  # not mixed itself, though it may be where it is shown
        assert torch.equal(image[rows, columns], next_image[rows, columns])
        assert torch.equal(mask[rows, columns], next_mask[rows, columns])
        outside = torch.ones(changed.shape, dtype=torch.bool)
        outside[rows, columns] = False
        assert torch.equal(image[outside], own_image[outside])
        assert torch.equal(mask[outside], own_mask[outside])
    assert 0.35 < pasted / len(keys_of(range(1, 7))) < 0.6  # of 96; a box may be too small to be seen


def test_mixup_blends_image_and_mask_by_the_same_number_and_leaves_the_others_alone(store):
    plain, samples = unmixed(store, soft=True), mixed(store, mixup=MixUp(p=0.5, alpha=1))
    blended = 0
    for key in keys_of(range(1, 5)):
        (image, mask), own, other = samples[key], plain[key], plain[partner_of(*key)]
        if content((image, mask)) == content(own):
            continue
        blended += 1
        share = mask[(own[1] == 255) & (other[1] == 0)].unique()
        assert len(share) == 1  # where only this sample has a mask, it says how much of the sample there is
        lambda_ = share.item() / 255
        for found, ours, theirs in zip((image, mask), own, other, strict=True):
            wanted = lambda_ * ours.numpy().astype(np.float64) + (1 - lambda_) * theirs.numpy()
            assert np.array_equal(found.numpy(), np.rint(wanted))
    assert 0.35 < blended / 64 < 0.65


def test_blending_rounds_to_the_nearest_byte_for_any_bytes_and_any_share():
    own, other = (each.astype(np.uint8) for each in np.meshgrid(np.arange(256), np.arange(256)))
    pair = [(torch.from_numpy(each)[..., None],) * 2 for each in (own, other)]
    for share in range(256):
        image, mask = mixing.blend(*pair, share)
        wanted = np.rint((share * own.astype(np.float64) + (255 - share) * other.astype(np.float64)) / 255)
        assert np.array_equal(image.numpy()[..., 0], wanted)
        assert torch.equal(image, mask)


@pytest.mark.parametrize("mixes", [{"cutmix": CutMix(p=1)}, {"mixup": MixUp(p=1)}, BOTH], ids=["cut", "blend", "both"])
def test_mixes_do_not_depend_on_workers_order_or_ranks(store, mixes):
    def batches_of(workers, **share):
        batches = BatchSampler(IMAGES, 8, shuffle_seed=SEED, **share)
        loader = Loader(mixed(store, **mixes), batches, workers, "cpu")
        for batches.epoch in (1, 2, 3):
            for (images, masks), keys in zip(loader, list(batches), strict=True):
                yield from zip(keys, map(content, zip(images, masks, strict=True)), strict=True)

    alone = dict(batches_of(0))
    assert len(set(alone.values())) == 3 * IMAGES
    assert list(batches_of(2)) == list(alone.items())
    for ranks in (2, 3, 4):
        assert dict(itertools.chain(*(batches_of(0, rank=rank, ranks=ranks) for rank in range(ranks)))) == alone
    for keys in (sorted(alone), sorted(alone, reverse=True), [key for key in alone if key[0] == 3]):
        again = mixed(store, **mixes)  # one that goes on has not seen what came before
        assert {key: content(again[key]) for key in keys} == {key: alone[key] for key in keys}
    assert content(again[keys[0]]) == content(again[keys[0]])


def test_a_sample_is_mixed_by_one_of_both_at_most_with_the_odds_of_each(monkeypatch):
    how = collections.Counter()
    monkeypatch.setattr(mixing, "paste", lambda sample, partner, box: how.update(["cutmix"]) or sample)
    monkeypatch.setattr(mixing, "blend", lambda sample, partner, share: how.update(["mixup"]) or sample)

    class Blank:
        def __len__(self):
            return 500

        def __getitem__(self, key):
            how.update(["made"])
            return torch.zeros(2, 2, 3), torch.zeros(2, 2, 1)

    for cut, blended in ((0.3, 0.25), (0.75, 0.25)):
        how.clear()
        samples = mixing.MixedDataset(Blank(), seed=1, cutmix=CutMix(p=cut), mixup=MixUp(p=blended))
        for key in itertools.product(range(1, 9), range(500)):
            samples[key]
        for name, odds in (("cutmix", cut), ("mixup", blended)):
            assert scipy.stats.binomtest(how[name], 4000, odds).pvalue > 1e-3
    assert how["cutmix"] + how["mixup"] == 4000  # odds that sum to 1 mix every sample


def test_each_sample_of_a_batch_is_made_once(store):
    samples = Watched(unmixed(store))
    batches = BatchSampler(IMAGES, 8, shuffle_seed=SEED)
    batches.epoch = 1
    data = mixing.MixedDataset(samples, seed=SEED, cutmix=CutMix(p=1))
    for batch in batches:
        for key in batch:
            data[key]
    assert samples.made == [(1, index) for index in epoch_order(IMAGES, SEED, 1)] + [partner_of(1, batch[-1][1])]


def test_every_sample_is_the_partner_of_one_other():
    for epoch in range(20):
        after = mixing.following(epoch_order(9, SEED, epoch))
        assert sorted(after) == list(range(9))
        assert (after != np.arange(9)).all()


@pytest.mark.parametrize("alpha", [0.4, 1, 3])
def test_boxes_cover_what_those_of_the_paper_do(alpha):
    height, width, draws = 32, 48, 20_000
    rng, covered, shares = np.random.default_rng(0), np.zeros((height, width)), []
    for _ in range(draws):
        rows, columns = mixing.cutmix_box((height, width), alpha, rng)
        assert 0 <= rows.start <= rows.stop <= height
        assert 0 <= columns.start <= columns.stop <= width
        covered[rows, columns] += 1 / draws
        shares.append((rows.stop - rows.start) * (columns.stop - columns.start) / (height * width))
    # The mean over sides r = sqrt(1 - lambda) of the chance that a centre lies within r / 2 of a pixel, per axis
    sides = np.sqrt(1 - scipy.stats.beta(alpha, alpha).ppf((np.arange(2000) + 0.5) / 2000))
    near = []
    for length in (height, width):
        middle = (np.arange(length) + 0.5)[:, None] / length
        near.append(np.minimum(middle + sides / 2, 1) - np.maximum(middle - sides / 2, 0))
    wanted = (near[0][:, None] * near[1][None]).mean(-1)
    assert np.abs(covered - wanted).max() < 0.02
    assert np.mean(shares) == pytest.approx(wanted.mean(), abs=0.01)


@pytest.mark.parametrize("alpha", [0.4, 1, 3])
def test_shares_of_mixup_are_those_of_the_beta_distribution(alpha):
    rng, draws = np.random.default_rng(0), 20_000
    counts = np.bincount([mixing.mixup_share(alpha, rng) for _ in range(draws)], minlength=256)
    edges = np.clip((np.arange(257) - 0.5) / 255, 0, 1)
    wanted = draws * np.diff(scipy.stats.beta(alpha, alpha).cdf(edges))
    enough = wanted > 5
    assert scipy.stats.chisquare(counts[enough], wanted[enough] * counts[enough].sum() / wanted[enough].sum())[1] > 1e-3


def test_a_partner_that_cannot_be_read_is_named(store):
    class Broken(Watched):
        def __getitem__(self, key):
            if key[1] == 5:
                raise ValueError("no such shard")
            return super().__getitem__(key)

    data = mixing.MixedDataset(Broken(unmixed(store)), seed=SEED, cutmix=CutMix(p=1))
    [before] = [index for index in range(IMAGES) if partner_of(1, index) == (1, 5)]
    loader = Loader(data, [[(1, before)]], 0, "cpu")
    with pytest.raises(
        ValueError, match=rf"p.zarr, image train{before}.jpg: mixed with .*p.zarr, image train5.jpg: no such"
    ):
        next(iter(loader))
