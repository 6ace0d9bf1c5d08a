"""What explains a score, against other ways of counting it: NumPy, the scores of a blend that was made anew."""

import numpy as np
import pytest
from made_ensemble import make

from cloudseg.ensemble import agreement, calibration
from cloudseg.ensemble.agreement import Blending
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.calibration import byte_histograms, calibration_error, reliability
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.diagnosis import diagnose
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.presence import confusion, largest_component, presence_curve
from cloudseg.ensemble.scores import image_scores, mean_of_images, score_parts
from cloudseg.ensemble.selection import Choice, Selection, Step
from cloudseg.errors import StoreError
from cloudseg.postprocess import Cut, blend
from cloudseg.storage import stores

CLASSES = ["Fish", "Flower"]


def diagnosed(made, **options):
    return diagnose(
        made / "valid.zarr", made / "truth.zarr", made.decision, made.members, made.rule, **({"threads": 2} | options)
    )


def whole(path):
    array = stores.read(path)
    return stores.read_images(array, slice(0, array.shape[0]))


@pytest.mark.parametrize("most", [2**24, 100])
def test_histograms_are_those_of_numpy_in_bands_too(monkeypatch, most):
    monkeypatch.setattr(calibration, "MOST_COUNTED", most)
    random = np.random.default_rng(1)
    planes, truth = random.integers(0, 256, (3, 33, 47), dtype=np.uint8), random.integers(0, 2, (3, 33, 47), np.uint8)
    counted = byte_histograms(planes, truth)
    for number in range(3):
        for inside in (0, 1):
            wanted = np.bincount(planes[number][truth[number] == inside], minlength=256)
            assert np.array_equal(counted[number, inside], wanted)


def test_probabilities_that_are_right_have_no_calibration_error_and_shifted_ones_have_the_shift():
    counts = np.zeros((2, 256), np.int64)
    counts[1], counts[0] = np.arange(256), 255 - np.arange(256)
    assert calibration_error(counts) == pytest.approx(0)
    assert np.allclose(reliability(counts)["probability"], reliability(counts)["observed"])
    shifted = np.zeros((2, 256), np.int64)
    shifted[:, 51:] = counts[:, :-51]
    assert calibration_error(shifted) == pytest.approx(51 / 255)
    assert np.isnan(calibration_error(np.zeros((2, 256), np.int64)))


def test_a_mask_is_empty_above_its_largest_component():
    random = np.random.default_rng(2)
    for share in (0.0, 0.2, 0.5, 1.0):
        mask = (random.random((30, 40)) < share).astype(np.uint8)
        largest = largest_component(mask)
        assert not Cut(1, largest + 1).mask(mask).any()
        assert largest == 0 or Cut(1, largest).mask(mask).any()


@pytest.mark.parametrize("sharpen", [None, 0.5])
def test_a_blend_without_a_member_is_the_blend_of_the_others_scored_as_any(tmp_path, sharpen):
    made = make(tmp_path, CLASSES, sharpen=sharpen)
    found = diagnosed(made).agreement
    for left_out, scores in enumerate(found.without):
        others = [member for member in made.members if member is not made.members[left_out]]
        blended = [{"store": member.name, "fold": None, "weight": member.weight} for member in others]
        out = tmp_path / f"without{left_out}.zarr"
        options = {"classes": CLASSES, "size": (40, 60), "sharpen": sharpen, "allow_squeezed": True}
        blend_stores([member.store for member in others], blended, out, folds=None, **options)
        planes, truth = whole(out), whole(tmp_path / "truth.zarr")[::-1]
        for row, (image, fold) in enumerate(zip(stores.read(out).attrs["ids"], (0, 0, 0, 1, 1), strict=True)):
            masks = dict(zip(CLASSES, made.decision.rule_for(fold).masks(planes[row]), strict=True))
            for number, name in enumerate(CLASSES):
                mask, wanted = masks[name], truth[row, number]
                total = int(mask.sum()) + int(wanted.sum())
                dice = 2 * int((mask & wanted).sum()) / total if total else 1.0
                [said] = scores.loc[(scores["image"] == image) & (scores["class"] == name), "dice"]
                assert said == pytest.approx(dice, abs=1e-12)


