"""The search for an ensemble: equal to plain NumPy, blind to the fold that is held out, and kept as a file."""

from collections import Counter
from itertools import combinations_with_replacement

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import CLASSES, SIZE, planes, write

from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.candidates import Candidates
from cloudseg.ensemble.selecting import choose, select
from cloudseg.ensemble.selection import Choice, Score, Selection, Step
from cloudseg.errors import ConfigError, DamagedFileError, StoreError
from cloudseg.postprocess import blend
from cloudseg.storage.stores import read_images


def write_candidates(folder, *, folds=(0, 1), candidates=3, images=3, noise=(0.3, 0.5, 0.4)):
    """Write stores of candidates per fold, and the truth; return paths, members, and the blocks by (name, fold)."""
    base = {fold: planes(20 + fold, images).astype(float) for fold in folds}
    paths, members, blocks = [], [], {}
    for number in range(candidates):
        for fold in folds:
            other = planes(50 + 10 * number + fold, images)
            share = noise[number % len(noise)]
            block = ((1 - share) * base[fold] + share * other).astype(np.uint8)
            ids = [f"{fold}_{image}.jpg" for image in range(images)]
            name = "abcdefgh"[number]
            paths.append(write(folder / f"{name}{fold}.zarr", block, ids, fold=[fold] * images))
            members.append({"candidate": name, "store": f"{name}{fold}", "fold": fold})
            blocks[name, fold] = block
    truth = {fold: (base[fold] > 140).astype(np.uint8) for fold in folds}
    truth[folds[0]][0, 0] = 0
    write_truth(folder / "truth.zarr", truth)
    return paths, members, blocks, truth


def write_truth(path, truth):
    ids = [f"{fold}_{image}.jpg" for fold, block in truth.items() for image in range(len(block))]
    return write(path, np.concatenate(list(truth.values()))[::-1], ids[::-1])


def dice(mean, truth):
    """Return the Dice of a blend (N, C, H, W) at every level: (C, 256), the mean over its images."""
    levels = np.arange(256)[:, None, None]
    found = np.empty((*mean.shape[:2], 256))
    for image in range(mean.shape[0]):
        for number in range(mean.shape[1]):
            masks = mean[image, number] >= levels
            pixels = masks.sum(axis=(1, 2)) + truth[image, number].sum()
            both = (masks & (truth[image, number] > 0)).sum(axis=(1, 2))
            found[image, number] = np.where(pixels == 0, 1.0, 2 * both / np.maximum(pixels, 1))
    return found.mean(axis=0)


def rounded_mean(blocks, counts):
    total = sum(counts)
    return (2 * sum(count * block.astype(int) for count, block in zip(counts, blocks, strict=True)) + total) // (
        2 * total
    )


def score_of(counts, blocks, truth, seen, held_out=None, power=None):
    """Return the in-sample Dice of weights {name: count}, and that on a fold that is held out, by NumPy."""

    def per_fold(fold):
        chosen, weights = [blocks[name, fold] for name in counts], list(counts.values())
        mean = rounded_mean(chosen, weights) if power is None else blend(chosen, weights=weights, sharpen=power)
        return dice(mean, truth[fold])

    means = np.mean([per_fold(fold) for fold in seen], axis=0)
    levels = means.argmax(axis=1)
    other = None if held_out is None else per_fold(held_out)[range(len(levels)), levels].mean()
    return means.max(axis=1).mean(), other


def greedy_by_hand(names, blocks, truth, seen, held_out=None, *, steps, tolerance, power=None):
    counts, path = Counter(), []
    for _ in range(steps):
        scores = [score_of(counts + Counter([name]), blocks, truth, seen, held_out, power) for name in names]
        best = int(np.argmax([score for score, _ in scores]))
        if path and scores[best][0] - path[-1][1] <= tolerance:
            break
        counts[names[best]] += 1
        path.append((names[best], *scores[best]))
    return path


def assert_same_path(choice, path):
    assert [step.candidate for step in choice.path] == [name for name, _, _ in path]
    assert np.allclose([step.in_sample for step in choice.path], [score for _, score, _ in path], rtol=0, atol=1e-12)
    for step, (_, _, held_out) in zip(choice.path, path, strict=True):
        assert step.held_out == (held_out if held_out is None else pytest.approx(held_out, abs=1e-12))


