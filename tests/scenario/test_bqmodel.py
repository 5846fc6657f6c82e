"""The model of BigQuery as a server: what scenarios rely on when they use it in the emulator's place."""
import http.client
import subprocess
import sys

import pytest

from support.bigquery import BigQueryError, columns
from support.scene import BUILD, ROOT

DOCUMENT = BUILD / "discovery/bigquery.v2.json"

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


def test_a_request_that_bigquery_does_not_have_is_told(bqmodel):
    bq = bqmodel()
    bq.forgiven = True
    bq.create_dataset("ds")
    bq.create_table("ds.t", columns("id INT64"))
    bq.call("GET", "/datasets/ds/tables/t?view=BASIC")
    assert bq.counters()["violation"] is None
    bq.call("GET", "/datasets/ds/tables/t?look=BASIC")
    assert bq.counters()["violation"] == "tables.get: BigQuery knows no query parameter look"
    assert "bqmodel: violation: tables.get: BigQuery knows no query parameter look" in bq.program.err
    bq.program.terminate()
    assert bq.program.wait(10).code == 1


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the document is not here; tests/run fetches it")
def test_requests_are_validated_by_what_bigquerys_discovery_document_says():
    done = subprocess.run([sys.executable, "-B", ROOT / "tests/bq/discovery.py", "check", DOCUMENT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_statement_of_another_shape_is_told(bqmodel):
    bq = bqmodel()
    job = bq.call("POST", "/jobs", {"configuration": {"query": {"query": "CALL ds.p()", "useLegacySql": False}}})
    with pytest.raises(AssertionError, match="does not know this statement"):
        bq.finish(job)
    assert bq.counters()["unknown_statement"] == "<<<HERE>>>CALL ds.p()"
    assert "unknown statement: <<<HERE>>>CALL ds.p()" in bq.program.err


def test_chaos_by_seed_is_set_by_a_flag_and_switched_off_and_on(bqmodel):
    bq = bqmodel("--dataset", "ds", "--chaos", "5xx_html=0.3,cut_reply=0.3,slow_ms=1", "--seed", "4")

    def asked(times):
        """How often one was struck: by a status, and by an answer that ended too soon."""
        failed = cut = 0
        for _ in range(times):
            try:
                bq.call("GET", "/datasets/ds")
            except BigQueryError as error:
                assert error.status >= 400
                failed += 1
            except (http.client.HTTPException, ValueError):
                cut += 1
        return failed, cut

    failed, cut = asked(60)
    assert 5 < failed < 40 and 5 < cut < 40
    chaos = bq.counters()["chaos"]
    assert (chaos["5xx_html"], chaos["cut_reply"], sum(chaos.values())) == (failed, cut, failed + cut)
    bq.chaos()
    assert asked(60) == (0, 0)
    bq.chaos(all=0.05, seed=2, slow_ms=1)
    asked(60)
    assert sum(bq.counters()["chaos"].values()) > failed + cut
