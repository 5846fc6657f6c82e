"""Rows of 20 columns checked against the schema and put into a load's body, on one core; beside jansson, which only parses them."""
import json

import bench

ROUNDS = bench.size(20, 2)
for line in bench.measured([bench.BIN / "tests/rows_bench", bench.size(20000, 500), ROUNDS])[3].splitlines():
    found = json.loads(line)
    how = "with spaces, as Python writes them" if found["spaced"] else "compact"
    bench.report(f"rows of 20 columns, {how}", found["mb_s"], "MB/s", 600,
                 beside=f"{found['ns_a_row']:,.0f} ns for {found['row_bytes']} bytes; {found['mb_s'] / found['jansson_mb_s']:.1f} x json_loadb")
    bench.report(f"the same, {how}, compressed", found["gzip_mb_s"], "MB/s", beside=f"{found['gzip_ratio']:.1f} times smaller, zlib level 1")