def dice_without(made, masks_of):
    """Dice per image and class of what an ensemble is without each member, by NumPy."""
    truth = whole(made / "truth.zarr")[::-1]
    planes = [whole(member.store) for member in made.members]
    found = []
    for left_out in range(len(planes)):
        masks = [masks_of(left_out, row, [each[row] for each in planes]) for row in range(len(truth))]
        both, total = (np.array(masks) & truth).sum(axis=(2, 3)), (np.array(masks) + truth).sum(axis=(2, 3))
        found.append(np.where(total == 0, 1.0, 2 * both / np.maximum(total, 1)).ravel())
    return found


def test_a_searched_blend_without_a_member_has_the_weights_that_its_fold_was_given(tmp_path):
    made = make(tmp_path, CLASSES)
    paths = {None: ["m0", "m1"], 0: ["m1", "m2", "m1"], 1: ["m0"]}
    whole_one, *nested = (Choice(None, tuple(Step(name, 0.5) for name in path)) for path in paths.values())
    selection = Selection(("m0", "m1", "m2"), 5, 1, whole_one, dict(enumerate(nested)), {})

    def masks_of(left_out, row, planes):
        fold = int(row > 2)
        weights = [paths[fold].count(f"m{number}") for number in range(3)]
        weights[left_out] = 0
        mean = np.floor(
            sum(w * p.astype(int) for w, p in zip(weights, planes, strict=True)) / max(sum(weights), 1) + 0.5
        )
        return made.decision.rule_for(fold).masks(mean.astype(np.uint8))

    said = diagnosed(made, blending=Blending(selection=selection)).agreement.without
    for scores, dice in zip(said, dice_without(made, masks_of), strict=True):
        assert np.allclose(scores["dice"], dice, atol=1e-12)


def test_a_vote_without_a_member_is_the_vote_of_the_others_and_a_member_alone_is_cut_as_it_votes(tmp_path):
    made = make(tmp_path, CLASSES)
    cuts = {number: {0: 90 + 20 * number, 1: 150 - 20 * number} for number in range(3)}

    def decided(levels):
        rules = {fold: ImageRule.of_cuts(dict.fromkeys(CLASSES, Cut(level, 0))) for fold, level in levels.items()}
        return Decision("tune", 5, rules[0], rules)

    voters = {f"m{number}": decided(levels) for number, levels in cuts.items()}

    def masks_of(left_out, row, planes):
        fold = int(row > 2)
        weights = {n: member.weight for n, member in enumerate(made.members) if n != left_out}
        share = sum(w * (planes[n] >= cuts[n][fold]) for n, w in weights.items()) / sum(weights.values())
        return made.decision.rule_for(fold).masks(np.floor(255 * share + 0.5).astype(np.uint8))

    found = diagnosed(made, blending=Blending(voters=voters)).agreement
    for scores, dice in zip(found.without, dice_without(made, masks_of), strict=True):
        assert np.allclose(scores["dice"], dice, atol=1e-12)
    for number, member in enumerate(made.members):
        alone = mean_of_images(image_scores(member.store, made / "truth.zarr", voters[member.name]))
        assert found.pairs[number, -1] == pytest.approx(alone)


def test_a_blend_without_a_member_is_as_black_as_the_blend(tmp_path):
    made = make(tmp_path, CLASSES)

    class Black:
        def clear(self, planes, ids):
            assert len(ids) == len(planes) == 1
            planes[:, :, : 10 * int(ids[0][0])] = 0

    def masks_of(left_out, row, planes):
        others = [number for number in range(3) if number != left_out]
        weights = [made.members[number].weight for number in others]
        mean = blend([planes[number] for number in others], weights=weights)
        mean[:, : 10 * row] = 0
        return made.decision.rule_for(int(row > 2)).masks(mean)

    said = diagnosed(made, blending=Blending(black=Black())).agreement.without
    for scores, dice in zip(said, dice_without(made, masks_of), strict=True):
        assert np.allclose(scores["dice"], dice, atol=1e-12)


