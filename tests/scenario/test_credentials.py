"""Credentials of every kind, with real processes: they work, the service checks them, and no secret of theirs shows anywhere."""
import base64
import http.server
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.parse
import urllib.request

import pytest

from support.processes import marked, wait_for

ITEMS = 30
SECRETS = {"client_secret": "the-client-secret-5f1", "refresh_token": "1//the-refresh-token-7c2", "subject_token": "the.subject-token.9d3"}
ACCOUNT = "loader@my-project.iam.gserviceaccount.com"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes keys by openssl")


def openssl(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def key():
    """A private RSA key and its public half, as PEM."""
    private = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    public = subprocess.run(["openssl", "pkey", "-pubout"], input=private, check=True, capture_output=True, text=True).stdout
    return private, public


@pytest.fixture
def guarded(bqmodel, folder, key):
    """A model that wants tokens, with a table ds.t; guarded.tokens(): those it has given out so far, as far as a test can know."""
    def start(*flags, **more):
        file = folder / "accounts.json"
        file.write_text(json.dumps({"email": ACCOUNT, "public_key": key[1], **SECRETS, **more}))
        bq = bqmodel("--credentials", str(file), *flags)
        bq.control("POST", "table", {"ref": "ds.t", "schema": {"fields": [{"name": "k", "type": "INT64"}, {"name": "v", "type": "INT64"}]}})
        return bq
    return start


@pytest.fixture
def scene(make_scene):
    return make_scene()


def secret_file(scene, name, what):
    path = scene.write(name, what if isinstance(what, str) else json.dumps(what))
    path.chmod(0o600)
    return str(path)


def spec(scene, body="pass", **parts):
    handler = scene.handler(f"{body}\nreturn [{{'k': int(key), 'v': int(key) * 2}}]")
    return scene.write("spec.yaml", json.dumps({"batch": "b", "items": {"range": {"from": 1, "to": ITEMS}}, "job": {"handler": "work"},
                                                "handlers": {"work": {"exec": handler}}, "write": {"table": "ds.t", "mode": "merge", "keys": ["k"]}, **parts}))


def assert_written(bq):
    rows = sorted(bq.control("GET", "rows?table=local.ds.t"), key=lambda row: row["k"])
    assert rows == [{"k": k, "v": 2 * k} for k in range(1, ITEMS + 1)]


def command_lines(scene):
    found = []
    for pid in marked(scene.id):
        try:
            found.append(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass
    return found


def serve_text(text):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def token_of(bq):
    """One that the service gives out, for --auth bearer."""
    form = urllib.parse.urlencode({"grant_type": "refresh_token", "client_id": "c", **{n: SECRETS[n] for n in ("client_secret", "refresh_token")}}).encode()
    with urllib.request.urlopen(f"http://{bq.address}/token", form, timeout=30) as reply:
        return json.loads(reply.read())["access_token"]


def files_of(kind, address, key, subject_url, scene):
    """The file of credentials of one kind."""
    federation = {"type": "external_account", "audience": "//iam.googleapis.com/pools/p", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                  "token_url": f"http://{address}/v1/token"}
    login = {"type": "authorized_user", "client_id": "c", "client_secret": SECRETS["client_secret"], "refresh_token": SECRETS["refresh_token"],
             "token_uri": f"http://{address}/token"}
    impersonation = f"http://{address}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    return {
        "key": {"type": "service_account", "client_email": ACCOUNT, "private_key": key[0], "private_key_id": "k1", "token_uri": f"http://{address}/token"},
        "login": login,
        "file": {**federation, "credential_source": {"file": secret_file(scene, "subject", SECRETS["subject_token"])}},
        "url": {**federation, "credential_source": {"url": subject_url, "format": {"type": "json", "subject_token_field_name": "value"}}},
        "federated account": {**federation, "credential_source": {"file": str(scene.folder / "subject")}, "service_account_impersonation_url": impersonation},
        "impersonation": {"type": "impersonated_service_account", "service_account_impersonation_url": impersonation, "source_credentials": login},
    }[kind]


@pytest.mark.parametrize("kind", ["key", "login", "file", "url", "federated account", "impersonation", "metadata", "bearer"])
def test_credentials_of_each_kind_load_and_merge_and_show_no_secret(scene, guarded, key, kind):
    bq = guarded(**({"impersonated": ACCOUNT} if kind in ("federated account", "impersonation") else {}))
    server = serve_text(json.dumps({"value": SECRETS["subject_token"]}))
    env, parts, how = {"HOME": str(scene.folder)}, {"project": "local"}, "adc"
    if kind == "metadata":  # which also says the project; no proxy comes between
        env |= {"GCE_METADATA_HOST": bq.address, "http_proxy": "http://127.0.0.1:1", "no_proxy": "localhost"}
        parts = {}
    elif kind == "bearer":
        env["BQFLEET_TOKEN_FILE"], how = secret_file(scene, "token", token_of(bq) + "\n"), "bearer"
    else:
        env["GOOGLE_APPLICATION_CREDENTIALS"] = secret_file(scene, "c.json", files_of(kind, bq.address, key, f"http://127.0.0.1:{server.server_port}/", scene))
    flags = ["--bigquery-url", f"http://{bq.address.replace('127.0.0.1', 'localhost')}", "--auth", how, "--log-level", "debug"]
    shown = scene.run("bqfleet", "config", "show", *flags, env=env)
    run = scene.start_bqfleet("run", str(spec(scene, "while not os.path.exists('go'): time.sleep(0.05)", **parts)), *flags, env=env, cwd=scene.folder)
    wait_for(lambda: len(marked(scene.id)) > 1 and bq.counters()["tokens"] > 0, 60, "the handler to be at work")
    lines = command_lines(scene)
    (scene.folder / "go").touch()
    done = run.wait(90)
    server.shutdown()
    server.server_close()
    assert done.code == 0, done
    assert_written(bq)
    assert bq.counters()["turned_away"] == 0
    everything = "\n".join([done.out, done.err, shown.out, shown.err, *lines])
    assert "debug" in done.err
    assert len(lines) > 1
    for secret in [*SECRETS.values(), "ya29.", "PRIVATE KEY", *key[0].splitlines()[1:-1]]:
        assert secret not in everything


def test_tokens_that_are_revoked_in_the_middle_of_a_batch_are_replaced_once(scene, guarded, key):
    bq = guarded("--load-ms", "300")
    file = secret_file(scene, "c.json", files_of("key", bq.address, key, "", scene))
    run = scene.start_bqfleet("run", str(spec(scene, "time.sleep(0.05)", project="local")), "--bigquery-url", f"http://{bq.address}", "--auth", "adc", "--linger", "0",
                              "--parallel", "4", env={"GOOGLE_APPLICATION_CREDENTIALS": file})
    wait_for(lambda: bq.counters()["loads"] > 0, 60, "a load")
    bq.control("POST", "revoke-tokens", {})
    done = run.wait(90)
    assert done.code == 0, done
    assert_written(bq)
    counters = bq.counters()
    assert counters["turned_away"] >= 1
    assert counters["tokens"] == 2


def test_a_key_that_is_refused_ends_it_with_what_the_service_said(scene, guarded, key):
    bq = guarded()
    other = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    file = secret_file(scene, "c.json", {**files_of("key", bq.address, key, "", scene), "private_key": other})
    done = scene.bqfleet("run", str(spec(scene, project="local")), "--bigquery-url", f"http://{bq.address}", "--auth", "adc", env={"GOOGLE_APPLICATION_CREDENTIALS": file})
    assert done.code == 4, done
    assert "invalid_grant: Invalid JWT Signature." in done.err
    assert bq.counters()["grants_refused"] >= 1


def test_without_any_credentials_it_is_told_where_they_were_looked_for(scene):
    """The metadata server's name is looked up: no answer, or none in time, is the same here."""
    done = scene.bqfleet("run", str(spec(scene, project="local")), "--bigquery-url", "https://localhost:1", "--auth", "adc", env={"HOME": str(scene.folder)})
    assert done.code == 4, done
    assert "no credentials for BigQuery; looked for: BQFLEET_TOKEN" in done.err
    assert "GOOGLE_APPLICATION_CREDENTIALS (not set)" in done.err and "application_default_credentials.json (absent)" in done.err
    assert "metadata server metadata.google.internal" in done.err


def test_doctor_says_that_others_can_read_a_key(scene, guarded, key):
    bq = guarded()
    file = secret_file(scene, "c.json", files_of("key", bq.address, key, "", scene))
    flags = ["--bigquery-url", f"http://{bq.address}", "--auth", "adc", "--project", "local", "--output", "json"]

    def credentials():
        done = scene.bqfleet("doctor", *flags, env={"GOOGLE_APPLICATION_CREDENTIALS": file})
        return next(c for c in json.loads(done.out)["checks"] if c["check"] == "credentials")
    assert credentials()["state"] == "ok"
    pathlib.Path(file).chmod(0o644)
    assert credentials()["state"] == "warn"
    assert "can be read by others" in json.dumps(credentials()) and "chmod 600" in json.dumps(credentials())


# -- proxies and certificates


@pytest.fixture
def authority(folder):
    """A private CA, and a certificate of its for Google's names."""
    names = "subjectAltName=DNS:bigquery.googleapis.com,DNS:oauth2.googleapis.com"
    (folder / "names").write_text(names)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem", "-days", "2", "-subj", "/CN=test CA")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{folder}/server.key", "-out", f"{folder}/server.csr", "-subj", "/CN=googleapis.com")
    openssl("x509", "-req", "-in", f"{folder}/server.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{folder}/names", "-out", f"{folder}/server.pem")
    return folder / "ca.pem"


