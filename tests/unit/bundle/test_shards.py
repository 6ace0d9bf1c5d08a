"""Shards of a folder: no image is lost, and a new one changes no other shard."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.bundle.shards import cut_into_shards, in_shard

NAMES = st.sets(st.text(min_size=1, max_size=8), max_size=60)


@given(NAMES, st.integers(1, 9))
@settings(deadline=None)
def test_each_image_is_in_one_shard_that_is_small(names, most):
    shards = cut_into_shards(names, most)
    assert sorted(name for shard in shards.values() for name in shard) == sorted(names)
    assert all(0 < len(shard) <= most for shard in shards.values())
    for shard, own in shards.items():
        assert sorted(name for name in names if in_shard(name, shard)) == own


@given(NAMES, st.text(min_size=1, max_size=8), st.integers(1, 9))
@settings(deadline=None)
def test_one_more_image_changes_its_own_shard_alone(names, new, most):
    before, after = cut_into_shards(names - {new}, most), cut_into_shards(names | {new}, most)
    others = {shard: own for shard, own in before.items() if not in_shard(new, shard)}
    assert others.items() <= after.items()
    assert len(before) - len(others) <= 1


def test_shards_do_not_depend_on_the_order_of_the_names():
    names = [f"scene {number}.png" for number in range(1000)]
    assert cut_into_shards(names, 64) == cut_into_shards(reversed(names), 64)
