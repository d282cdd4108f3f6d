//! From what a tag says of its registers to the simulator's own forms, and what those can hold. Pure.

use super::super::{Form, Layout, Order, Table};
use crate::config::site;
use crate::tag::{Area, ByteForm, ByteOrder, DataType, Encoding};

/// Whole numbers are exact in a double up to here, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// The greatest half-precision number is 65504.
const HALF_MAX: f64 = 60_000.0;
/// Up to here the steps of single-precision numbers are below a tenth.
const SINGLE_MAX: f64 = 1_000_000.0;

pub(super) const fn table(area: Area) -> Table {
    match area {
        Area::Coils => Table::Coils,
        Area::DiscreteInputs => Table::DiscreteInputs,
        // items of other protocols lie in no table, and are left out before
        Area::HoldingRegisters | Area::Items => Table::HoldingRegisters,
        Area::InputRegisters => Table::InputRegisters,
    }
}

/// How such a tag lies in registers; a clock is `ahead_min` minutes ahead of UTC.
pub(super) fn layout(of: site::Layout, ahead_min: i16) -> Layout {
    Layout::new(form(of, ahead_min)).ordered(order(of.order))
}

const fn order(order: ByteOrder) -> Order {
    match (order.words_reversed, order.bytes_swapped) {
        (false, false) => Order::Abcd,
        (true, false) => Order::Cdab,
        (false, true) => Order::Badc,
        (true, true) => Order::Dcba,
    }
}

fn form(of: site::Layout, ahead_min: i16) -> Form {
    let count = of.span.count;
    let registers = u8::try_from(count.min(4)).unwrap_or(4);
    match of.data_type {
        DataType::Bool { bit: None } => Form::Bit,
        DataType::Bool { bit: Some(bit) } if count == 1 => Form::BitOf(bit),
        DataType::Bool { bit: Some(bit) } => Form::BitIn { bit, registers },
        DataType::Byte { is_high, form: ByteForm::Bcd } => Form::BcdHalf { is_high },
        DataType::Byte { is_high: true, form: ByteForm::Unsigned | ByteForm::Signed } => Form::Slice(8, 15),
        DataType::Byte { is_high: false, form: ByteForm::Unsigned | ByteForm::Signed } => Form::Slice(0, 7),
        DataType::Slice { first, last } => Form::Slice(first, last),
        DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::Words => Form::Whole(registers),
        DataType::F16 => Form::Half,
        DataType::F32 => Form::Single,
        DataType::F64 => Form::Double,
        DataType::Bcd { digits } => Form::Bcd(digits),
        DataType::Text { is_sparse: true, .. } => Form::Letters(count),
        DataType::Text { encoding: Encoding::Gbk, .. } => Form::Gbk(count),
        DataType::Text { encoding: Encoding::Auto | Encoding::Utf8, .. } => Form::Text(count),
        DataType::Time(format) => Form::Date { format, ahead_min },
    }
}

/// The least and the greatest number that such registers can hold, where they hold one.
pub(super) fn bounds(data_type: DataType) -> (f64, f64) {
    match data_type {
        DataType::F16 => (-HALF_MAX, HALF_MAX),
        DataType::F32 | DataType::F64 => (-SINGLE_MAX, SINGLE_MAX),
        DataType::Byte { form: ByteForm::Bcd, .. } => (0.0, 99.0),
        DataType::Bcd { digits } => (0.0, (10_f64.powi(digits.into()) - 1.0).min(EXACT_MAX)),
        DataType::Bool { .. }
        | DataType::Byte { form: ByteForm::Unsigned | ByteForm::Signed, .. }
        | DataType::Slice { .. }
        | DataType::I16
        | DataType::U16
        | DataType::I32
        | DataType::U32
        | DataType::I48
        | DataType::U48
        | DataType::I64
        | DataType::U64
        | DataType::Text { .. }
        | DataType::Time(_)
        | DataType::Words => {
            let size = 2_f64.powi(data_type.bits().into()).min(EXACT_MAX);
            if data_type.is_signed() { (-size / 2.0, size / 2.0 - 1.0) } else { (0.0, size - 1.0) }
        }
    }
}
