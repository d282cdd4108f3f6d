"""What the devices hold, register by register, and what must come out of it.

The words are written as the standards lay the values out (IEEE 754, two's complement, UTF-8), each in the byte order
that the tag names; no code computes them.
"""

from dataclasses import dataclass, field

INT16, INT32, INT64, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 2, 3, 4, 6, 7, 8, 9, 10, 11, 12


@dataclass(frozen=True)
class Tag:
    device: str
    name: str
    keys: str  # as in the configuration
    table: str
    address: int  # on the wire, from 0
    words: str  # registers in hex; of coils and discrete inputs a bit; empty: the device has no such register
    wide: int  # datatype with types = "wide"
    exact: int  # datatype with types = "exact"
    value: object
    properties: dict = field(default_factory=dict)


CELSIUS = {"engUnit": "Cel", "unece": "CEL"}
RPM = {"engUnit": "/min", "unece": "RPM"}
KWH = {"engUnit": "kW.h", "unece": "KWH"}

TAGS = [
    Tag("press", "u16/plain", 'at = "hr:0", type = "u16"', "hr", 0, "FFFE", INT32, UINT16, 65534),
    Tag("press", "u16/default", 'at = "hr:0x1", unit = "rpm"', "hr", 1, "0BB8", INT32, UINT16, 3000, RPM),
    Tag("press", "i16/plain", 'at = "hr:2", type = "i16"', "hr", 2, "FFFE", INT32, INT16, -2),
    Tag("press", "i16/swapped", 'at = "hr:3", type = "i16", order = "BADC"', "hr", 3, "33FF", INT32, INT16, -205),
    Tag("press", "u32/abcd", 'at = "hr:4", type = "u32"', "hr", 4, "EE6B 2800", INT64, UINT32, 4000000000),
    Tag("press", "u32/cdab", 'at = "hr:6", type = "u32", order = "CDAB"', "hr", 6, "2800 EE6B", INT64, UINT32, 4000000000),
    Tag("press", "u32/badc", 'at = "hr:8", type = "u32", order = "BADC"', "hr", 8, "6BEE 0028", INT64, UINT32, 4000000000),
    Tag("press", "u32/dcba", 'at = "hr:10", type = "u32", order = "DCBA"', "hr", 10, "0028 6BEE", INT64, UINT32, 4000000000),
    Tag("press", "i32/abcd", 'at = "hr:12", type = "i32"', "hr", 12, "F8A4 32EB", INT32, INT32, -123456789),
    Tag("press", "i32/cdab", 'at = "hr:14", type = "i32", order = "CDAB"', "hr", 14, "32EB F8A4", INT32, INT32, -123456789),
    Tag("press", "i32/badc", 'at = "hr:16", type = "i32", order = "BADC"', "hr", 16, "A4F8 EB32", INT32, INT32, -123456789),
    Tag("press", "i32/dcba", 'at = "hr:18", type = "i32", order = "DCBA"', "hr", 18, "EB32 A4F8", INT32, INT32, -123456789),
    Tag("press", "f32/abcd", 'at = "hr:20", type = "f32"', "hr", 20, "449A 522B", FLOAT, FLOAT, 1234.5677490234375),
    Tag("press", "f32/cdab", 'at = "hr:22", type = "f32", order = "CDAB"', "hr", 22, "522B 449A", FLOAT, FLOAT, 1234.5677490234375),
    Tag("press", "f32/badc", 'at = "hr:24", type = "f32", order = "BADC"', "hr", 24, "9A44 2B52", FLOAT, FLOAT, 1234.5677490234375),
    Tag("press", "f32/dcba", 'at = "hr:26", type = "f32", order = "DCBA"', "hr", 26, "2B52 9A44", FLOAT, FLOAT, 1234.5677490234375),
    Tag("press", "i64/abcd", 'at = "hr:28", type = "i64"', "hr", 28, "FFFF FEE0 8E04 FB35", INT64, INT64, -1234567890123),
    Tag("press", "i64/cdab", 'at = "hr:32", type = "i64", order = "CDAB"', "hr", 32, "FB35 8E04 FEE0 FFFF", INT64, INT64, -1234567890123),
    Tag("press", "i64/badc", 'at = "hr:36", type = "i64", order = "BADC"', "hr", 36, "FFFF E0FE 048E 35FB", INT64, INT64, -1234567890123),
    Tag("press", "i64/dcba", 'at = "hr:40", type = "i64", order = "DCBA"', "hr", 40, "35FB 048E E0FE FFFF", INT64, INT64, -1234567890123),
    Tag("press", "u64/abcd", 'at = "hr:44", type = "u64"', "hr", 44, "0020 0000 0000 0001", UINT64, UINT64, 9007199254740993),
    Tag("press", "u64/cdab", 'at = "hr:48", type = "u64", order = "GHEFCDAB"', "hr", 48, "0001 0000 0000 0020", UINT64, UINT64, 9007199254740993),
    Tag("press", "u64/badc", 'at = "hr:52", type = "u64", order = "BADC"', "hr", 52, "2000 0000 0000 0100", UINT64, UINT64, 9007199254740993),
    Tag("press", "u64/dcba", 'at = "hr:56", type = "u64", order = "DCBA"', "hr", 56, "FDFF FFFF FFFF FFFF", UINT64, UINT64, 18446744073709551613),
    Tag("press", "f64/abcd", 'at = "hr:60", type = "f64"', "hr", 60, "4093 4A45 6D5C FAAD", DOUBLE, DOUBLE, 1234.5678),
    Tag("press", "f64/cdab", 'at = "hr:64", type = "f64", order = "CDAB"', "hr", 64, "FAAD 6D5C 4A45 4093", DOUBLE, DOUBLE, 1234.5678),
    Tag("press", "f64/badc", 'at = "hr:68", type = "f64", order = "BADC"', "hr", 68, "9340 454A 5C6D ADFA", DOUBLE, DOUBLE, 1234.5678),
    Tag("press", "f64/dcba", 'at = "hr:72", type = "f64", order = "DCBA"', "hr", 72, "ADFA 5C6D 454A 9340", DOUBLE, DOUBLE, 1234.5678),
    Tag("press", "bit/3", 'at = "hr:76.3"', "hr", 76, "1008", BOOLEAN, BOOLEAN, True),
    Tag("press", "bit/4", 'at = "hr:76.4"', "hr", 76, "1008", BOOLEAN, BOOLEAN, False),
    Tag("press", "bit/12", 'at = "hr:76.12", type = "bool"', "hr", 76, "1008", BOOLEAN, BOOLEAN, True),
    Tag("press", "text/plain", 'at = "hr:80", type = "string", length = 4', "hr", 80, "5344 4D36 3330 0000", STRING, STRING, "SDM630"),
    Tag("press", "text/swapped", 'at = "hr:84", type = "string", length = 3, order = "BA"', "hr", 84, "4453 364D 3033", STRING, STRING, "SDM630"),
    Tag("press", "text/utf-8", 'at = "hr:87", type = "string", length = 2', "hr", 87, "E7A9 BA20", STRING, STRING, "空"),
    Tag("press", "scaled/i16", 'at = "hr:90", type = "i16", scale = 0.1, unit = "Cel"', "hr", 90, "FF85", DOUBLE, DOUBLE, -12.3, CELSIUS),
    Tag("press", "scaled/offset", 'at = "hr:91", type = "u16", scale = 0.5, offset = -40', "hr", 91, "000A", DOUBLE, DOUBLE, -35.0),
    Tag("press", "scaled/f32", 'at = "hr:92", type = "f32", scale = 10', "hr", 92, "3FC0 0000", DOUBLE, DOUBLE, 15.0),
    Tag("press", "scaled/u32", 'at = "hr:94", type = "u32", scale = 0.01, unit = "kWh"', "hr", 94, "0001 E240", DOUBLE, DOUBLE, 1234.56, KWH),
    Tag("press", "manual/five", 'at = "40101"', "hr", 100, "04D2", INT32, UINT16, 1234),
    Tag("press", "manual/six", 'at = "400102"', "hr", 101, "10E1", INT32, UINT16, 4321),
    Tag("press", "live/f32", 'at = "hr:102", type = "f32", unit = "Cel"', "hr", 102, "3F80 0000", FLOAT, FLOAT, 1.0, CELSIUS),
    Tag("press", "live/i32", 'at = "hr:104", type = "i32"', "hr", 104, "FFFF FFFF", INT32, INT32, -1),
    Tag("press", "live/text", 'at = "hr:106", type = "string", length = 3', "hr", 106, "6F6E 6500 0000", STRING, STRING, "one"),
    Tag("oven", "input/i16", 'at = "ir:0", type = "i16"', "ir", 0, "8000", INT32, INT16, -32768),
    Tag("oven", "input/f32", 'at = "ir:0x2", type = "f32", order = "CDAB", unit = "Cel"', "ir", 2, "0000 C2C8", FLOAT, FLOAT, -100.0, CELSIUS),
    Tag("oven", "input/manual", 'at = "30011"', "ir", 10, "0007", INT32, UINT16, 7),
    Tag("oven", "gap/before", 'at = "ir:20", type = "i16"', "ir", 20, "FFFF", INT32, INT16, -1),
    Tag("oven", "gap/absent", 'at = "ir:21", type = "i16"', "ir", 21, "", INT32, INT16, None),
    Tag("oven", "gap/after", 'at = "ir:22", type = "i16"', "ir", 22, "0001", INT32, INT16, 1),
    Tag("oven", "coil/0", 'at = "coil:0"', "coil", 0, "1", BOOLEAN, BOOLEAN, True),
    Tag("oven", "coil/1", 'at = "coil:1", type = "bool"', "coil", 1, "0", BOOLEAN, BOOLEAN, False),
    Tag("oven", "coil/manual", 'at = "00005"', "coil", 4, "1", BOOLEAN, BOOLEAN, True),
    Tag("oven", "di/3", 'at = "di:3"', "di", 3, "1", BOOLEAN, BOOLEAN, True),
    Tag("oven", "di/manual", 'at = "10003"', "di", 2, "0", BOOLEAN, BOOLEAN, False),
    Tag("oven", "live/i16", 'at = "hr:0", type = "i16"', "hr", 0, "0005", INT32, INT16, 5),
    Tag("drive", "torque", 'at = "hr:0x210", type = "i16", scale = 0.1', "hr", 528, "FFF9", DOUBLE, DOUBLE, -0.7),
    Tag("drive", "distance", 'at = "hr:0x212", type = "i32"', "hr", 530, "FFFE FFFF", INT32, INT32, -2),
    Tag("drive", "energy", 'at = "hr:0x214", type = "f64"', "hr", 532, "0000 0000 8000 C05E", DOUBLE, DOUBLE, -122.0),
    Tag("drive", "serial", 'at = "ir:0", type = "string", length = 2, order = "AB"', "ir", 0, "414C 3039", STRING, STRING, "AL09"),
    Tag("drive", "enabled", 'at = "coil:9"', "coil", 9, "1", BOOLEAN, BOOLEAN, True),
    Tag("drive", "live/u16", 'at = "hr:0x218"', "hr", 536, "0001", INT32, UINT16, 1),
]

DEVICES = ("press", "oven", "drive")
ABSENT = "gap/absent"
TABLE_SIZE = {"hr": 600, "ir": 64, "coil": 16, "di": 16}


def of_device(device):
    return [tag for tag in TAGS if tag.device == device]


def tag(device, name):
    return next(tag for tag in TAGS if (tag.device, tag.name) == (device, name))


def words(text):
    return [int(word, 16) for word in text.split()]


def tables(device):
    """The registers and bits of a device: table -> address -> word. What no tag asks for is 0, and there."""
    served = {table: dict.fromkeys(range(size), 0) for table, size in TABLE_SIZE.items()}
    for tag in of_device(device):
        if not tag.words:
            del served[tag.table][tag.address]
        for offset, word in enumerate(words(tag.words)):
            served[tag.table][tag.address + offset] = word
    return served