@pytest.mark.parametrize("power", [None, 0.5])
def test_the_paths_are_those_of_a_greedy_search_in_numpy(tmp_path, power):
    paths, members, blocks, truth = write_candidates(tmp_path, folds=(0, 2, 3))
    options = {"steps": 5, "tolerance": 1e-4}
    found = select(paths, members, tmp_path / "truth.zarr", powers=[power], threads=2, **options)
    assert (found.images, found.reduce, found.candidates) == (9, 1, ("a", "b", "c"))
    assert_same_path(found.chosen, greedy_by_hand("abc", blocks, truth, [0, 2, 3], power=power, **options))
    assert list(found.nested) == [0, 2, 3]
    for fold, choice in found.nested.items():
        seen = [each for each in (0, 2, 3) if each != fold]
        assert_same_path(choice, greedy_by_hand("abc", blocks, truth, seen, fold, power=power, **options))


def test_the_greedy_search_finds_the_best_of_all_multisets_where_no_detour_is_better(tmp_path):
    paths, members, blocks, truth = write_candidates(tmp_path)
    found = select(paths, members, tmp_path / "truth.zarr", steps=4, tolerance=0)
    sets = [Counter(names) for size in range(1, 5) for names in combinations_with_replacement("abc", size)]
    scores = [score_of(counts, blocks, truth, [0, 1])[0] for counts in sets]
    assert found.scores["chosen"].in_sample == pytest.approx(max(scores), abs=1e-12)
    assert found.scores["chosen"].in_sample > found.scores["single"].in_sample


def test_scores_are_in_the_same_terms(tmp_path):
    paths, members, blocks, truth = write_candidates(tmp_path, folds=(0, 1, 2))
    found = select(paths, members, tmp_path / "truth.zarr", steps=4, powers=[0.5, None])
    held_out = {fold: [each for each in (0, 1, 2) if each != fold] for fold in (0, 1, 2)}
    every = dict.fromkeys("abc", 1)
    honest = np.mean([score_of(every, blocks, truth, seen, fold)[1] for fold, seen in held_out.items()])
    assert found.scores["mean"] == pytest.approx((score_of(every, blocks, truth, [0, 1, 2])[0], honest), abs=1e-12)
    single = [
        max((score_of({name: 1}, blocks, truth, seen, fold) for name in "abc"), key=lambda score: score[0])[1]
        for fold, seen in held_out.items()
    ]
    alone = max(score_of({name: 1}, blocks, truth, [0, 1, 2])[0] for name in "abc")
    assert found.scores["single"] == pytest.approx((alone, np.mean(single)), abs=1e-12)
    last = [choice.path[-1] for choice in found.nested.values()]
    assert found.scores["chosen"].honest == pytest.approx(np.mean([step.held_out for step in last]), abs=1e-12)
    assert found.scores["chosen"].in_sample == found.chosen.path[-1].in_sample


def test_all_folds_choose_the_power_of_every_blend_and_the_honest_score_is_free_in_it(tmp_path):
    paths, members, _, _ = write_candidates(tmp_path)
    powers = [None, 0.3, 3.0]
    read = Candidates.read(paths, members, tmp_path / "truth.zarr")
    together, alone = choose(read, powers=powers), {power: choose(read, powers=[power]) for power in powers}
    free = {
        fold: max((alone[power].choice_for(fold) for power in powers), key=lambda choice: choice.path[-1].in_sample)
        for fold in (None, 0, 1)
    }
    assert together.chosen == free[None]
    assert together.nested == alone[free[None].power].nested
    held_out = [free[fold].path[-1].held_out for fold in (0, 1)]
    assert together.scores["chosen"].honest == pytest.approx(np.mean(held_out), abs=1e-12)


