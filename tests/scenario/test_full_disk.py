"""What cannot be written is said, and is no success: stdout, files of rows and of failed items, on a disk that is full."""
import os
import stat
import subprocess

import pytest

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
