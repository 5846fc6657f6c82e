"""The tree keeps its own rules: who includes whom, how long files and functions are, that the README names what the program has."""
import re
import subprocess

import pytest

from support.scene import BIN, ROOT

LAYERS = {"common/base": 0, "common/net": 1, "common/host": 1, "common/bus": 2, "common/bq": 2, "common/fleet": 3, "worker": 4, "coordinator": 4}
SOURCES = [path for folder in ("common", "worker", "coordinator", "include", "tests") for path in sorted((ROOT / folder).rglob("*.[ch]"))]
SCRIPTS = [path for folder in ("deploy", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
FILE_LINES, FUNCTION_LINES = 500, 60


def layer(path):
    folder = next((f for f in LAYERS if str(path).startswith(f + "/")), None)
    return folder, LAYERS.get(folder)


def test_a_folder_includes_only_lower_ones():
    wrong = []
    for path in SOURCES:
        here, level = layer(path.relative_to(ROOT))
        if here is None:
            continue
        for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
            there, other = layer(included)
            assert there or included.startswith("include/"), f"{path}: {included} is not written from the root"
            if there and there != here and other >= level and not (path.name == "local.c" and here == "coordinator" and there == "worker"):
                wrong.append(f"{path.relative_to(ROOT)} includes {included}")
    assert not wrong


def test_files_and_functions_are_short():
    long = [f"{path.relative_to(ROOT)}: {n} lines" for path in SOURCES + SCRIPTS if (n := len(path.read_text().splitlines())) > FILE_LINES]
    for path in SOURCES:
        start = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start - 1 > FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{start}: {number - start - 1} lines in one function")
                start = None
    assert not long


def test_a_header_is_guarded_by_its_own_name():
    for path in SOURCES:
        if path.suffix == ".h" and path.is_relative_to(ROOT / "common"):
            words = re.sub(r"^common/", "", str(path.relative_to(ROOT))).upper()
            assert re.search(r"^#ifndef BQF_" + re.sub(r"\W", "_", words), path.read_text(), re.M), path


def commands():
    done = subprocess.run([BIN / "bqfleet", "--help"], capture_output=True, text=True, check=True)
    return re.findall(r"^  ([a-z]+)(?: .*)?$", done.stdout.split("ommands:")[1].split("\n\n")[0], re.M)


def test_the_readme_has_every_command():
    readme = (ROOT / "README.md").read_text()
    found = commands()
    assert len(found) >= 13
    for command in found:
        assert re.search(rf"^\| .*`{command}\b", readme, re.M), command


def test_what_is_taken_for_granted_names_tests_and_guards_that_exist():
    """docs/assumptions.md: `FILE: NAME` is a name in the file, and each row says what would notice."""
    text = (ROOT / "docs/assumptions.md").read_text()
    where = {path.name: path for path in SOURCES + SCRIPTS}
    named = re.findall(r"`([\w.]+\.(?:[ch]|py)): (\w+)`", text)
    missing = [f"{file}: {name}" for file, name in named if file not in where or not re.search(rf"\b{name}\b", where[file].read_text())]
    assert len(named) > 60 and not missing
    links = set(re.findall(r"^\[([\w.]+)\]: https://", text, re.M))
    assert not {a or b for a, b in re.findall(r"\]\[([\w.]+)\]|\[([\w.]+)\](?![\[(:])", text)} - links


@pytest.mark.parametrize("program", ["bqfleet", "bqfleet-worker"])
def test_help_and_version_are_on_stdout(program):
    for flag in ("--help", "--version"):
        done = subprocess.run([BIN / program, flag], capture_output=True, text=True, check=True)
        assert done.stdout.strip() and not done.stderr
