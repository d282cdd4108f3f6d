"""mqtt-spb-wrapper behind a pipe: a payload a line comes in, what it holds goes out."""

import base64
import json
import sys

from mqtt_spb_wrapper.spb_base import SpbPayloadParser
from mqtt_spb_wrapper.spb_protobuf import Payload


def complete(raw, birth):
    """What a host knows from the birth: which name an alias stands for, and each metric's datatype."""
    data, born = Payload.FromString(raw), Payload.FromString(birth)
    names = {metric.alias: metric.name for metric in born.metrics if metric.HasField("alias")}
    datatypes = {metric.name: metric.datatype for metric in born.metrics}
    for metric in data.metrics:
        if not metric.HasField("name"):
            metric.name = names[metric.alias]
        if not metric.HasField("datatype"):
            metric.datatype = datatypes[metric.name]
    return data.SerializeToString()


def decode(request):
    raw = base64.b64decode(request["payload"])
    if request["birth"]:
        raw = complete(raw, base64.b64decode(request["birth"]))
    payload = SpbPayloadParser(raw).payload
    if payload is None:
        raise ValueError("it cannot read the payload")
    return [
        {
            "name": metric.get("name"),
            "alias": metric.get("alias"),
            "datatype": metric.get("datatype"),
            "value": metric.get("value"),
            "timestamp": int(metric["timestamp"]),
            "properties": metric.get("properties", {}).get("key_value", {}),
        }
        for metric in payload.get("metrics", [])
    ]


for line in sys.stdin:
    try:
        answer = {"metrics": decode(json.loads(line))}
    except Exception as error:  # the far side reports it
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
