"""Every statement of the golden corpus, as the product writes it, run by the emulator: what it says of a text is the emulator's own word.

The tables are those of the corpus's catalog, empty; parameters are empty lists and NULLs of their types. A statement either runs, or ends with an ERROR() that is
part of it ("bqfleet: ..."): both show that every name, type and function of it was understood.
"""
import json
import pathlib
import re
import uuid

import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "sql"
PROJECT = "my-project"
OUR_ERRORS = re.compile(r"bqfleet: ")
# What the emulator's translation does not know, with what it says; Google's analyzer takes these.
BEYOND_EMULATOR = {
    **dict.fromkeys(("merge_exotic", "append_exotic", "replace_exotic", "fold_exotic", "compact_exotic", "dedupe_exotic"), "Parameterized types"),  # RANGE<DATE>
    "group_join": "must appear in the GROUP BY clause",  # an alias of an aggregate in ORDER BY
    "group_params": "Unrecognized name: item",  # UNNEST of structs without an alias
}

STRUCT = re.compile(r"^ARRAY<STRUCT<(.*)>>$")
FIELD = re.compile(r"`(\w+)` (\w+)")


def parameter(name, kind):
    inner = STRUCT.match(kind)
    if inner:
        fields = [{"name": field, "type": {"type": of}} for field, of in FIELD.findall(inner[1])]
        return {"name": name, "parameterType": {"type": "ARRAY", "arrayType": {"type": "STRUCT", "structTypes": fields}},
                "parameterValue": {"arrayValues": []}}
    if kind.startswith("ARRAY<"):
        return {"name": name, "parameterType": {"type": "ARRAY", "arrayType": {"type": kind[6:-1]}}, "parameterValue": {"arrayValues": []}}
    return {"name": name, "parameterType": {"type": kind}, "parameterValue": {"value": None}}


def texts():
    for file in sorted(GOLDEN.glob("*.ndjson")):
        for line in file.read_text().splitlines():
            text = json.loads(line)
            if text.get("want", True):
                yield text


def prepare(emulator):
    """The catalog's tables in datasets of this session's own; what a text has to say instead of the catalog's names."""
    mark = uuid.uuid4().hex[:8]
    datasets = set()
    for table in json.loads((GOLDEN / "catalog.json").read_text()):
        project, dataset, name = table["table"].split(".")
        assert project == PROJECT
        if dataset not in datasets:
            emulator.create_dataset(f"{dataset}_{mark}")
            datasets.add(dataset)
        emulator.create_table(f"{dataset}_{mark}.{name}", table["columns"])
    return {f"`{PROJECT}`.`{dataset}`": f"`{emulator.project}`.`{dataset}_{mark}`" for dataset in datasets}


def failure(emulator, text, names):
    sql = text["sql"]
    for old, new in names.items():
        sql = sql.replace(old, new)
    assert PROJECT not in sql, text["id"]
    query = {"query": sql, "useLegacySql": False, "parameterMode": "NAMED",
             "queryParameters": [parameter(*item) for item in text.get("params", {}).items()]}
    job = emulator.call("POST", "/jobs", {"jobReference": {"projectId": emulator.project, "jobId": f"corpus_{uuid.uuid4().hex}"},
                                          "configuration": {"query": query}})
    while job["status"]["state"] != "DONE":
        job = emulator.call("GET", f"/jobs/{job['jobReference']['jobId']}")
    said = (job["status"].get("errorResult") or {}).get("message", "")
    meant = OUR_ERRORS.search(said) or sql.startswith("SELECT ERROR(")
    return None if meant else said or None


@pytest.fixture(scope="module")
def names(emulator):
    return prepare(emulator)


@pytest.mark.parametrize("text", [pytest.param(text, id=text["id"]) for text in texts()])
def test_the_emulator_runs_it(emulator, names, text):
    said = failure(emulator, text, names)
    if text["id"] in BEYOND_EMULATOR:
        assert said and BEYOND_EMULATOR[text["id"]] in said, f"the emulator knows it now, or fails in another way: {said}"
        pytest.skip("the emulator does not know it")
    assert said is None, said
