"""Three independent readers of Sparkplug payloads, behind one face.

`decode(message, birth)` gives a list of `Decoded`; with `birth`, the reader also knows what a host keeps of it.
"""

import base64
import json
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pysparkplug

import image

HERE = Path(__file__).parent
NPM_NAMES = {
    "Int8": 1, "Int16": 2, "Int32": 3, "Int64": 4, "UInt8": 5, "UInt16": 6, "UInt32": 7, "UInt64": 8,
    "Float": 9, "Double": 10, "Boolean": 11, "String": 12,
}  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    name: str
    alias: int
    datatype: int
    value: object
    timestamp: int
    properties: dict


class PySparkplug:
    """Has no access to properties."""

    name = "pysparkplug"
    shows_properties = False
    kinds = {"NBIRTH": pysparkplug.NBirth, "DBIRTH": pysparkplug.DBirth, "DDATA": pysparkplug.DData}

    def decode(self, message, birth=None):
        born = self.kinds[birth.kind].decode(birth.raw) if birth else None
        payload = self.kinds[message.kind].decode(message.raw, birth=born)
        return [
            Decoded(m.name, m.alias, int(m.datatype), None if m.is_null else m.value, m.timestamp, {})
            for m in payload.metrics
        ]

    def close(self):
        pass


class Piped:
    """A reader in a process of its own."""

    shows_properties = True

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )

    def decode(self, message, birth=None):
        request = {"payload": encoded(message), "birth": encoded(birth) if birth else None}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, f"{self.name} has ended"
        answer = json.loads(line)
        assert "error" not in answer, f"{self.name}: {answer.get('error')}"
        for metric in answer["metrics"]:
            metric["datatype"] = NPM_NAMES.get(metric["datatype"], metric["datatype"])
        return [Decoded(**metric) for metric in answer["metrics"]]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def encoded(message):
    return base64.b64encode(message.raw).decode()


def all_of(wrapper_python, node, node_modules):
    yield PySparkplug()
    yield Piped("mqtt-spb-wrapper", [wrapper_python, HERE / "decode_spb_wrapper.py"])
    yield Piped("sparkplug-payload", [node, HERE / "decode_npm.js"], {"NODE_PATH": str(node_modules)})


def is_same(datatype, got, wanted):
    """Equal as values of `datatype`: readers differ in how they show one."""
    if got is None or wanted is None:
        return got is wanted
    if datatype == image.FLOAT:
        return struct.pack(">f", got) == struct.pack(">f", wanted)
    if datatype == image.DOUBLE:
        return struct.pack(">d", got) == struct.pack(">d", wanted)
    if datatype == image.BOOLEAN:
        return got is wanted
    if datatype == image.STRING:
        return got == wanted
    return not isinstance(got, bool) and int(got) == wanted


def differences(decoded, tags, datatype_of):
    """What `decoded` has otherwise than `tags` want it."""
    metrics = {metric.name: metric for metric in decoded}
    found = []
    if sorted(metric.name for metric in decoded) != sorted(tag.name for tag in tags):
        found.append(f"metrics {sorted(metrics)}")
    for tag in tags:
        metric, datatype = metrics.get(tag.name), datatype_of(tag)
        if metric is None:
            continue
        if metric.datatype != datatype:
            found.append(f"{tag.device} {tag.name}: datatype {metric.datatype}, wanted {datatype}")
        if not is_same(datatype, metric.value, tag.value):
            found.append(f"{tag.device} {tag.name}: {metric.value!r}, wanted {tag.value!r}")
    return found
