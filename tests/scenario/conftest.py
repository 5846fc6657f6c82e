"""Scenario tests: real processes on a real broker, with the BigQuery emulator or the model's server.

BQF_BIN is the folder of the binaries (build/asan). Services start when the first test asks for them and serve all; every test has
its own scene: folder, dataset, topic prefix. Logs of a session that failed stay in build/scenario.
"""
import os
import pathlib
import re
import shutil
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from support.bigquery import BigQuery  # noqa: E402
from support.processes import Program, alive  # noqa: E402
from support.scene import BIN, BUILD, Scene, environment  # noqa: E402
from support.services import Service  # noqa: E402

SESSIONS = BUILD / "scenario"


@pytest.fixture(scope="session")
def session_folder(request):
    """Named by the process that cares for it, so that what a killed session left is known as such and goes first."""
    SESSIONS.mkdir(parents=True, exist_ok=True)
    for old in SESSIONS.iterdir():
        if not alive(int(old.name.split("-")[0])):
            for kind in ("emulator", "broker"):
                Service(kind, old / kind).stop()
            shutil.rmtree(old, ignore_errors=True)
    folder = SESSIONS / f"{os.environ.get('BQF_SESSION') or os.getpid()}-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    yield folder
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)


def served(kind, folder):
    service = Service(kind, folder / kind)
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="session")
def emulator_service(session_folder):
    yield from served("emulator", session_folder)


@pytest.fixture(scope="session")
def emulator(emulator_service):
    """A client of a fresh BigQuery emulator."""
    return BigQuery(emulator_service.address)


@pytest.fixture(scope="session")
def broker(session_folder):
    """A real Kafka broker; its address is broker.address. A test that stops it starts it again."""
    yield from served("broker", session_folder)


@pytest.fixture
def folder(session_folder, request):
    """The test's own folder."""
    path = session_folder / re.sub(r"[^\w.-]+", "_", request.node.name)[:80]
    path.mkdir()
    return path


@pytest.fixture
def bqmodel(folder):
    """bqmodel("--flag", ...) starts the model of BigQuery, a fresh one at each call, and returns a client of it; client.program is it."""
    started, clients = [], []

    def start(*flags):
        name = f"bqmodel-{len(started)}"
        program = Program([BIN / "tests" / "bqmodel-server", *flags], environment(name, folder), folder, name)
        started.append(program)
        program.wait_for_text("listening on ", 20)
        client = BigQuery(re.search(r"listening on (\S+)", program.out)[1])
        client.program, client.forgiven = program, False
        clients.append(client)
        return client

    yield start
    for program in started:
        program.go_on()
        program.terminate()
        try:
            program.wait(10)
        finally:
            program.signal(9)
    for client in clients:  # a request or an answer that is not as BigQuery's discovery document says
        told = [line for line in client.program.err.splitlines() if line.startswith("bqmodel: violation: ")]
        assert client.forgiven or not told, told


@pytest.fixture
def make_scene(folder):
    """make_scene(bq=None, brokers=None): for tests that choose their services; ended and checked for leftovers afterwards."""
    scenes = []

    def make(bq=None, brokers=None):
        scenes.append(Scene(folder, bq, brokers))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def embedded(make_scene, emulator):
    """A scene for runs in one process, on the emulator."""
    return make_scene(emulator)


@pytest.fixture
def fleet(make_scene, emulator, broker):
    """A scene with Kafka, on the emulator; the topics are up to the test (create_topics)."""
    return make_scene(emulator, broker.address)
