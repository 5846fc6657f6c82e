"""naive.py ADDRESS DATASET ITEMS ROWS WORKERS WORK_S: the way that loses rows. Each item is its own load into a staging table of its own and its own MERGE into
DATASET.target, by WORKERS threads at once, without permits and without retries. Prints {"written": items, "lost": items, "errors": {text: count}}."""
import collections
import concurrent.futures
import json
import sys
import time
import urllib.error
import urllib.request
import uuid

ADDRESS, DATASET, ITEMS, ROWS, WORKERS, WORK_S = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6])
COLUMNS = [("k", "STRING"), ("part", "INT64"), ("v", "INT64"), ("note", "STRING"), ("version", "INT64")]
STAGED = COLUMNS + [("bqfleet_item", "INT64"), ("bqfleet_row", "INT64"), ("bqfleet_load", "STRING")]


def quoted(prefix, columns=COLUMNS):
    return ", ".join(f"{prefix}`{name}`" for name, _ in columns)


# The shape of statement that the model of BigQuery knows; what counts here is only that there is one for each item.
MERGE = f"""MERGE INTO `local`.`{DATASET}`.`target` AS bqfleet_t
USING (
  WITH
    bqfleet_loads AS (SELECT L.load, L.rows AS wanted FROM UNNEST(@loads) AS L),
    bqfleet_staged AS (
      SELECT {quoted("")}, bqfleet_item, bqfleet_row, bqfleet_load FROM `local`.`{DATASET}`.`STAGING`
    ),
    bqfleet_found AS (SELECT bqfleet_load AS load, COUNT(*) AS found FROM bqfleet_staged GROUP BY bqfleet_load),
    bqfleet_rows AS (
      SELECT bqfleet_r.*, ROW_NUMBER() OVER (PARTITION BY bqfleet_r.`k`, bqfleet_r.`part` ORDER BY bqfleet_r.bqfleet_item DESC, bqfleet_r.bqfleet_row DESC) AS bqfleet_rank
      FROM bqfleet_staged AS bqfleet_r
      WHERE bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)
    )
  SELECT {quoted("bqfleet_r.")}
  FROM bqfleet_rows AS bqfleet_r WHERE bqfleet_r.bqfleet_rank = 1
  UNION ALL
  SELECT {", ".join(f"CAST(NULL AS {kind})" for _, kind in COLUMNS)}
  FROM bqfleet_loads AS L LEFT JOIN bqfleet_found AS F ON F.load = L.load
  WHERE IF(IFNULL(F.found, 0) = L.wanted, FALSE, ERROR(CONCAT('bqfleet: load ', L.load, ' has ', CAST(IFNULL(F.found, 0) AS STRING), ' staged rows instead of ', CAST(L.wanted AS STRING))))
) AS bqfleet_s
ON bqfleet_t.`k` = bqfleet_s.`k` AND bqfleet_t.`part` = bqfleet_s.`part`
WHEN MATCHED THEN
  UPDATE SET {", ".join(f"`{name}` = bqfleet_s.`{name}`" for name, _ in COLUMNS[2:])}
WHEN NOT MATCHED THEN
  INSERT ({quoted("")})
  VALUES ({quoted("bqfleet_s.")})"""


def call(method, path, body=None, kind="application/json", prefix="/bigquery/v2"):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}{prefix}/projects/local{path}", data, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.loads(reply.read())


def finished(job):
    """Waits for it; raises what it failed with."""
    name = job["jobReference"]["jobId"]
    while job["status"]["state"] != "DONE":
        time.sleep(0.2)
        job = call("GET", f"/jobs/{name}?location=US")
    if "errorResult" in job["status"]:
        raise RuntimeError(job["status"]["errorResult"]["message"])


def reference(kind):
    return {"projectId": "local", "jobId": f"naive_{kind}_{uuid.uuid4().hex}", "location": "US"}


def load(table, rows):
    configuration = {"load": {"destinationTable": {"projectId": "local", "datasetId": DATASET, "tableId": table}, "sourceFormat": "NEWLINE_DELIMITED_JSON",
                              "writeDisposition": "WRITE_APPEND", "createDisposition": "CREATE_NEVER"}}
    head = json.dumps({"jobReference": reference("load"), "configuration": configuration})
    data = "".join(json.dumps(row) + "\n" for row in rows)
    body = (f"--b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{head}\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n{data}\r\n--b--\r\n")
    finished(call("POST", "/jobs?uploadType=multipart", body.encode(), "multipart/related; boundary=b", "/upload/bigquery/v2"))


def merge(table, load_id):
    struct = {"load": {"value": load_id}, "rows": {"value": str(ROWS)}}
    kinds = [{"name": "load", "type": {"type": "STRING"}}, {"name": "rows", "type": {"type": "INT64"}}]
    parameter = {"name": "loads", "parameterType": {"type": "ARRAY", "arrayType": {"type": "STRUCT", "structTypes": kinds}},
                 "parameterValue": {"arrayValues": [{"structValues": struct}]}}
    query = {"query": MERGE.replace("STAGING", table), "useLegacySql": False, "parameterMode": "NAMED", "queryParameters": [parameter]}
    finished(call("POST", "/jobs", {"jobReference": reference("merge"), "configuration": {"query": query}}))


def work(n):
    """One item: None, or what it failed with."""
    key, table = f"item-{n:06d}", f"staging_{n}"
    try:
        time.sleep(WORK_S)
        fields = [{"name": name, "type": kind} for name, kind in STAGED]
        call("POST", f"/datasets/{DATASET}/tables", {"tableReference": {"projectId": "local", "datasetId": DATASET, "tableId": table},
                                                     "schema": {"fields": fields}})
        load(table, [{"k": key, "part": p, "v": n * 10 + p, "note": f"{key}/{p}", "version": 1, "bqfleet_item": n, "bqfleet_row": p, "bqfleet_load": key}
                     for p in range(ROWS)])
        merge(table, key)
        return None
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]["message"]
    except (OSError, RuntimeError) as error:
        return str(error)


with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
    errors = [error for error in pool.map(work, range(ITEMS)) if error]
print(json.dumps({"written": ITEMS - len(errors), "lost": len(errors), "errors": collections.Counter(errors)}))
