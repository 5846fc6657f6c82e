"""The model as a front for the emulator: SQL is run by the emulator, under the limits, times and faults of the model."""
import pytest

from support.bigquery import BigQueryError
from support.fleet import assert_target, batch, create_target, expected, handler_body, make_items, no_shards_left, summary


@pytest.fixture
def front(bqmodel, emulator):
    return lambda *flags: bqmodel("--front", f"http://{emulator.address}", *flags)


def spec_of(scene, items, **parts):
    return batch(scene, items, handlers={"work": {"exec": scene.handler(handler_body()), "window": 8}}, **parts)


def test_a_batch_is_merged_by_the_emulator_through_limits_and_faults(make_scene, front, emulator):
    bq = front("--limits", "--load-ms", "200", "--dml-ms", "200")
    scene = make_scene(bq)
    items = make_items(200)
    create_target(scene, expected(items[:50], version=0))
    bq.chaos(all=0.04, seed=5, slow_ms=20, long_ms=100)
    done = scene.bqfleet("run", spec_of(scene, items), "--output", "json", timeout=240)
    struck = bq.counters()
    bq.chaos()
    assert done.code == 0, done
    assert (summary(done)["updated"], summary(done)["inserted"]) == (100, 300)
    assert_target(scene, expected(items))
    no_shards_left(scene)
    assert sum(struck["chaos"].values()) > 0
    assert struck["merges"] >= 1
    # It is the emulator that has the rows.
    bq.address, there = emulator.address, bq.address
    assert_target(scene, expected(items))
    bq.address = there


def test_what_the_emulator_lets_through_the_front_does_not(make_scene, front):
    bq = front("--location", "EU")
    scene = make_scene(bq)
    create_target(scene, expected(make_items(1)))
    job = {"jobReference": {"projectId": "local", "jobId": "once", "location": "EU"},
           "configuration": {"query": {"query": f"SELECT k, v FROM `local.{scene.table('target')}` WHERE part = 1", "useLegacySql": False}}}
    assert bq.call("POST", "/jobs", job)["status"]["state"] == "PENDING"
    with pytest.raises(BigQueryError) as caught:
        bq.call("POST", "/jobs", job)
    assert caught.value.status == 409 and "Already Exists: Job local:EU.once" in str(caught.value)
    with pytest.raises(BigQueryError) as caught:
        bq.call("GET", "/jobs/once")
    assert caught.value.status == 404  # its location was not named
    found = bq.call("GET", "/queries/once?location=EU&timeoutMs=20000")
    assert [[cell["v"] for cell in row["f"]] for row in found["rows"]] == [["item-000000", "1"]]
    bad = {**job, "jobReference": {**job["jobReference"], "jobId": "bad"}, "configuration": {"query": {"query": "SELECT nothing FROM nowhere", "useLegacySql": False}}}
    bq.call("POST", "/jobs", bad)
    with pytest.raises(BigQueryError) as caught:
        bq.call("GET", "/queries/bad?location=EU&timeoutMs=20000")
    assert 400 <= caught.value.status < 500
    assert bq.counters()["failed"] == 1


def test_statements_wait_for_their_table_and_the_23rd_is_refused(make_scene, front):
    bq = front("--dml-ms", "100", "--pending-ms", "0")
    scene = make_scene(bq)
    create_target(scene, expected(make_items(1)))
    sql = f"UPDATE `local.{scene.table('target')}` SET v = v + 1 WHERE part = 0"
    states = []
    for n in range(23):
        job = {"jobReference": {"projectId": "local", "jobId": f"u{n}"},
               "configuration": {"query": {"query": sql, "useLegacySql": False}}}
        states.append(bq.call("POST", "/jobs", job)["status"])
    assert "Too many DML statements outstanding" in str(states[22])
    assert all("errorResult" not in s for s in states[:22])
    for n in range(22):
        assert bq.finish(bq.job(f"u{n}"))["statistics"]["query"]["numDmlAffectedRows"] == "1"
    assert [row["v"] for row in bq.rows(scene.table("target"), order=["part"])] == [22, 1]
    assert bq.counters()["dml_at_once"] == 2
