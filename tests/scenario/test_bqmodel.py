"""The model of BigQuery as a server: what scenarios rely on when they use it in the emulator's place."""
import http.client

import pytest

from support.bigquery import BigQueryError, columns

ROW = {"id": 1, "x": 2.5, "tags": ["a", "b"]}


def test_rows_go_in_by_loads_and_come_out_by_lists(bqmodel):
    bq = bqmodel("--load-ms", "50")
    bq.create_dataset("ds")
    bq.create_table("ds.t", columns("id INT64 REQUIRED", "x FLOAT64", "tags STRING REPEATED"), [ROW, {"id": 2}])
    assert bq.rows("ds.t", order=["id"]) == [ROW, {"id": 2, "x": None, "tags": []}]
    assert bq.control("GET", "rows?table=ds.t")[0] == ROW
    counters = bq.counters()
    assert (counters["loads"], counters["failed"], counters["unknown_statement"]) == (1, 0, None)
    assert [(job["kind"], job["state"]) for job in counters["jobs"]] == [("LOAD", "DONE")]
    with pytest.raises(AssertionError, match="JSON table encountered too many errors"):
        bq.load("ds.t", [{"id": 3}, {"id": "x"}])
    assert len(bq.rows("ds.t")) == 2
    bq.expire("ds.t")
    assert bq.get_table("ds.t") is None


def test_flags_set_up_tables_location_and_faults(bqmodel, folder):
    (folder / "schema.json").write_text('{"fields": [{"name": "k", "type": "STRING"}]}')
    bq = bqmodel("--location", "EU", "--table", f"local.ds.t={folder / 'schema.json'}", "--fault", '{"match": "tables/t", "kind": "status"}')
    with pytest.raises(BigQueryError) as caught:
        bq.get_table("ds.t")
    assert caught.value.status == 503
    assert bq.get_table("ds.t")["location"] == "EU"
    bq.load("ds.t", [{"k": "a"}])
    assert bq.job(bq.counters()["jobs"][0]["id"]) is None  # its location was not named
    bq.fault("GET", "drop_before", times=-1)
    with pytest.raises(http.client.IncompleteRead):  # the connection drops
        bq.get_table("ds.t")
    bq.clear_faults()
    assert bq.get_table("ds.t")["numRows"] == "1"
    bq.program.terminate()
    assert bq.program.wait(10).code == 0


def test_a_statement_of_another_shape_is_told(bqmodel):
    bq = bqmodel()
    job = bq.call("POST", "/jobs", {"configuration": {"query": {"query": "SELECT 1", "useLegacySql": False}}})
    with pytest.raises(AssertionError, match="does not know this statement"):
        bq.finish(job)
    assert bq.counters()["unknown_statement"] == "<<<HERE>>>SELECT 1"
    assert "unknown statement: <<<HERE>>>SELECT 1" in bq.program.err
