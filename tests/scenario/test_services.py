"""The services and the clients the other scenarios stand on."""
import ctypes
import os
import subprocess
import sys

from support.bigquery import columns
from support.kafka import Client, Message, check, lib
from support.processes import marked, wait_for


def test_rows_loaded_into_the_emulator_are_read_back_typed(emulator):
    emulator.create_dataset("services")
    emulator.create_table("services.t", columns("id INT64 REQUIRED", "x FLOAT64", "ok BOOL", "tags STRING REPEATED"),
                          [{"id": 2, "x": 1.5, "ok": True, "tags": ["a", "b"]}, {"id": 1}])
    assert emulator.rows("services.t", order=["id"]) == [
        {"id": 1, "x": None, "ok": None, "tags": []}, {"id": 2, "x": 1.5, "ok": True, "tags": ["a", "b"]}]
    assert emulator.tables("services") == ["t"]
    emulator.delete_table("services.t")
    assert emulator.get_table("services.t") is None


def test_services_that_somebody_keeps_are_not_stopped_by_a_second_run(tmp_path):
    run = os.path.join(os.path.dirname(__file__), "../../deploy/local/run")
    home = tmp_path / "local"
    (home / "emulator").mkdir(parents=True)
    service = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        (home / "emulator" / "pid").write_text(f"{service.pid}\n")
        with open(f"/proc/{service.pid}/stat") as stat:
            (home / "emulator" / "since").write_text(stat.read().rsplit(") ", 1)[1].split()[19] + "\n")
        (home / "kept").write_text("how to talk to it\n")
        environment = os.environ | {"BQF_BUILD": str(tmp_path)}
        again = subprocess.run([run], env=environment, capture_output=True, text=True, timeout=60)
        assert again.returncode == 2 and "how to talk to it" in again.stderr and "are up" in again.stderr, again
        assert service.poll() is None
        stop = subprocess.run([run, "--stop"], env=environment, capture_output=True, text=True, timeout=60)
        assert stop.returncode == 0 and service.wait(30) and not (home / "kept").exists(), stop
    finally:
        service.kill()
        service.wait()


def create_topic(brokers, topic, partitions):
    """Topics of the product are made by the product; here the client is tested without it."""
    lib.rd_kafka_NewTopic_new.restype = ctypes.c_void_p
    lib.rd_kafka_NewTopic_new.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_CreateTopics.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    with Client(0, bootstrap_servers=brokers) as rk:
        queue = lib.rd_kafka_queue_new(rk)
        new = lib.rd_kafka_NewTopic_new(topic.encode(), partitions, 1, ctypes.create_string_buffer(512), 512)
        lib.rd_kafka_CreateTopics(rk, (ctypes.c_void_p * 1)(new), 1, None, queue)
        event = lib.rd_kafka_queue_poll(queue, 20000)
        check(lib.rd_kafka_event_error(event), "create")
        lib.rd_kafka_event_destroy(event)
        lib.rd_kafka_queue_destroy(queue)


def test_messages_survive_a_restart_of_the_broker_and_can_be_dropped_from_the_front(fleet, broker):
    kafka, topic = fleet.kafka, fleet.prefix + "t"
    create_topic(broker.address, topic, 2)
    wait_for(lambda: topic in kafka.topics(), what="the topic")
    kafka.publish(topic, [Message(1, None, b"k", b"one", {"run": b"r1"}), Message(1, None, None, b"two", {}), Message(0, None, b"k", None, {})])
    broker.kill()
    broker.start()
    assert kafka.read(topic) == [Message(0, 0, b"k", None, {}), Message(1, 0, b"k", b"one", {"run": b"r1"}), Message(1, 1, None, b"two", {})]
    kafka.delete_before(topic, 1, 1)
    assert kafka.watermarks(topic) == {0: (0, 1), 1: (1, 2)}
    assert kafka.committed(fleet.group, topic) == {0: (None, None), 1: (None, None)}


def test_a_program_is_stopped_continued_and_killed_and_its_child_is_found(make_scene):
    scene = make_scene()
    program = scene.start(sys.executable, "-c", "import subprocess as s; p = s.Popen(['sleep', '60']); print(p.pid, 'up', flush=True); p.wait()")
    program.wait_for_text("up")
    program.stop()
    program.go_on()
    assert len(marked(scene.id)) == 2
    program.kill()
    child = int(program.out.split()[0])
    assert list(marked(scene.id)) == [child]
    os.kill(child, 9)
    assert program.wait().code == -9
