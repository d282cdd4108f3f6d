"""A gateway that is told to send exact integer types, aliases, and datatypes in data."""

import births
import image
from decoders import is_same
from report import expect
from wire import BD_SEQ, REBIRTH, check_sequence, raw_value

UPLINK = 'types = "exact"\naliases = true\ndatatype_in_data = true\n'

# field of the metric and what is in it: signed numbers as two's complement of 32 or 64 bits
ENCODINGS = {
    "u16/plain": (image.UINT16, "int_value", 65534),
    "i16/plain": (image.INT16, "int_value", 0xFFFFFFFE),
    "i16/swapped": (image.INT16, "int_value", 0xFFFFFF33),
    "u32/abcd": (image.UINT32, "int_value", 0xEE6B2800),
    "i32/abcd": (image.INT32, "int_value", 0xF8A432EB),
    "i64/abcd": (image.INT64, "long_value", 0xFFFFFEE08E04FB35),
    "u64/dcba": (image.UINT64, "long_value", 0xFFFFFFFFFFFFFFFD),
    "f32/abcd": (image.FLOAT, "float_value", 1234.5677490234375),
    "f64/abcd": (image.DOUBLE, "double_value", 1234.5678),
    "scaled/i16": (image.DOUBLE, "double_value", -12.3),
    "bit/3": (image.BOOLEAN, "boolean_value", True),
    "text/utf-8": (image.STRING, "string_value", "空"),
}
# what two of the decoders are known to misread: the reason why "exact" is not the default
MISREAD = {
    "pysparkplug": (image.INT16,),  # refuses the whole message for a sign-extended Int16
    "sparkplug-payload": (image.UINT32,),  # looks for UInt32 in long_value
}
CHANGES = [("live/i32", "FFFF FFF4", -12), ("live/f32", "BF00 0000", -0.5), ("live/text", "6E65 7700 0000", "new")]


def run(bench):
    with bench.gateway("cell-2", uplink=UPLINK) as (gateway, node):
        gateway.start()
        with bench.report.check("exact: births arrive"):
            node.wait_births(image.DEVICES, timeout=15)
        read_births(bench, node)
        read_data(bench, node)
        end(bench, gateway, node)


def read_births(bench, node):
    check = bench.report.check
    with check("exact: encodings as the specification has them, Int16 -2 = 0xFFFFFFFE in int_value"):
        press = node.wait("DBIRTH", "press")
        for name, wanted in ENCODINGS.items():
            metric = press.metric(name)
            expect((metric.datatype, *raw_value(metric)), wanted, name)
    with check("aliases: one for each metric, unique over node and devices, none on bdSeq and Node Control"):
        check_aliases(node)
    for decoder in bench.decoders:
        misread = MISREAD.get(decoder.name, ())
        if image.INT16 not in misread:
            with check(f"exact: births read by {decoder.name}"):
                births.check_decoded(decoder, node, image.DEVICES, births.exact, lambda tag: tag.exact in misread)


def read_data(bench, node):
    since = node.mark()
    for name, words, value in CHANGES:
        with bench.report.check(f"aliases and datatype_in_data: {name} by alias alone, with its datatype"):
            tag = image.tag("press", name)
            alias = node.wait("DBIRTH", "press").metric(name).alias
            bench.floor.set_tag("press", name, words)
            message = node.wait("DDATA", "press", since, lambda message: any(m.alias == alias for m in message.payload.metrics))
            metric = next(metric for metric in message.payload.metrics if metric.alias == alias)
            expect(metric.HasField("name"), False, "a name beside the alias")
            expect(metric.datatype, tag.exact, "datatype")
            check_without_birth(bench, message, alias, tag, value)


def end(bench, gateway, node):
    with bench.report.check("exact, aliases: envelope"):
        check_sequence(node.messages())
        gateway.must_run()
    with bench.report.check("exact, aliases: the will of this session says NDEATH after kill -9"):
        bd_seq, since = node.wait("NBIRTH").bd_seq(), node.mark()
        gateway.kill()
        expect(node.wait("NDEATH", since=since).bd_seq(), bd_seq, BD_SEQ)


def check_aliases(node):
    birth = node.wait("NBIRTH")
    for metric in birth.payload.metrics:
        if metric.name in (BD_SEQ, REBIRTH):
            expect(metric.HasField("alias"), False, f"an alias on {metric.name}")
    taken = [metric.alias for metric in birth.payload.metrics if metric.HasField("alias")]
    for device in image.DEVICES:
        for metric in node.wait("DBIRTH", device).payload.metrics:
            assert metric.HasField("alias") and metric.name, f"{device} {metric.name} lacks its alias or its name"
            taken.append(metric.alias)
    expect(len(set(taken)), len(taken), "different aliases")


def check_without_birth(bench, message, alias, tag, value):
    """A reader that has never seen a birth finds the value all the same."""
    for decoder in bench.decoders:
        got = next(metric for metric in decoder.decode(message) if metric.alias == alias)
        expect(got.datatype, tag.exact, f"datatype for {decoder.name}")
        assert is_same(tag.exact, got.value, value), f"{decoder.name} reads {got.value!r}, wanted {value!r}"
