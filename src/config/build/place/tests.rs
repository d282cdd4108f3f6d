use super::*;
use crate::config;

/// A tag with these keys, in a device with these: where it lies and what it is, or the first finding.
#[track_caller]
fn check(device: &str, tag: &str, expected: &str) {
    let text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1:1883'\n[link.l]\ntcp = '127.0.0.1:502'\n\
         [device.d]\nlink = 'l'\ntags = [{{ name = 't', {tag} }}]\n{device}\n"
    );
    let shown = match config::parse("test", &text).site {
        Ok(site) => {
            let tag = &site.tags[0];
            let Some(layout) = tag.layout() else { panic!("it is read") };
            format!("{} {:?} {:?}", layout.span, layout.data_type, layout.order)
        }
        Err(findings) => findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>().join("; "),
    };
    assert!(shown.starts_with(expected), "{device} {tag}: {shown}");
}

#[test]
fn a_type_takes_its_registers() {
    for (of, expected) in [
        ("i8", "hr:5 Byte { is_high: false, form: Signed }"),
        ("bcd8", "hr:5 Byte { is_high: false, form: Bcd }"),
        ("f16", "hr:5 F16"),
        ("i48", "hr:5+3 I48"),
        ("u48", "hr:5+3 U48"),
        ("bcd16", "hr:5 Bcd { digits: 4 }"),
        ("bcd24", "hr:5+2 Bcd { digits: 6 }"),
        ("bcd40", "hr:5+3 Bcd { digits: 10 }"),
        ("bcd64", "hr:5+4 Bcd { digits: 16 }"),
        ("hex", "`type`: type \"hex\" is of serial protocols"),
    ] {
        check("", &format!("at = 'hr:5', type = '{of}'"), expected);
    }
    check("", "at = 'hr:5', type = 'datetime', format = 'YYMM DDhh mmss'", "hr:5+3 Time");
    check(
        "",
        "at = 'hr:5', type = 'string', length = 4, encoding = 'gbk'",
        "hr:5+4 Text { encoding: Gbk, is_sparse: false }",
    );
    check(
        "",
        "at = 'hr:5', type = 'string', length = 4, order = 'B'",
        "hr:5+4 Text { encoding: Auto, is_sparse: true }",
    );
    check(
        "",
        "at = 'hr:5', type = 'u48', order = 'EFCDAB'",
        "hr:5+3 U48 ByteOrder { words_reversed: true, bytes_swapped: false }",
    );
}

#[test]
fn what_stands_after_the_point_says_the_type() {
    check("", "at = 'hr:5.3'", "hr:5 Bool { bit: Some(3) }");
    check("", "at = 'hr:0x2119.0-1'", "hr:8473 Slice { first: 0, last: 1 }");
    check("", "at = 'hr:9.0-1', type = 'u16'", "hr:9 Slice { first: 0, last: 1 }");
    check("", "at = 'hr:9.8-15'", "hr:9 Byte { is_high: true, form: Unsigned }");
    check("", "at = 'hr:9.8-15', type = 'i8'", "hr:9 Byte { is_high: true, form: Signed }");
    check("", "at = 'hr:9.0-7', type = 'bcd8'", "hr:9 Byte { is_high: false, form: Bcd }");
    check("", "at = 'hr:9.0-8', type = 'u8'", "bits 0 to 8 are no \"u8\"");
    // a type that stands for all tags does not stand against an address
    check("defaults = { type = 'f32' }", "at = 'hr:5.3'", "hr:5 Bool { bit: Some(3) }");
    check("defaults = { type = 'f32' }", "at = 'hr:9.8-15'", "hr:9 Byte { is_high: true");
    check("defaults = { type = 'f32' }", "at = 'coil:9'", "coil:9 Bool { bit: None }");
    check("defaults = { type = 'f32' }", "at = 'hr:9'", "hr:9+2 F32");
}

#[test]
fn areas_are_of_the_type_and_of_the_device() {
    let areas = "type = 'p'\n[device.d.areas]\nX = { at = 'di:0x10', count = 8, octal = true }\n[type.p]\nprotocol = 'modbus'\nbase = 1\norder = 'CDAB'\n\
                 [type.p.areas]\nX = { at = 'di:0', count = 8 }\nD = { at = 'hr:0x1000', count = 10 }";
    check(areas, "at = 'X7'", "di:23 Bool");
    check(areas, "at = 'D3', type = 'u32'", "hr:4099+2 U32 ByteOrder { words_reversed: true");
    check(areas, "at = 'D3.4'", "hr:4099 Bool { bit: Some(4) }");
    check(areas, "at = 'D9', type = 'u32'", "hr:4105+2 ends after the area of `D9`");
    check(areas, "at = 'hr:1'", "hr:0 U16");
    check("areas = { D = { at = 'hr:0' } }", "at = 'hr:0'", "`areas`: area D: it needs `count`");
    check("areas = { d = { at = 'hr:0', count = 1 } }", "at = 'hr:0'", "`areas`: an area's name is letters");
    check("areas = { D = [] }", "at = 'hr:0'", "`areas`: area D: wanted 1 to 64 parts");
    check(
        "areas = { D = { at = 'hr:0', count = 1, size = 2 } }",
        "at = 'hr:0'",
        "`areas`: area D: unknown key `size`",
    );
    check(
        "areas = { D = { at = 'hr:0.1', count = 1 } }",
        "at = 'hr:0'",
        "`areas`: area D: it begins at a register",
    );
    let twice = "areas = { D = [{ at = 'hr:0', count = 10 }, { at = 'hr:100', first = 9, count = 2 }] }";
    check(twice, "at = 'hr:0'", "`areas`: area D: two of its parts have the same numbers");
}

#[test]
fn a_number_has_as_many_bits_as_its_registers() {
    let layout = |data_type: DataType, count| Layout {
        span: Span { area: crate::tag::Area::HoldingRegisters, address: 5, count },
        model: None,
        data_type,
        order: ByteOrder { words_reversed: true, bytes_swapped: false },
        scaling: Some(Scaling { scale: 2.0, offset: 0.0 }),
    };
    let bit = |data_type, count, number| {
        let layout = bit_of(layout(data_type, count), number)?;
        assert!(layout.scaling.is_none() && layout.span.count == count && layout.order.words_reversed);
        let DataType::Bool { bit } = layout.data_type else { panic!("a bit") };
        bit
    };
    assert_eq!(bit(DataType::U32, 2, 17), Some(17));
    assert_eq!(bit(DataType::U32, 2, 32), None);
    assert_eq!(bit(DataType::U16, 1, 15), Some(15));
    assert_eq!(bit(DataType::U16, 1, 16), None);
    assert_eq!(bit(DataType::U64, 4, 63), Some(63));
    assert_eq!(bit(DataType::Byte { is_high: true, form: ByteForm::Unsigned }, 1, 7), Some(15));
    assert_eq!(bit(DataType::Byte { is_high: true, form: ByteForm::Unsigned }, 1, 8), None);
    assert_eq!(bit(DataType::Slice { first: 4, last: 6 }, 1, 2), Some(6));
    assert_eq!(bit(DataType::Slice { first: 4, last: 6 }, 1, 3), None);
    assert_eq!(bit(DataType::F32, 2, 0), None);
    assert_eq!(bit(DataType::Bcd { digits: 4 }, 1, 0), None);
}
