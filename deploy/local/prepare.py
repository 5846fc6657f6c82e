#!/usr/bin/env python3
"""prepare.py PARQUET_FOLDER OUT.ndjson: the example's items out of the Lahman baseball database (CC BY-SA 3.0).

One item per player with a plate appearance in the last three seasons of the data: his batting line of each, the league's
rates per plate appearance beside it, and his year of birth. Needs DuckDB.
"""
import os
import sys

import duckdb

ITEMS = """
CREATE VIEW line AS
    SELECT playerID, yearID AS year,
           sum(AB + BB + coalesce(HBP, 0) + coalesce(SH, 0) + coalesce(SF, 0))::INT AS pa,
           sum(AB)::INT AS ab, sum(H)::INT AS h, sum("2B")::INT AS doubles, sum("3B")::INT AS triples, sum(HR)::INT AS hr,
           sum(R)::INT AS r, sum(coalesce(RBI, 0))::INT AS rbi, sum(coalesce(SB, 0))::INT AS sb, sum(coalesce(CS, 0))::INT AS cs,
           sum(BB)::INT AS bb, sum(coalesce(SO, 0))::INT AS so, sum(coalesce(HBP, 0))::INT AS hbp,
           sum(coalesce(SH, 0))::INT AS sh, sum(coalesce(SF, 0))::INT AS sf
    FROM batting WHERE yearID > (SELECT max(yearID) FROM batting) - 3
    GROUP BY ALL HAVING pa > 0;

CREATE VIEW league AS  -- all who batted: since 2022 pitchers hardly do
    SELECT year, {rates} FROM line GROUP BY year;

CREATE VIEW item AS
    SELECT playerID AS player_id,
           concat_ws(' ', any_value(nameFirst), any_value(nameLast)) AS name,
           any_value(birthYear)::INT AS birth_year,
           (SELECT max(year) FROM line) AS through,
           list({{year: year, pa: pa, {counts}, league: {{{league}}}}} ORDER BY year DESC) AS seasons
    FROM line JOIN league USING (year) JOIN people USING (playerID)
    GROUP BY playerID ORDER BY playerID;
"""
COUNTS = ("ab", "h", "doubles", "triples", "hr", "r", "rbi", "sb", "cs", "bb", "so", "hbp", "sh", "sf")


def main():
    folder, out = sys.argv[1:]
    db = duckdb.connect()
    for table in ("Batting", "People"):
        db.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder}/{table}.parquet')")
    db.execute(ITEMS.format(
        rates=", ".join(f"round(sum({c}) / sum(pa), 6) AS lg_{c}" for c in COUNTS),
        counts=", ".join(f"{c}: {c}" for c in COUNTS),
        league=", ".join(f"{c}: lg_{c}" for c in COUNTS)))
    # Written beside and renamed: a half-made file never stands for a whole one.
    with open(out + ".part", "w", encoding="utf-8") as lines:
        for (line,) in db.execute("SELECT to_json(item) FROM item").fetchall():
            lines.write(line + "\n")
    os.replace(out + ".part", out)


if __name__ == "__main__":
    main()
