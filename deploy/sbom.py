#!/usr/bin/env python3
"""Prints a software bill of materials of both programs: CycloneDX 1.6 as JSON.

    deploy/sbom.py [TARGET]     (the platform, such as x86_64-unknown-linux-gnu; that of this machine)

Components are the crates that are linked into the programs, with the SHA-256 by which cargo takes them, and the libraries
in C that some crates carry, as LICENSES-third-party.md has them. Needs cargo and nothing else, not even the network once the
crates are there. The same sources give the same document to the last byte; SOURCE_DATE_EPOCH gives it a date.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["edp-coordinator", "edp-worker"]


def cargo(*words):
    # The features are those of the programs alone, whatever somebody has cargo unify.
    env = {name: value for name, value in os.environ.items() if name != "CARGO_RESOLVER_FEATURE_UNIFICATION"}
    return subprocess.run(["cargo", *words], cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def host():
    version = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search(r"^host: (\S+)$", version, re.M).group(1)


def linked(target):
    """Names and versions of the crates that are linked in. `cargo tree` knows the features that the programs ask for;
    `cargo metadata` adds those of the tests."""
    words = ["tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "none", "--format", "{p}"]
    for program in PROGRAMS:
        words += ["--package", program]
    found = (re.match(r"(\S+) v(\S+)(.*)", line) for line in cargo(*words).splitlines() if line)
    return {(match.group(1), match.group(2)) for match in found if "(proc-macro)" not in match.group(3)}


def checksums():
    """SHA-256 of crates, by name and version."""
    found = {}
    for entry in (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]:
        of = dict(re.findall(r'^(name|version|checksum) = "([^"]+)"$', entry, re.M))
        if "checksum" in of:
            found[of["name"], of["version"]] = of["checksum"]
    return found


def bundled():
    """The rows of the table of libraries in C, by crate."""
    found = {}
    for line in (ROOT / "LICENSES-third-party.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and cells[4].startswith("`"):
            name, version, crate, licence, text = cells
            found[crate] = {"name": name, "version": version, "licence": licence, "text": text.strip("`")}
    return found


def licence_of(package):
    if package["license"]:
        # as crates wrote it before SPDX expressions
        return [{"expression": package["license"].replace("/", " OR ")}]
    if package["license_file"]:
        return [{"license": {"name": f"see {package['license_file']} in the crate"}}]
    return []


def component(package, checksum):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    found = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
    if package["name"] in PROGRAMS:
        found["type"] = "application"
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    licences = licence_of(package)
    if licences:
        found["licenses"] = licences
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def library(crate, row):
    """A library in C, which has no registry of its own: it is named by the crate that carries it."""
    slug = re.sub(r"[^a-z0-9]+", "-", row["name"].lower()).strip("-")
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/{slug}@{row['version']}",
        "name": row["name"],
        "version": row["version"],
        "purl": f"pkg:generic/{slug}@{row['version']}",
        "description": f"in C, built from the sources in the crate {crate['name']} {crate['version']}",
        "licenses": [{"expression": row["licence"]}],
        "properties": [{"name": "edp:licence-text", "value": f"{crate['name']}/{row['text']}"}],
    }


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else host()
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", target))
    wanted, sums, rows = linked(target), checksums(), bundled()
    packages = {p["id"]: p for p in metadata["packages"] if (p["name"], p["version"]) in wanted}
    ref = {at: f"pkg:cargo/{p['name']}@{p['version']}" for at, p in packages.items()}
    components, dependencies = [], {}
    for at, package in packages.items():
        components.append(component(package, sums.get((package["name"], package["version"]))))
        dependencies[ref[at]] = set()
    for node in metadata["resolve"]["nodes"]:
        if node["id"] in packages:
            normal = (d["pkg"] for d in node["deps"] if any(k["kind"] is None for k in d["dep_kinds"]))
            dependencies[ref[node["id"]]] |= {ref[at] for at in normal if at in ref}
    for at, package in packages.items():
        if package["name"] in rows:
            own = library(package, rows[package["name"]])
            components.append(own)
            dependencies[own["bom-ref"]] = set()
            dependencies[ref[at]].add(own["bom-ref"])
    version = next(p["version"] for p in packages.values() if p["name"] == PROGRAMS[0])
    whole = f"pkg:generic/edp@{version}"
    dependencies[whole] = {ref[at] for at, p in packages.items() if p["name"] in PROGRAMS}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": whole, "name": "edp", "version": version, "purl": whole},
            "properties": [{"name": "edp:target", "value": target}],
        },
        "components": sorted(components, key=lambda one: one["bom-ref"]),
        "dependencies": [{"ref": one, "dependsOn": sorted(on)} for one, on in sorted(dependencies.items())],
    }
    if os.environ.get("SOURCE_DATE_EPOCH"):
        date = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
        document["metadata"]["timestamp"] = date.strftime("%Y-%m-%dT%H:%M:%SZ")
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
