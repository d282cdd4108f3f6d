"""Commands that a host sends, good ones and garbage."""

import time

import pysparkplug
from pysparkplug._protobuf import Payload

from wire import BOOLEAN, INT32, REBIRTH, STRING


def rebirth():
    """As pysparkplug's host sends it."""
    now = int(time.time() * 1000)
    metric = pysparkplug.Metric(timestamp=now, name=REBIRTH, datatype=pysparkplug.DataType.BOOLEAN, value=True)
    return pysparkplug.NCmd(timestamp=now, metrics=(metric,)).encode(include_dtypes=True)


def write(tag, value):
    """A whole number for a tag of a device, as pysparkplug's host sends it."""
    now = int(time.time() * 1000)
    metric = pysparkplug.Metric(timestamp=now, name=tag, datatype=pysparkplug.DataType.INT32, value=value)
    return pysparkplug.DCmd(timestamp=now, metrics=(metric,)).encode(include_dtypes=True)


def bare_rebirth():
    """As the Sparkplug TCK sends it: without any timestamp."""
    return _command(REBIRTH, BOOLEAN, boolean_value=True)


def _command(name, datatype, **value):
    payload = Payload()
    payload.metrics.add(name=name, datatype=datatype, **value)
    return payload.SerializeToString()


GARBAGE = {
    "no bytes": b"",
    "no protobuf": bytes(range(256)),
    "a cut payload": _command(REBIRTH, BOOLEAN, boolean_value=True)[:-3],
    "a length beyond the end": b"\x12\xff\xff\xff\xff\x0f",
    "text": b"ONLINE",
    "no metrics": Payload(timestamp=1).SerializeToString(),
    "rebirth false": _command(REBIRTH, BOOLEAN, boolean_value=False),
    "rebirth null": _command(REBIRTH, BOOLEAN, is_null=True),
    "rebirth of another type": _command(REBIRTH, INT32, int_value=1),
    "an unknown metric": _command("Node Control/Fly", BOOLEAN, boolean_value=True),
    "a text for the birth sequence": _command("bdSeq", STRING, string_value="1"),
}
