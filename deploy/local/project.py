#!/usr/bin/env python3
"""Next season's batting line of a player, by three methods. A bqfleet handler; prepare.py makes its items.

marcel    Tom Tango's: the last three seasons weighted 5, 4, 3 by plate appearance, drawn to the league's mean of the same
          seasons as if by 1,200 weighted plate appearances of it, then adjusted for age; 200 plate appearances plus half of
          last season's plus a tenth of the one's before.
average3  the mean of the lines of those of the last three seasons in which he batted
last      last season's line again
"""
import bqfleet

COUNTS = ("ab", "h", "doubles", "triples", "hr", "r", "rbi", "sb", "cs", "bb", "so", "hbp", "sh", "sf")
AGAINST = ("so", "cs")  # less of these is better, so age moves them the other way
WEIGHTS = {1: 5, 2: 4, 3: 3}  # by the seasons gone by
REGRESSION = 1200
PRIME = 29


def age_in(payload, season):
    born = payload.get("birth_year")
    return season - born if born else None


def age_factor(age):
    if age is None:
        return 1.0
    return 1 + (PRIME - age) * (0.006 if age < PRIME else 0.003)


def marcel(payload, season):
    by_year = {s["year"]: s for s in payload["seasons"]}
    weighted = [(WEIGHTS[back], by_year[season - back]) for back in WEIGHTS if season - back in by_year]
    if not weighted:
        return None
    weight = sum(w * s["pa"] for w, s in weighted)
    pa = 200 + 0.5 * by_year.get(season - 1, {"pa": 0})["pa"] + 0.1 * by_year.get(season - 2, {"pa": 0})["pa"]
    factor = age_factor(age_in(payload, season))
    line = {"pa": pa, "reliability": weight / (weight + REGRESSION)}
    for name in COUNTS:
        own = sum(w * s[name] for w, s in weighted)
        league = sum(w * s["pa"] * s["league"][name] for w, s in weighted) / weight
        rate = (own + REGRESSION * league) / (weight + REGRESSION)
        line[name] = pa * (rate / factor if name in AGAINST else rate if name == "ab" else rate * factor)
    return line


def average3(payload, season):
    lines = [s for s in payload["seasons"] if 1 <= season - s["year"] <= 3]
    return {name: sum(s[name] for s in lines) / len(lines) for name in ("pa", *COUNTS)} if lines else None


def last(payload, season):
    lines = [s for s in payload["seasons"] if s["year"] == payload["through"]]
    return {name: float(lines[0][name]) for name in ("pa", *COUNTS)} if lines else None


def averages(line):
    """Batting average, on-base and slugging: what the counts of the line say; none without at bats."""
    ab, on = line["ab"], line["ab"] + line["bb"] + line["hbp"] + line["sf"]
    if not ab:
        return {}
    bases = line["h"] + line["doubles"] + 2 * line["triples"] + 3 * line["hr"]
    return {"avg": line["h"] / ab, "obp": (line["h"] + line["bb"] + line["hbp"]) / on, "slg": bases / ab}


def rows_of(item, hello):
    payload, params = item["payload"], hello["params"]
    for system in (marcel, average3, last):
        line = system(payload, params["season"])
        if line:
            yield {
                "player_id": item["key"],
                "season": params["season"],
                "system": system.__name__,
                "name": payload["name"],
                "age": age_in(payload, params["season"]),
                **{name: round(value, 4) for name, value in (line | averages(line)).items()},
                "data_through": payload["through"],
                "created_at": params["created_at"],
            }


if __name__ == "__main__":
    bqfleet.serve(rows_of)