def test_the_choice_for_a_fold_does_not_depend_on_its_truth(tmp_path):
    paths, members, _, truth = write_candidates(tmp_path, folds=(0, 1, 2))
    before = select(paths, members, tmp_path / "truth.zarr", steps=4, powers=[0.5])
    write_truth(tmp_path / "other.zarr", truth | {1: 1 - truth[1]})
    after = select(paths, members, tmp_path / "other.zarr", steps=4, powers=[0.5])

    def looked_at(selection, fold):
        return [(step.candidate, step.in_sample) for step in selection.nested[fold].path]

    assert looked_at(before, 1) == looked_at(after, 1)
    assert looked_at(before, 0) != looked_at(after, 0)
    assert before.nested[1].path[0].held_out != after.nested[1].path[0].held_out


def test_the_first_of_identical_candidates_is_taken_and_adding_it_again_gains_nothing(tmp_path):
    paths, members, blocks, _ = write_candidates(tmp_path, candidates=2)
    for fold in (0, 1):
        ids = [f"{fold}_{image}.jpg" for image in range(3)]
        paths.append(write(tmp_path / f"twin{fold}.zarr", blocks["a", fold], ids, fold=[fold] * 3))
        members.append({"candidate": "twin", "store": f"twin{fold}", "fold": fold})
    found = select(paths, members, tmp_path / "truth.zarr", tolerance=0)
    assert not any("twin" in choice.counts for choice in (found.chosen, *found.nested.values()))
    only_twins = [number for number, member in enumerate(members) if member["candidate"] != "b"]
    alone = select(
        [paths[number] for number in only_twins],
        [members[number] for number in only_twins],
        tmp_path / "truth.zarr",
        tolerance=0,
    )
    assert [choice.counts for choice in (alone.chosen, *alone.nested.values())] == [{"a": 1}] * 3


def test_one_candidate_is_chosen_once_and_scores_as_the_mean_and_the_best_single_one_do(tmp_path):
    paths, members, _, _ = write_candidates(tmp_path, candidates=1)
    found = select(paths, members, tmp_path / "truth.zarr")
    assert found.chosen.counts == {"a": 1}
    assert found.scores["chosen"] == found.scores["mean"] == found.scores["single"]


def test_one_fold_has_no_honest_score(tmp_path):
    paths, members, _, _ = write_candidates(tmp_path, folds=(1,))
    found = select(paths, members, tmp_path / "truth.zarr")
    assert found.nested == {}
    assert [score.honest for score in found.scores.values()] == [None] * 3
    assert all(step.held_out is None for step in found.chosen.path)
    assert found.choice_for(1) == found.choice_for(None) == found.chosen


def test_only_folds_that_all_candidates_trained_count(tmp_path):
    paths, members, blocks, truth = write_candidates(tmp_path, folds=(0, 1, 2))
    kept = [number for number, member in enumerate(members) if (member["candidate"], member["fold"]) != ("b", 1)]
    found = select([paths[n] for n in kept], [members[n] for n in kept], tmp_path / "truth.zarr", steps=3, tolerance=0)
    assert list(found.nested) == [0, 2]
    assert_same_path(found.chosen, greedy_by_hand("abc", blocks, truth, [0, 2], steps=3, tolerance=0))


def random_candidates(seed, *, folds, classes, candidates, cells=8, empty=False):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 4, folds)
    covered = [(random.random((size, classes, cells)) < 0.4).astype(np.uint16) for size in sizes]
    if empty:
        covered = [np.zeros_like(each) for each in covered]
    return Candidates(
        [f"c{number}" for number in range(candidates)],
        list(range(folds)),
        1,
        [random.integers(0, 256, (size, classes, candidates, cells), dtype=np.uint8) for size in sizes],
        covered,
        np.ones(cells, np.int64),
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1e-9, 1e-4, 0.02])
)
def test_paths_of_random_planes_are_those_of_numpy(seed, folds, classes, candidates, tolerance):
    read = random_candidates(seed, folds=folds, classes=classes, candidates=candidates)
    blocks = {
        (name, fold): read.planes[fold][:, :, number, None]
        for number, name in enumerate(read.names)
        for fold in read.folds
    }
    truth = [each[:, :, None] for each in read.covered]
    found = choose(read, steps=4, tolerance=tolerance)
    wanted = greedy_by_hand(read.names, blocks, truth, read.folds, steps=4, tolerance=tolerance)
    # Two candidates may be equal but for the order in which folds were added: then either may come
    for step, (name, score, _) in zip(found.chosen.path, wanted, strict=False):
        assert step.in_sample == pytest.approx(score, abs=1e-12)
        if step.candidate != name:
            return
    assert len(found.chosen.path) == len(wanted)


