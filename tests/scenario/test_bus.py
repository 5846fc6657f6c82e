"""The bus on a real broker: the suite that the bus in memory passes as a unit test, and a broker that is killed."""
from support.processes import Program
from support.scene import BIN, environment


def suite(folder, broker, name, *args):
    return Program([BIN / "tests" / "bus_suite_kafka", broker.address, *args], environment(name, folder), folder, name)


def test_the_suite_of_the_bus_passes_on_kafka(broker, folder):
    done = suite(folder, broker, "suite").wait(240)
    assert done.code == 0, done


def test_a_killed_broker_is_waited_for(broker, folder):
    program = suite(folder, broker, "restart", "restart")
    program.wait_for_text("restart\n", 60)
    broker.kill()
    try:
        program.wait_for_text("down\n", 60)
    finally:
        broker.start()
    done = program.wait(180)
    assert done.code == 0, done