def test_all_members_in_their_order_make_the_very_blend(tmp_path):
    made = make(tmp_path, CLASSES, sharpen=0.5)
    weights = [member.weight for member in made.members]
    again = blend([whole(member.store) for member in made.members], weights=weights, sharpen=0.5)
    assert np.array_equal(again, whole(tmp_path / "valid.zarr"))


def test_pairs_are_scores_with_the_other_member_as_the_truth(tmp_path):
    made = make(tmp_path, CLASSES)
    found = diagnosed(made, threads=1).agreement
    fixed = Decision("fixed", 0, made.rule.fixed(CLASSES))
    for row, member in enumerate(made.members):
        scores = image_scores(member.store, tmp_path / "truth.zarr", fixed)
        mean = scores.groupby(["fold", "class"])["dice"].mean().groupby("fold").mean().mean()
        assert found.pairs[row, -1] == pytest.approx(mean)
        assert found.pairs[row, row] == 1
    assert np.allclose(found.pairs, found.pairs.T)
    assert (found.pairs[:-1, :-1] < 1).any()


def test_presence_at_the_decision_is_what_the_scores_say(tmp_path):
    made = make(tmp_path, CLASSES, how="fixed", absent=["Flower"])
    found = diagnosed(made)
    counted, parts = confusion(made.scores), score_parts(made.scores)
    for number, name in enumerate(CLASSES):
        scores = made.scores[made.scores["class"] == name]
        cut = made.decision.cuts[name]
        assert np.array_equal(found.largest[:, number] >= max(cut.min_size, 1), scores["kept"] > 0)
        curve = presence_curve(found.largest[:, number], found.has[:, number], [0, cut.min_size])
        row = counted[counted["class"] == name].iloc[0]
        assert curve["precision"][1] == row["precision"] or np.isnan(row["precision"])
        assert np.isnan(curve["recall"][1]) == np.isnan(row["recall"]) == (name == "Flower")
    rows = counted[["found", "missed", "added", "empty"]].sum(axis=1)
    assert (rows == 5).all()
    assert set(parts["class"]) > set(CLASSES)


def test_histograms_count_every_pixel_of_the_blend_once_and_members_those_of_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "SAMPLED_PREDICTIONS", 6)
    monkeypatch.setattr(agreement, "LEAST_SAMPLE", 2)
    made = make(tmp_path, CLASSES)
    found = diagnosed(made)
    assert found.histograms.sum() == 5 * 2 * 40 * 60
    assert found.agreement.images == 2
    assert found.agreement.histograms.sum() == 3 * 2 * 2 * 40 * 60
    assert {len(scores) for scores in found.agreement.without} == {2 * 2}
    assert set(found.agreement.without[0]["fold"]) == {0, 1}


def test_one_member_or_no_image_leaves_nothing_to_compare(tmp_path):
    one, none = make(tmp_path / "one", CLASSES, members=1), make(tmp_path / "none", CLASSES, folds=(), how="fixed")
    assert diagnosed(one).agreement is None
    assert diagnosed(none).agreement is None
    assert diagnosed(none).images == 0


def test_a_member_that_lacks_an_image_is_named(tmp_path):
    made, other = make(tmp_path / "a", CLASSES), make(tmp_path / "b", CLASSES, folds=(0, 1))
    with pytest.raises(StoreError, match=r"m1\.zarr: expected all images of the blend, got none of 2_a\.jpg"):
        diagnose(
            made / "valid.zarr", made / "truth.zarr", made.decision, [made.members[0], other.members[1]], made.rule
        )
