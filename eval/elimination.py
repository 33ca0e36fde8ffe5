#!/usr/bin/env python3
"""Share of sites, and of recorded hits, that need no probe of their own.

usage: eval/elimination.py OUT/KERNEL EVAL/KERNEL COMPARTMENT...

Reads OUT/KERNEL/COMPARTMENT/sites.json, and of a recording EVAL/KERNEL/COMPARTMENT/{recorded-sites,recording}.json.
Prints the two tables of docs/evaluation/elimination.md.
"""

import json
import sys
from pathlib import Path


def place(sites, site):
    at = site["location"]
    return sites["images"][at["image"]]["name"], at["section"], at["offset"]


def kind(cover):
    if cover == "any_address":
        return "per-CPU"
    if "fresh" in cover:
        return "fresh"
    return "joined" if cover["check"].get("joined") else "implied"


def always(cover):
    return cover == "any_address" or "fresh" in cover or cover["check"]["under"] == "always"


def percent(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "-"


def static(name, sites):
    probed = [s for s in sites["sites"] if s["coverage"] == "probe"]
    covered = [s["covered"] for s in probed if "covered" in s]
    kinds = {k: sum(kind(c) == k for c in covered) for k in ("implied", "joined", "fresh", "per-CPU")}
    under_deny = sum(map(always, covered))
    cells = [name, len(probed), *kinds.values(), percent(len(covered), len(probed)), percent(under_deny, len(probed))]
    print("| " + " | ".join(map(str, cells)) + " |")


def dynamic(name, sites, recorded, recording):
    covers = {place(sites, s): s.get("covered") for s in sites["sites"]}
    hits = audit = deny = 0
    kinds = dict.fromkeys(("implied", "joined", "fresh", "per-CPU"), 0)
    for pair in recording["pairs"]:
        if pair["site"] >= len(recorded["sites"]):
            continue
        count = pair["count"]
        cover = covers.get(place(recorded, recorded["sites"][pair["site"]]))
        hits += count
        if cover:
            audit += count
            deny += count if always(cover) else 0
            kinds[kind(cover)] += count
    shares = [percent(count, hits) for count in kinds.values()]
    cells = [name, f"{hits:,}", *shares, percent(audit, hits), percent(deny, hits)]
    print("| " + " | ".join(map(str, cells)) + " |")


def main():
    out, recordings, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    read = lambda path: json.loads(path.read_text())
    all_sites = {name: read(out / name / "sites.json") for name in names}
    head = "implied | joined | fresh | per-CPU | without probe, audit and kill | without probe, deny |"
    print(f"| compartment | could be probed | {head}")
    print("|---|" + "---:|" * 7)
    for name in names:
        static(name, all_sites[name])
    print(f"\n| compartment | hits | {head}")
    print("|---|" + "---:|" * 7)
    for name in names:
        folder = recordings / name
        if (folder / "recording.json").exists():
            dynamic(name, all_sites[name], read(folder / "recorded-sites.json"), read(folder / "recording.json"))


main()
