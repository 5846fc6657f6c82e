"""The example under deploy/local: its helper and its handler alone, spoken to as a worker speaks to them."""
import json
import subprocess
import sys

import pytest

from support.scene import ROOT

LOCAL = ROOT / "deploy/local"
HELLO = {"hello": 1, "run": "r", "batch": "b", "params": {"season": 2025, "created_at": "2025-03-01T00:00:00Z"}, "schema": []}


def lines_of(*messages):
    return "".join(json.dumps(m) + "\n" for m in messages)


def talk(argv, text):
    done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=LOCAL, timeout=30, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def helper(body, *items, start="None"):
    program = f"import bqfleet, os\ndef rows_of(item, hello):\n    {body}\nbqfleet.serve(rows_of, start={start})"
    return talk([sys.executable, "-c", program], lines_of(HELLO, *items))


def season(year, pa, hr, so=0, hr_rate=0.03):
    from_zero = dict.fromkeys(("ab", "h", "doubles", "triples", "r", "rbi", "sb", "cs", "bb", "hbp", "sh", "sf"), 0)
    return {"year": year, "pa": pa, **from_zero, "hr": hr, "so": so, "ab": pa,
            "league": {**from_zero, "hr": hr_rate, "so": 0.2, "ab": 1.0}}


def project(**payload):
    item = {"item": 7, "key": "p1", "attempt": 1, "payload": {"name": "P", "through": 2024, **payload}, "deadline_ms": 1000}
    (ready, answer), _ = talk([sys.executable, "project.py"], lines_of(HELLO, item))
    assert ready == {"ready": True} and answer["item"] == 7 and answer["done"]
    return {row["system"]: row for row in answer["rows"]}


THREE = [season(2024, 600, 30, 120), season(2023, 500, 20, 110), season(2022, 400, 10, 100)]


def test_marcel_weighs_regresses_and_adjusts_for_age_as_published():
    rows = project(birth_year=1998, seasons=THREE)
    marcel = rows["marcel"]
    assert marcel["pa"] == 200 + 300 + 50
    # 5 * 30 + 4 * 20 + 3 * 10 = 260 of 6,200 weighted plate appearances; with 1,200 of the league's 0.03: 296 / 7,400 = 0.04
    assert marcel["hr"] == pytest.approx(550 * 0.04 * (1 + 2 * 0.006), abs=1e-4)
    # 600 + 440 + 300 = 1,340; with the league's 240: 1,580 / 7,400; strike-outs fall as home runs rise
    assert marcel["so"] == pytest.approx(550 * 1580 / 7400 / 1.012, abs=1e-4)
    assert marcel["reliability"] == pytest.approx(6200 / 7400, abs=1e-4)
    assert marcel["age"] == 27 and marcel["created_at"] == "2025-03-01T00:00:00Z"


def test_marcel_lets_a_player_past_29_decline_by_half_as_much_a_year():
    assert project(birth_year=1992, seasons=THREE)["marcel"]["hr"] == pytest.approx(550 * 0.04 * (1 - 4 * 0.003), abs=1e-4)


def test_marcel_takes_the_leagues_mean_of_the_seasons_he_played():
    rows = project(birth_year=None, seasons=[season(2023, 300, 0, hr_rate=0.05)])
    assert rows["marcel"]["hr"] == pytest.approx((200 + 30) * 1200 * 0.05 / (1200 + 1200), abs=1e-4)
    assert rows["marcel"]["age"] is None
    assert set(rows) == {"marcel", "average3"}  # he has no last season


def test_the_plain_methods_average_and_repeat():
    rows = project(birth_year=1998, seasons=THREE)
    assert (rows["average3"]["pa"], rows["average3"]["hr"]) == (500, 20)
    assert (rows["last"]["pa"], rows["last"]["hr"], rows["last"]["avg"]) == (600, 30, 0)


def test_the_helper_keeps_print_off_the_fleets_pipe():
    answers, err = helper("print('hi'); os.system('echo deep'); return [{'k': item['key']}]", {"item": 0, "key": "a"})
    assert answers == [{"ready": True}, {"item": 0, "rows": [{"k": "a"}], "done": True}]
    assert "hi" in err and "deep" in err


def test_an_exception_fails_its_item_alone():
    body = "k = item['key']\n    if k in 'abc': raise {'a': ValueError, 'b': bqfleet.Retry, 'c': bqfleet.Fatal}[k]('no')\n    return []"
    answers, err = helper(body, *({"item": n, "key": k} for n, k in enumerate("abcd")))
    assert answers[1:] == [
        {"item": 0, "error": {"kind": "task", "message": "ValueError: no"}},
        {"item": 1, "error": {"kind": "retry", "message": "Retry: no"}},
        {"item": 2, "error": {"kind": "fatal", "message": "Fatal: no"}},
        {"item": 3, "rows": [], "done": True}]
    assert "Traceback" in err


def test_lines_that_arrive_together_are_answered_together_and_large_ones_whole():
    items = [{"item": n, "key": "k" * (300_000 if n == 5 else 3), "payload": None} for n in range(200)]
    answers, _ = helper("yield {'n': len(item['key'])}", *items)
    assert [a["rows"][0]["n"] for a in answers[1:]] == [300_000 if n == 5 else 3 for n in range(200)]


def test_start_runs_once_before_the_first_item():
    answers, err = helper("return []", {"item": 0, "key": "a"}, start="lambda hello: print('loading', hello['batch'])")
    assert err.count("loading b") == 1 and len(answers) == 2
