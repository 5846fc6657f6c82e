"""What `bqfleet doctor` says of a place where something is wrong, and of one where all is well."""
import datetime
import email.utils
import http.server
import json
import threading
import urllib.error
import urllib.request

import pytest

from support.bigquery import columns
from support.fleet import assert_honest, batch, create_target, make_items, summary
from support.processes import wait_for

ORDER = ["configuration", "broker", "topics", "bigquery", "credentials", "clock", "project", "target", "staging", "permits", "limits"]


@pytest.fixture
def model(bqmodel):
    return bqmodel()


@pytest.fixture
def scene(make_scene, model, broker):
    return make_scene(model, broker.address)


class Front(http.server.BaseHTTPRequestHandler):
    """Before the model: with another time, or wanting a token."""
    address, ahead, token = None, 0, None

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            status, text = 401, b'{"error":{"code":401,"message":"Invalid Credentials","errors":[{"reason":"authError"}]}}'
        else:
            kind = {"Content-Type": self.headers["Content-Type"]} if self.headers.get("Content-Type") else {}
            request = urllib.request.Request(f"http://{self.address}{self.path}", body, kind, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    status, text = reply.status, reply.read()
            except urllib.error.HTTPError as error:
                status, text = error.code, error.read()
        self.send_response_only(status)
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.ahead)
        self.send_header("Date", email.utils.format_datetime(now, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = answer

    def log_message(self, *args):
        pass


@pytest.fixture
def front(model):
    servers = []

    def start(**what):
        """Its address. What differs from the model: ahead=SECONDS, token=TEXT."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("AFront", (Front,), {"address": model.address, **what}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def doctor(scene, *args, code=0, **more):
    done = scene.bqfleet("doctor", *args, "--output", "json", "--wait", "10s", **more)
    assert done.code == code, [c for c in json.loads(done.out or "{}").get("checks", [done]) if c["state"] not in ("ok", "skipped")]
    said = summary(done)
    assert [c["check"] for c in said["checks"]] == ORDER
    assert (said["worst"] == "fail") == (code == 1)
    return {c["check"]: c for c in said["checks"]}


def states(checks, *wanted):
    return {name for name, c in checks.items() if c["state"] in wanted}


def topics(scene):
    scene.create_topics()
    wait_for(lambda: scene.bqfleet("topics check").code == 0, 60, "the broker to know them everywhere")


def spec(scene, **parts):
    return batch(scene, make_items(1), **parts)


def test_all_is_well(scene):
    topics(scene)
    create_target(scene)
    checks = doctor(scene, spec(scene), "--probe")
    assert states(checks, "ok") == set(ORDER)
    assert "dropped" in checks["staging"]["text"]
    assert not [t for t in scene.bq.tables(scene.dataset) if t.startswith("bqf_")]
    assert_honest(scene.bq)
    text = scene.bqfleet("doctor", spec(scene))
    assert text.code == 0 and text.out.startswith("ok       configuration")


def test_without_brokers_and_spec_what_does_not_apply_is_skipped(make_scene, model):
    alone = make_scene(model)
    checks = doctor(alone, "--project", "local")
    assert states(checks, "skipped") == {"broker", "topics", "target", "staging", "permits", "limits"}
    assert states(checks, "fail", "warn") == set()


def test_a_spec_that_is_wrong(scene):
    topics(scene)
    path = scene.write("wrong.yaml", "batch: x\nitmes: {list: [a]}\n")
    checks = doctor(scene, path, "--project", "local", code=1)
    assert states(checks, "fail") == {"configuration"}
    assert "wrong.yaml:2" in checks["configuration"]["text"]
    assert states(checks, "ok") >= {"broker", "topics", "bigquery", "project"}


def test_a_broker_that_is_not_there(make_scene, model):
    alone = make_scene(model, "127.0.0.1:1")
    create_target(alone)
    checks = doctor(alone, spec(alone), code=1)
    assert states(checks, "fail") == {"broker"} and "127.0.0.1:1" in checks["broker"]["text"]
    assert checks["topics"]["state"] == "skipped"
    assert checks["target"]["state"] == "ok"


def test_topics_that_are_missing(scene):
    create_target(scene)
    checks = doctor(scene, spec(scene), code=1)
    assert states(checks, "fail") == {"topics"}
    assert f"{scene.prefix}results" in checks["topics"]["text"] and "topics create" in checks["topics"]["advice"]


def test_credentials_that_are_refused(scene, front):
    topics(scene)
    create_target(scene)
    url = front(token="right")
    secret = "s3cr3t-t0ken"
    checks = doctor(scene, spec(scene), "--bigquery-url", url, env={"BQFLEET_TOKEN": secret}, code=1)
    assert states(checks, "fail") == {"credentials"} and checks["credentials"]["advice"]
    assert secret not in json.dumps(checks)
    checks = doctor(scene, spec(scene), "--bigquery-url", url, env={"BQFLEET_TOKEN": "right"})
    assert checks["credentials"]["text"].startswith("bearer token")


def test_credentials_that_cannot_be_had(scene, front):
    topics(scene)
    gone = scene.folder / "gone.json"
    checks = doctor(scene, "--project", "local", "--auth", "adc", env={"GOOGLE_APPLICATION_CREDENTIALS": str(gone)}, code=1)
    assert states(checks, "fail") == {"credentials"} and str(gone) in checks["credentials"]["text"]


def test_bigquery_that_does_not_answer(scene):
    topics(scene)
    checks = doctor(scene, spec(scene), "--bigquery-url", "http://127.0.0.1:1", "--wait", "1s", code=1)
    assert states(checks, "fail") == {"bigquery"}
    assert states(checks, "skipped") == set(ORDER[4:])


def test_a_target_that_is_missing(scene):
    topics(scene)
    checks = doctor(scene, spec(scene), code=1)
    assert states(checks, "fail") == {"target"} and "write.create" in checks["target"]["advice"]
    checks = doctor(scene, spec(scene), "--set", "write.create={k: STRING, part: INT64, version: INT64}")
    assert "makes it" in checks["target"]["text"]
    checks = doctor(scene, spec(scene), "--set", "write.table=nowhere.t", code=1)
    assert states(checks, "fail") == {"target", "staging"}


def test_a_clock_that_is_wrong_is_a_warning(scene, front):
    topics(scene)
    create_target(scene)
    for ahead, word in ((150, "behind"), (-600, "ahead of")):
        checks = doctor(scene, spec(scene), "--bigquery-url", front(ahead=ahead))
        assert states(checks, "warn") == {"clock"} and word in checks["clock"]["text"]
        assert "NTP" in checks["clock"]["advice"]


def test_permits_that_are_held_are_shown(scene):
    topics(scene)
    create_target(scene)
    made = scene.bqfleet("permits init", scene.table("target"), "--permits", "2")
    if made.code != 0:  # `permits` speaks to BigQuery alone
        made = scene.run("bqfleet", "permits", "init", scene.table("target"), "--permits", "2", "--project", scene.bq.project)
    assert made.code == 0, made
    checks = doctor(scene, spec(scene))
    assert checks["permits"]["text"].startswith("2 in ") and "all free" in checks["permits"]["text"]


def test_wrong_usage_is_no_failed_check(scene):
    assert scene.bqfleet("doctor", "a", "b").code == 2
    assert scene.bqfleet("doctor", "--no-such-flag").code == 2


def test_a_service_that_does_not_know_dry_runs_is_no_failure(embedded):
    embedded.bq.create_table(embedded.table("target"), columns("k STRING", "v INT64"), [{"k": "a", "v": 1}])
    handler = embedded.handler("return []")
    path = embedded.spec(batch="b", items={"list": ["a"]}, job={"handler": "work"}, handlers={"work": {"exec": handler}},
                         write={"table": embedded.table("target"), "mode": "merge", "keys": ["k"]})
    checks = doctor(embedded, path, "--probe")
    assert states(checks, "fail", "warn") <= {"clock"}
    assert embedded.bq.rows(embedded.table("target")) == [{"k": "a", "v": 1}]
