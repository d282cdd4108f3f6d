"""What each reader makes of each datatype with `types = "exact"`, held against the table in docs/sparkplug.md.

Each metric of the births goes to each reader alone, in a message of its own, for some readers refuse a whole message for one
metric in it.
"""

from dataclasses import dataclass
from pathlib import Path

from pysparkplug._protobuf import Payload

import image
from decoders import is_same
from wire import raw_value

DOCUMENT = Path(__file__).parents[2] / "docs" / "sparkplug.md"
DATATYPES = {
    "Int16": image.INT16, "UInt16": image.UINT16, "Int32": image.INT32, "UInt32": image.UINT32, "Int64": image.INT64,
    "UInt64": image.UINT64, "Float": image.FLOAT, "Double": image.DOUBLE, "Boolean": image.BOOLEAN, "String": image.STRING,
}  # fmt: skip
SIGNED_BITS = {image.INT16: 32, image.INT32: 32, image.INT64: 64}
HEAD = "| datatype | google protobuf |"


@dataclass(frozen=True)
class Alone:
    """A birth with one metric."""

    kind: str
    raw: bytes


def alone(birth, metric):
    payload = Payload()
    payload.CopyFrom(birth.payload)
    del payload.metrics[:]
    payload.metrics.add().CopyFrom(metric)
    return Alone(birth.kind, payload.SerializeToString())


def by_protobuf(metric, datatype):
    """The number as the specification has it: signed ones in two's complement over all of the field."""
    value = raw_value(metric)[1]
    bits = SIGNED_BITS.get(datatype)
    return value - (1 << bits) if bits and value is not None and value >> (bits - 1) else value


def by_reader(decoder, birth, metric):
    try:
        return decoder.decode(alone(birth, metric))[0].value
    except Exception as error:
        return error


def outcome(datatype, got, wanted):
    if isinstance(got, Exception):
        return "the message is refused"
    if is_same(datatype, got, wanted):
        return "right"
    return "null" if got is None else "another value"


def cell(outcomes):
    """`outcomes` of (value, outcome): one for all, or one for the negative ones and one for the others."""
    kinds = {how for _, how in outcomes}
    if len(kinds) == 1:
        return kinds.pop()
    negative = {how for value, how in outcomes if value is not None and not isinstance(value, str) and value < 0}
    others = {how for value, how in outcomes if value is None or isinstance(value, str) or value >= 0}
    assert len(negative) == len(others) == 1, f"neither alike nor by sign: {outcomes}"
    return f"negative: {negative.pop()}; others: {others.pop()}"


def measure(bench, node, host_metrics):
    """Rows of the table; `host_metrics` is what the host has read, by device and name."""
    births = {device: node.wait("DBIRTH", device) for device in image.DEVICES}
    readers = {"google protobuf": None} | {decoder.name: decoder for decoder in bench.decoders} | {"srad": None}
    rows = [HEAD + "".join(f" {name} |" for name in list(readers)[1:]), "|---" * (len(readers) + 1) + "|"]
    for name, datatype in DATATYPES.items():
        tags = [tag for tag in image.TAGS if tag.exact == datatype and tag.words]
        cells = []
        for reader, decoder in readers.items():
            outcomes = []
            for tag in tags:
                metric = births[tag.device].metric(tag.name)
                if reader == "google protobuf":
                    got = by_protobuf(metric, datatype)
                elif reader == "srad":
                    got = host_metrics[tag.device][tag.name]["value"]
                else:
                    got = by_reader(decoder, births[tag.device], metric)
                outcomes.append((tag.value, outcome(datatype, got, tag.value)))
            cells.append(cell(outcomes))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def check(bench, node, host_metrics):
    measured = measure(bench, node, host_metrics)
    lines = DOCUMENT.read_text().splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith(HEAD)), None)
    said = lines[start : start + len(measured)] if start is not None else []
    assert said == measured, "the table of docs/sparkplug.md is to be\n" + "\n".join(measured)
