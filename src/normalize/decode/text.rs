//! Bytes of registers as text.

use std::sync::Arc;

use crate::reading::{Quality, Value};
use crate::tag::{ByteOrder, Encoding};

/// The text in `words`, ended by a NUL or by the last register; blanks at the end are padding.
pub(super) fn text(
    words: &[u16],
    order: ByteOrder,
    encoding: Encoding,
    is_sparse: bool,
) -> Result<Value, Quality> {
    let swap = |word: &u16| if order.bytes_swapped { word.swap_bytes() } else { *word };
    let bytes: Vec<u8> = if is_sparse {
        // a character beyond one byte is none that the tag's description knows
        let one = |word: &u16| u8::try_from(swap(word)).map_err(|_| Quality::BadDecode);
        let until_end = |byte: &Result<u8, Quality>| *byte != Ok(0);
        words.iter().map(one).take_while(until_end).collect::<Result<_, _>>()?
    } else {
        words.iter().map(swap).flat_map(u16::to_be_bytes).take_while(|byte| *byte != 0).collect()
    };
    let utf8 = || std::str::from_utf8(&bytes).ok().map(|text| Arc::from(text.trim_end()));
    let gbk = || {
        let text = encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(&bytes)?;
        Some(Arc::from(text.trim_end()))
    };
    let text = match encoding {
        Encoding::Utf8 => utf8(),
        Encoding::Gbk => gbk(),
        Encoding::Auto => utf8().or_else(gbk),
    };
    text.map(Value::Text).ok_or(Quality::BadDecode)
}
