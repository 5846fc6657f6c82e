"""What cannot be written is said, and is no success: stdout, files of rows and of failed items, on a disk that is full."""
import os
import stat
import subprocess

import pytest

from support.fleet import batch, create_target, handler_body, make_items, summary
from support.scene import BIN

SAY_NOTHING_ELSE = {"write": {"mode": "none"}, "finish": {"tolerate": "100%"}}


def spec_of(scene, command, name="spec.yaml"):
    return scene.spec(name, batch="full", items={"range": {"from": 1, "to": 5}}, job={"handler": "h", "attempts": 1},
                      handlers={"h": {"command": ["sh", "-c", command]}}, **SAY_NOTHING_ELSE)


def to_full_disk(scene, *args, stdout="/dev/full"):
    with open(stdout, "w") as full:
        return subprocess.run([BIN / "bqfleet", *map(str, args)], env=scene.env, cwd=scene.folder, stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=90, check=False)


@pytest.mark.parametrize("command", ["--help", "help run", "version", "init", "config show", "config show --output json"])
def test_a_command_whose_output_is_lost_says_so(make_scene, command):
    done = to_full_disk(make_scene(None), *command.split())
    assert done.returncode == 4, done
    assert "not all could be written to stdout" in done.stderr, done


@pytest.mark.parametrize("command", ["plan", "plan --output json"])
def test_a_plan_whose_output_is_lost_says_so(make_scene, command):
    scene = make_scene(None)
    word, *flags = command.split()
    done = to_full_disk(scene, word, spec_of(scene, "echo '{\"n\": 1}'"), *flags)
    assert done.returncode == 4 and "not all could be written to stdout" in done.stderr, done


@pytest.mark.parametrize("flags", [[], ["--to", "/dev/full"]])
@pytest.mark.parametrize("much", ["", "; yes '{\"n\": 1}' | head -n 100000"])
def test_rows_that_are_lost_end_the_run(make_scene, flags, much):
    scene = make_scene(None)
    done = to_full_disk(scene, "run", spec_of(scene, "echo '{\"n\": 1}'" + much), *flags)
    assert done.returncode == 4 and "No space left on device" in done.stderr, done


def test_failed_items_that_are_lost_are_no_success_and_a_device_stays_one(make_scene):
    scene = make_scene(None)
    device = scene.folder / "full"
    device.symlink_to("/dev/full")
    done = to_full_disk(scene, "run", spec_of(scene, "exit 1"), "--failed", device, stdout=os.devnull)
    assert done.returncode == 4 and "cannot be written: No space left on device" in done.stderr, done
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode) and device.is_symlink()


def test_a_list_of_failed_items_with_no_place_is_told_before_the_run_begins(make_scene):
    scene = make_scene(None)
    for path, says in (("nowhere/failed.ndjson", "No such file or directory"), (".", "Is a directory")):
        done = to_full_disk(scene, "run", spec_of(scene, "touch ran; exit 1"), "--failed", path, stdout=os.devnull)
        assert done.returncode == 2 and f"--failed: {path} cannot be written: {says}" in done.stderr, done
    assert not (scene.folder / "ran").exists()


def test_a_fleets_answers_that_are_lost_are_no_success(make_scene, bqmodel, broker):
    scene = make_scene(bqmodel("--load-ms", "20", "--dml-ms", "40"), broker.address)
    create_target(scene)
    scene.create_topics("--partitions", "2")
    scene.worker({"work": scene.handler(handler_body(0, extra="if payload['n'] == 3:\n    raise ValueError('no')"))}, "--linger", "100ms", "--session", "6s")
    done = scene.bqfleet("run", batch(scene, make_items(10), job={"attempts": 1}, finish={"tolerate": 1}), "--output", "json")
    assert done.code == 0, done
    run = summary(done)["run"]
    for command in ("status", f"status {run}", f"watch {run}"):
        for shape in ("text", "json"):
            lost = to_full_disk(scene, *command.split(), *scene.flags, "--output", shape)
            assert lost.returncode == 4 and "not all could be written to stdout" in lost.stderr, (command, shape, lost)
    lost = to_full_disk(scene, "dead", "list", *scene.flags)
    assert lost.returncode == 4 and "not all could be written to stdout" in lost.stderr, lost
    assert scene.bqfleet(f"watch {run}").code == 0  # as ever, where it can be said
