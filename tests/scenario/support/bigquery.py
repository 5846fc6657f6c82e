"""A small client of BigQuery's REST API, for what tests set up and compare. Speaks to the emulator and to the model alike."""
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

CONVERT = {"INTEGER": int, "INT64": int, "FLOAT": float, "FLOAT64": float, "BOOLEAN": lambda v: v == "true", "BOOL": lambda v: v == "true"}


class BigQueryError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:2000]}")
        self.status = status


def columns(*specs):
    """columns("id INT64 REQUIRED", "tags STRING REPEATED", "x FLOAT64"): a REST schema's fields."""
    fields = []
    for spec in specs:
        name, kind, *mode = spec.split()
        fields.append({"name": name, "type": kind, "mode": mode[0] if mode else "NULLABLE"})
    return fields


def value(field, cell):
    if field.get("mode") == "REPEATED":
        return [value({**field, "mode": "NULLABLE"}, item["v"]) for item in cell or []]
    if cell is None:
        return None
    if field["type"] in ("RECORD", "STRUCT"):
        return record(field["fields"], cell)
    return CONVERT.get(field["type"], str)(cell)


def record(fields, row):
    return {field["name"]: value(field, cell["v"]) for field, cell in zip(fields, row["f"])}


class BigQuery:
    def __init__(self, address, project="local"):
        self.address, self.project = address, project

    def call(self, method, path, body=None, kind="application/json", prefix="/bigquery/v2"):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{prefix}/projects/{self.project}{path}", data, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise BigQueryError(error.code, error.read().decode(errors="replace")) from None
        return json.loads(text) if text else None

    def create_dataset(self, dataset):
        self.call("POST", "/datasets", {"datasetReference": {"projectId": self.project, "datasetId": dataset}})

    def reference(self, table):
        dataset, name = table.split(".")
        return {"projectId": self.project, "datasetId": dataset, "tableId": name}

    def create_table(self, table, fields, rows=(), **properties):
        """table: "dataset.name"; fields: from columns(); properties: timePartitioning and the like."""
        body = {"tableReference": self.reference(table), "schema": {"fields": fields}, **properties}
        self.call("POST", f"/datasets/{table.split('.')[0]}/tables", body)
        if rows:
            self.load(table, rows)

    def get_table(self, table):
        """Its description, or None when it does not exist."""
        dataset, name = table.split(".")
        try:
            return self.call("GET", f"/datasets/{dataset}/tables/{name}")
        except BigQueryError as error:
            if error.status == 404:
                return None
            raise

    def delete_table(self, table):
        dataset, name = table.split(".")
        self.call("DELETE", f"/datasets/{dataset}/tables/{name}")

    def tables(self, dataset):
        listed = self.call("GET", f"/datasets/{dataset}/tables?maxResults=1000") or {}
        return sorted(t["tableReference"]["tableId"] for t in listed.get("tables", []))

    def rows(self, table, order=None):
        """All rows as dictionaries, by tabledata.list; order: the names of columns to sort by."""
        dataset, name = table.split(".")
        fields, found, token = self.get_table(table)["schema"]["fields"], [], None
        while True:
            after = f"&pageToken={urllib.parse.quote(token)}" if token else ""
            page = self.call("GET", f"/datasets/{dataset}/tables/{name}/data?maxResults=10000{after}")
            found += [record(fields, row) for row in page.get("rows") or []]
            token = page.get("pageToken")
            if not token:
                break
        return sorted(found, key=lambda row: [(row[c] is None, row[c]) for c in order]) if order else found

    def load(self, table, rows):
        """Appends rows by one load job, as the product does it; waits for its end."""
        job = {"jobReference": {"projectId": self.project, "jobId": f"test_{uuid.uuid4().hex}"},
               "configuration": {"load": {"destinationTable": self.reference(table), "sourceFormat": "NEWLINE_DELIMITED_JSON",
                                          "writeDisposition": "WRITE_APPEND", "createDisposition": "CREATE_NEVER",
                                          "schema": self.get_table(table)["schema"]}}}
        parts = (("application/json", json.dumps(job)), ("application/octet-stream", "".join(json.dumps(r) + "\n" for r in rows)))
        body = "".join(f"--part\r\nContent-Type: {kind}\r\n\r\n{text}\r\n" for kind, text in parts) + "--part--\r\n"
        self.finish(self.call("POST", "/jobs?uploadType=multipart", body.encode(), "multipart/related; boundary=part",
                              prefix="/upload/bigquery/v2"))

    def finish(self, job):
        reference = job["jobReference"]
        where = f"?location={reference['location']}" if reference.get("location") else ""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if job["status"]["state"] == "DONE":
                assert "errorResult" not in job["status"] or not job["status"]["errorResult"], job["status"]
                return job
            time.sleep(0.01)  # between looks, so that the server has the processor
            job = self.call("GET", f"/jobs/{reference['jobId']}{where}")
        raise AssertionError(f"job {reference['jobId']} is still {job['status']['state']}")

    def job(self, job_id):
        """A job by its id, or None."""
        try:
            return self.call("GET", f"/jobs/{job_id}")
        except BigQueryError as error:
            if error.status == 404:
                return None
            raise

    def jobs(self, prefix="bqfleet_"):
        """The jobs whose id begins so, in no order."""
        listed = self.call("GET", "/jobs?projection=full&maxResults=1000&allUsers=true") or {}
        return [j for j in listed.get("jobs") or [] if j["jobReference"]["jobId"].startswith(prefix)]

    # -- only the model has these

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"http://{self.address}/control/{path}", data, method=method), timeout=60) as reply:
            return json.loads(reply.read())

    def fault(self, match, kind, **more):
        """fault("POST /upload", "lose_reply", times=2): see struct bqmodel_fault in tests/bq/bqmodel.h."""
        self.control("POST", "fault", {"match": match, "kind": kind, **more})

    def clear_faults(self):
        self.control("POST", "clear-faults", {})

    def chaos(self, **rates):
        """chaos(all=0.05, seed=3): faults by seed, see bqmodel_chaos_doc in tests/bq/bqmodel.h; chaos(): no more of them."""
        self.control("POST", "chaos", rates)

    def counters(self):
        """Counts of requests and jobs, the jobs, and the first statement the product should not have sent (or None)."""
        return self.control("GET", "counters")

    def expire(self, table):
        """The table's time is over now."""
        self.control("POST", f"expire?table={urllib.parse.quote(table)}", {})