def test_sixty_four_classes_are_searched_as_any(tmp_path):
    read = random_candidates(1, folds=2, classes=64, candidates=3, cells=12)
    blocks = {(name, fold): read.planes[fold][:, :, n, None] for n, name in enumerate(read.names) for fold in (0, 1)}
    truth = [each[:, :, None] for each in read.covered]
    found = choose(read, steps=4, tolerance=0)
    assert_same_path(found.chosen, greedy_by_hand(read.names, blocks, truth, [0, 1], steps=4, tolerance=0))


def test_an_empty_truth_scores_one_where_a_level_empties_every_plane_and_else_the_share_that_one_can():
    read = random_candidates(2, folds=1, classes=1, candidates=2, empty=True)
    [planes_of_fold] = read.planes
    planes_of_fold[planes_of_fold == 255] = 254
    assert choose(read).scores["chosen"] == Score(1.0, None)
    planes_of_fold[0] = 255
    assert choose(read).scores["chosen"].in_sample == pytest.approx(1 - 1 / len(planes_of_fold))


def test_planes_are_reduced_until_they_fit_and_not_further(tmp_path):
    paths, members, blocks, truth = write_candidates(tmp_path)
    exact = Candidates.read(paths, members, tmp_path / "truth.zarr")
    assert (exact.reduce, exact.planes[1].shape, int(exact.areas.sum())) == (1, (3, 2, 3, 600), 600)
    assert (exact.planes[1][:, :, 1] == blocks["b", 1].reshape(3, 2, 600)).all()
    assert (exact.covered[0] == truth[0].reshape(3, 2, 600)).all()
    small = Candidates.read(paths, members, tmp_path / "truth.zarr", memory=20_000)
    assert small.reduce == 2
    assert sum(each.nbytes for each in (*small.planes, *small.covered)) <= 20_000
    assert int(small.areas.sum()) == 600
    means = blocks["b", 1].reshape(3, 2, 10, 2, 15, 2).astype(int).sum(axis=(3, 5))
    assert (small.planes[1][:, :, 1, :150].reshape(3, 2, 10, 15) == (means + 2) // 4).all()
    assert Candidates.read(paths, members, tmp_path / "truth.zarr", reduce=5).reduce == 5


def test_what_does_not_fit_at_all_is_refused(tmp_path):
    paths, members, _, _ = write_candidates(tmp_path)
    with pytest.raises(ConfigError, match=r"expected the planes of 3 candidates on 6 images to fit in 100 bytes"):
        Candidates.read(paths, members, tmp_path / "truth.zarr", memory=100)
    for side in (0, 256):
        with pytest.raises(ConfigError, match=f"expected reduce from 1 to 255 pixels, got {side}"):
            Candidates.read(paths, members, tmp_path / "truth.zarr", reduce=side)


def test_candidates_without_a_common_fold_and_two_stores_of_one_are_refused(tmp_path):
    paths, members, _, _ = write_candidates(tmp_path)
    apart = [number for number, member in enumerate(members) if (member["candidate"] == "a") == (member["fold"] == 0)]
    with pytest.raises(ConfigError, match=r"got none in common \(a: 0; b: 1; c: 1\)"):
        select([paths[n] for n in apart], [members[n] for n in apart], tmp_path / "truth.zarr")
    with pytest.raises(ConfigError, match=r"one store per candidate and fold, got .*a0.zarr and .*b0.zarr for fold 0"):
        select(paths, [member | {"candidate": "a"} for member in members], tmp_path / "truth.zarr")


def test_stores_of_other_images_classes_or_sizes_are_named(tmp_path):
    paths, members, blocks, _ = write_candidates(tmp_path)
    ids = [f"0_{image}.jpg" for image in range(3)]
    bad = tmp_path / "bad.zarr"
    for block, attrs, message in (
        (blocks["b", 0], {"ids": ["0_0.jpg", "0_2.jpg", "0_1.jpg"]}, "holds other images than"),
        (blocks["b", 0], {"ids": ids, "classes": CLASSES[::-1]}, "expected the classes"),
        (blocks["b", 0][:, :, :-1], {"ids": ids}, r"got \['Fish', 'Flower'\] and \(2, 19, 30\)"),
    ):
        write(bad, np.ascontiguousarray(block), **attrs)
        with pytest.raises(StoreError, match=message):
            select([bad if path.name == "b0.zarr" else path for path in paths], members, tmp_path / "truth.zarr")
    write_truth(tmp_path / "short.zarr", {0: np.zeros((3, 2, *SIZE), np.uint8)})
    with pytest.raises(StoreError, match=r"has no truth for 1_0\.jpg"):
        select(paths, members, tmp_path / "short.zarr")


def test_the_chosen_blend_of_stores_is_the_blend_that_was_scored(tmp_path):
    paths, members, blocks, truth = write_candidates(tmp_path)
    found = select(paths, members, tmp_path / "truth.zarr", steps=4, tolerance=0)
    options = {"classes": CLASSES, "size": SIZE, "allow_squeezed": True}
    blend_stores(*found.blended(paths, members, "valid"), tmp_path / "valid.zarr", folds=[0, 1], **options)
    block = read_images(tmp_path / "valid.zarr", slice(0, 6))
    for fold, rows in {0: block[:3], 1: block[3:]}.items():
        counts = found.nested[fold].counts
        chosen = [blocks[name, fold] for name in counts]
        assert (rows == rounded_mean(chosen, list(counts.values()))).all()
        levels = dice(rounded_mean([blocks[n, 1 - fold] for n in counts], list(counts.values())), truth[1 - fold])
        at = dice(rows, truth[fold])[range(2), levels.argmax(axis=1)].mean()
        assert found.nested[fold].path[-1].held_out == pytest.approx(at, abs=1e-12)
    _, test_members = found.blended(paths, members, "test")
    assert Counter({name: found.chosen.counts[name] for name in found.chosen.counts}) == Counter(
        {name: sum(m["weight"] for m in test_members if m["store"][0] == name) for name in found.chosen.counts}
    )
    assert len({m["weight"] for m in test_members if m["store"][0] == test_members[0]["store"][0]}) == 1


def selection():
    steps = Step("a", 0.5, None), Step("b", 0.1 + 0.2, None), Step("a", 2 / 3, None)
    nested = {0: Choice(0.5, (Step("b", 0.5, 0.25),)), 3: Choice(None, (Step("a", 0.5, 0.75), Step("a", 0.6, 1 / 3)))}
    scores = {"chosen": Score(2 / 3, 0.6), "mean": Score(0.1, 0.2), "single": Score(0.5, 0.4)}
    return Selection(("a", "b", "c"), 7, 2, Choice(None, steps), nested, scores)


def test_a_selection_is_read_back_as_it_was(tmp_path):
    path = tmp_path / "selection.yaml"
    path.write_text(yaml.safe_dump(selection().plain(), sort_keys=False))
    assert Selection.read(path, ["a", "b", "c"]) == selection()


def test_a_damaged_selection_is_named(tmp_path):
    path = tmp_path / "selection.yaml"
    whole = yaml.safe_dump(selection().plain(), sort_keys=False)
    lines = whole.splitlines(keepends=True)
    cut = ["".join(lines[:number]) for number in range(len(lines) - 1)]
    other = [whole.replace("    a: 2\n", "    a: 3\n"), whole.replace("images: 7", "images: x"), "- 1\n", "a: [\n"]
    for text in (*cut, whole[:-1], *other):
        path.write_text(text)
        with pytest.raises(DamagedFileError, match=r"selection\.yaml"):
            Selection.read(path, ["a", "b", "c"])
    path.write_text(whole)
    with pytest.raises(DamagedFileError, match="expected a choice from a, b, got a, b, c"):
        Selection.read(path, ["a", "b"])


def test_the_table_of_paths_has_a_row_per_step():
    table = selection().table()
    assert table["chosen_without"].isna().tolist() == [True] * 3 + [False] * 3
    assert table["step"].tolist() == [1, 2, 3, 1, 1, 2]
    assert table["candidate"].tolist() == ["a", "b", "a", "b", "a", "a"]
    assert table["held_out"].dropna().tolist() == [0.25, 0.75, 1 / 3]