class Proxy:
    """Takes CONNECT with a password, plays every host with the CA's certificate, and hands on what it hears to the model."""
    USER = "proxy-user:proxy-password-4e9"

    def __init__(self, folder, address):
        self.address, self.hosts, self.refused = address.split(":"), set(), 0
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(4096)
                if not more:
                    return
                head += more
            text = head.decode()
            if base64.b64encode(self.USER.encode()).decode() not in text:
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
                client.close()
                return
            self.hosts.add(text.split()[1])
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            inside, outside = self.tls.wrap_socket(client, server_side=True), socket.create_connection(self.address)
            threading.Thread(target=self.pump, args=(outside, inside), daemon=True).start()
            self.pump(inside, outside)
        except OSError:
            client.close()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_tokens_and_requests_go_through_a_proxy_and_trust_the_ca_file(scene, guarded, key, authority, by):
    bq = guarded()
    proxy = Proxy(scene.folder, bq.address)
    where = f"http://{Proxy.USER}@127.0.0.1:{proxy.port}"
    file = secret_file(scene, "c.json", {"type": "service_account", "client_email": ACCOUNT, "private_key": key[0], "private_key_id": "k1"})
    env = {"GOOGLE_APPLICATION_CREDENTIALS": file, "BQFLEET_CA_FILE": str(authority), "https_proxy": None, "HTTPS_PROXY": None}
    env |= {"BQFLEET_PROXY_FILE": secret_file(scene, "proxy", where + "\n")} if by == "setting" else {"HTTPS_PROXY": where}
    env = {k: v for k, v in env.items() if v is not None}
    flags = ["--log-level", "debug", "--wait", "15s"]
    path = str(spec(scene, project="local"))
    untrusting = scene.bqfleet("run", path, *flags, env=env | {"BQFLEET_CA_FILE": "/etc/ssl/certs/ca-certificates.crt"})
    assert untrusting.code == 4 and "certificate" in untrusting.err, untrusting
    assert bq.counters()["tokens"] == 0
    done = scene.bqfleet("run", path, *flags, env=env)
    shown = scene.run("bqfleet", "config", "show", env=env)
    proxy.close()
    assert done.code == 0, done
    assert_written(bq)
    assert proxy.hosts == {"oauth2.googleapis.com:443", "bigquery.googleapis.com:443"}
    for text in (untrusting.err, done.out, done.err, shown.out, shown.err):
        assert "proxy-password" not in text


def test_no_proxy_names_what_goes_straight(scene, guarded, key):
    bq = guarded()
    file = secret_file(scene, "c.json", files_of("key", bq.address, key, "", scene))
    env = {"GOOGLE_APPLICATION_CREDENTIALS": file, "http_proxy": "http://127.0.0.1:1"}
    args = ["run", str(spec(scene, project="local")), "--bigquery-url", f"http://{bq.address}", "--auth", "adc"]
    lost = scene.bqfleet(args[0], *args[1:], "--wait", "1s", env=env)
    assert lost.code == 4 and bq.counters()["requests"] == 0, lost
    done = scene.bqfleet(args[0], *args[1:], env=env | {"no_proxy": "127.0.0.1"})
    assert done.code == 0, done
    assert_written(bq)
