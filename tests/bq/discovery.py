#!/usr/bin/env python3
"""discovery.py extract DOCUMENT: the part of BigQuery's discovery document that this project meets, as JSON on stdout.
discovery.py check DOCUMENT: whether tests/golden/rest/bigquery.json still is that part; exit status 1 when it is not.

The document (bigquery.v2.json, in PyPI's google-api-python-client) is half a megabyte and most of it is prose under its own licence. Kept here are
names and types alone, of METHODS and of the schemas they lead to, so that every test can validate with it, without a network. What is
said only in prose and is needed, whether a field is required, is read from how its description begins.
"""
import json
import pathlib
import sys

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/rest/bigquery.json"
METHODS = ["datasets.get", "datasets.insert", "datasets.list", "jobs.cancel", "jobs.get", "jobs.getQueryResults", "jobs.insert", "jobs.list",
           "tabledata.list", "tables.delete", "tables.get", "tables.insert", "tables.list", "tables.patch"]
# Fields we neither send nor are answered by the model, with much behind them. Whoever begins to use one takes it out of here.
LEFT_OUT = {"mlStatistics", "modelTraining", "sparkStatistics", "searchStatistics", "vectorSearchStatistics", "queryPlan", "performanceInsights",
            "access", "biEngineStatistics", "materializedViewStatistics", "metadataCacheStatistics", "externalDataConfiguration",
            "externalTableDefinitions", "tableDefinitions"}
KEPT = ("type", "format", "enum", "repeated", "location", "deprecated", "readOnly")
KNOWN = {*KEPT, "required", "properties", "items", "additionalProperties", "$ref", "description", "enumDescriptions", "default", "id", "pattern"}


def schema(given, references):
    """One schema without its prose; the names of those it refers to are added to references."""
    unknown = set(given) - KNOWN
    if unknown:
        raise SystemExit(f"discovery.py: keywords that nobody validates by: {sorted(unknown)}")
    out = {key: given[key] for key in KEPT if key in given}
    words = given.get("description", "")
    if words.startswith("Output only."):
        out["readOnly"] = True
    if "$ref" in given:
        out["$ref"] = given["$ref"]
        references.append(given["$ref"])
    if "properties" in given:
        out["properties"] = {name: schema(inner, references) for name, inner in sorted(given["properties"].items()) if name not in LEFT_OUT}
        required = [name for name, inner in given["properties"].items() if inner.get("description", "").startswith("Required.")]
        if required:
            out["required"] = sorted(required)
    for key in ("items", "additionalProperties"):
        if key in given:
            out[key] = schema(given[key], references)
    return out


def extract(document):
    methods, references = {}, []
    for name in METHODS:
        resource, verb = name.split(".")
        given = document["resources"][resource]["methods"][verb]
        assert given["id"] == f"bigquery.{name}"
        method = {"httpMethod": given["httpMethod"], "path": document["basePath"] + given["path"]}
        for key in ("request", "response"):
            if key in given:
                method[key] = given[key]["$ref"]
                references.append(given[key]["$ref"])
        if "mediaUpload" in given:
            method["uploadPath"] = given["mediaUpload"]["protocols"]["simple"]["path"]
        inside = [p for p in given["parameters"].values() if p["location"] == "path"]
        assert all(p["pattern"] == "^[^/]+$" and p["required"] for p in inside)  # each is one whole segment, which the validator takes for granted
        method["parameters"] = {key: schema(inner, references) for key, inner in sorted(given["parameters"].items())}
        methods[name] = method
    schemas = {}
    while references:
        name = references.pop()
        if name not in schemas:
            schemas[name] = None
            schemas[name] = schema(document["schemas"][name], references)
    return {"revision": document["revision"], "parameters": {key: schema(inner, []) for key, inner in sorted(document["parameters"].items())},
            "methods": methods, "schemas": dict(sorted(schemas.items()))}


def text(part):
    """One line for each method and schema, so that a difference shows what has changed."""
    lines = ["{", f' "revision": {json.dumps(part["revision"])},', f' "parameters": {json.dumps(part["parameters"])},']
    for key in ("methods", "schemas"):
        rows = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in part[key].items()]
        lines += [f' "{key}": {{', ",\n".join(rows), " }" + ("," if key == "methods" else "")]
    return "\n".join(lines) + "\n}\n"


def main():
    what, path = sys.argv[1:]
    made = text(extract(json.loads(pathlib.Path(path).read_text(encoding="utf-8"))))
    if what == "extract":
        sys.stdout.write(made)
    elif GOLDEN.read_text(encoding="utf-8") != made:
        sys.exit(f"{GOLDEN} is not what {path} says; discovery.py extract makes it anew")


if __name__ == "__main__":
    main()
