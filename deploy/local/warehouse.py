#!/usr/bin/env python3
"""The example's table in the emulator, through BigQuery's REST API.

warehouse.py ADDRESS create ITEMS.ndjson   the dataset, and the table with an earlier projection for the first 300 players
warehouse.py ADDRESS show                  how many rows the run updated and inserted, and a few of them
"""
import json
import sys
import urllib.error
import urllib.request

import project

PROJECT, DATASET, TABLE = "local", "baseball", "player_projections"
SEASON = 2025
EARLIER = {"players": 300, "through": 2023, "created_at": "2024-07-01T00:00:00Z"}
REQUIRED = {"player_id": "STRING", "season": "INT64", "system": "STRING", "created_at": "TIMESTAMP"}
COLUMNS = {
    **REQUIRED, "name": "STRING", "age": "INT64", "data_through": "INT64", "reliability": "FLOAT64",
    **{name: "FLOAT64" for name in ("pa", *project.COUNTS, "avg", "obp", "slg")},
}


def call(address, path, body=None, kind="application/json"):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.code} {error.read(2000).decode(errors='replace')}")


def query(address, text):
    done = call(address, f"/bigquery/v2/projects/{PROJECT}/queries",
                {"query": text, "useLegacySql": False, "timeoutMs": 60000})
    return [[cell["v"] for cell in row["f"]] for row in done.get("rows", [])]


def earlier_rows(items):
    """What was projected for the same season half a season before: from the data there was then."""
    hello = {"params": {"season": SEASON, "created_at": EARLIER["created_at"]}}
    with open(items, encoding="utf-8") as lines:
        for line, _ in zip(lines, range(EARLIER["players"])):
            payload = json.loads(line)
            payload["through"] = EARLIER["through"]
            payload["seasons"] = [s for s in payload["seasons"] if s["year"] <= EARLIER["through"]]
            yield from project.rows_of({"key": payload["player_id"], "payload": payload}, hello)


def create(address, items):
    datasets = f"/bigquery/v2/projects/{PROJECT}/datasets"
    call(address, datasets, {"datasetReference": {"projectId": PROJECT, "datasetId": DATASET}})
    reference = {"projectId": PROJECT, "datasetId": DATASET, "tableId": TABLE}
    fields = [{"name": n, "type": t, "mode": "REQUIRED" if n in REQUIRED else "NULLABLE"} for n, t in COLUMNS.items()]
    call(address, f"{datasets}/{DATASET}/tables", {"tableReference": reference, "schema": {"fields": fields}})
    rows = list(earlier_rows(items))
    load = {"configuration": {"load": {
        "destinationTable": reference, "sourceFormat": "NEWLINE_DELIMITED_JSON", "writeDisposition": "WRITE_APPEND",
        "schema": {"fields": fields}}}}
    parts = (("application/json", json.dumps(load)), ("application/octet-stream", "\n".join(map(json.dumps, rows))))
    body = "".join(f"--part\r\nContent-Type: {kind}\r\n\r\n{text}\r\n" for kind, text in parts) + "--part--\r\n"
    job = call(address, f"/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=multipart", body.encode(),
               "multipart/related; boundary=part")
    path = f"/bigquery/v2/projects/{PROJECT}/queries/{job['jobReference']['jobId']}?timeoutMs=10000&maxResults=0"
    while job["status"]["state"] != "DONE":
        call(address, path)
        job = call(address, f"/bigquery/v2/projects/{PROJECT}/jobs/{job['jobReference']['jobId']}")
    if "errorResult" in job["status"]:
        sys.exit(f"loading the earlier projection failed: {job['status']['errorResult']}")
    print(f"{DATASET}.{TABLE}: {len(rows)} rows of an earlier projection, made from the data through {EARLIER['through']}")


def show(address):
    table = f"`{PROJECT}.{DATASET}.{TABLE}`"
    inserted, updated, left = query(address, f"""
        SELECT COUNTIF(NOT early), COUNTIF(early AND data_through > {EARLIER['through']}),
               COUNTIF(early AND data_through = {EARLIER['through']})
        FROM (SELECT data_through, created_at = TIMESTAMP '{EARLIER['created_at']}' AS early FROM {table})""")[0]
    print(f"{DATASET}.{TABLE}: {inserted} rows inserted, {updated} updated, {left} of the earlier projection left as they were")
    names = ("name", "system", "age", "pa", "hr", "avg", "obp", "slg", "data_through")
    rows = query(address, f"""
        SELECT name, system, age, ROUND(pa), ROUND(hr, 1), ROUND(avg, 3), ROUND(obp, 3), ROUND(slg, 3), data_through
        FROM {table}
        WHERE player_id IN (SELECT player_id FROM {table} WHERE system = 'marcel' ORDER BY hr DESC, player_id LIMIT 3)
        ORDER BY name, system""")
    for row in [names, *rows]:
        print("  {:<20} {:<9} {:>4} {:>6} {:>5} {:>6} {:>6} {:>6} {:>13}".format(*("" if cell is None else cell for cell in row)))


if __name__ == "__main__":
    {"create": create, "show": show}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
