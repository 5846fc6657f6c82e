"""The case that bqfleet was made for, for each way of writing, and the naive one that loses rows."""
import pytest

from support import the_case
from support.fleet import batch, create_target, expected, jobs_of, make_items, no_shards_left

WRITTEN_AT_ONCE = ("staging merge", "staging append", "staging replace", "staging replace-partitions", "worker-tables merge", "worker-tables append")


@pytest.mark.parametrize("strategy", the_case.STRATEGIES)
def test_158_items_lose_nothing_and_nothing_is_refused(make_scene, bqmodel, broker, strategy):
    scene = make_scene(bqmodel(*the_case.MODEL), broker.address)
    the_case.prepare(scene, strategy)
    told = the_case.run(scene, strategy)
    print(strategy, told)
    assert told["lost"] == 0
    assert told["rejected"] == told["limited"] == 0
    assert told["told"]["failed"] == 0
    assert told["loads"] <= 3 * the_case.WORKERS + 2  # and the rows of permits
    assert told["cuts"] <= 1
    assert told["dml"] <= 2 * the_case.WORKERS + 1
    if strategy in WRITTEN_AT_ONCE:
        assert told["dml"] == told["cuts"] == 1
    no_shards_left(scene)


def test_the_naive_way_loses_most_of_them(make_scene, bqmodel):
    told = the_case.naive(make_scene(bqmodel(*the_case.MODEL)))
    print(told)
    assert told["dml"] == the_case.ITEMS
    assert told["lost"] >= the_case.ITEMS * the_case.ROWS // 2
    assert told["rejected"] > 0
    assert any("Too many DML statements outstanding" in error for error in told["told"]["errors"])
