//! Protobuf without a schema: which fields there are, with nothing assumed and nothing lost.

/// A field: its number and what it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content<'a> {
    /// A number, and in how many bytes it was written.
    Number(u64, usize),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; the test fails where the bytes are none.
#[track_caller]
pub(super) fn fields(bytes: &[u8]) -> Vec<Field<'_>> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (key, _) = number(&mut rest);
        let content = match key & 7 {
            0 => {
                let (value, size) = number(&mut rest);
                Content::Number(value, size)
            }
            1 => fixed(&mut rest, 8),
            2 => {
                let (count, _) = number(&mut rest);
                let (taken, others) = rest.split_at(usize::try_from(count).unwrap());
                rest = others;
                Content::Bytes(taken)
            }
            5 => fixed(&mut rest, 4),
            other => panic!("wire type {other}"),
        };
        all.push(Field { number: key >> 3, content });
    }
    all
}

fn fixed<'a>(rest: &mut &'a [u8], count: usize) -> Content<'a> {
    *rest = &rest[count..];
    Content::Fixed
}

fn number(rest: &mut &[u8]) -> (u64, usize) {
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return (value, index + 1);
        }
    }
    panic!("a number without an end")
}

/// The bytes of every field of that number.
pub(super) fn parts<'a>(all: &[Field<'a>], number: u64) -> Vec<&'a [u8]> {
    let of = |field: &Field<'a>| match field.content {
        Content::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    };
    all.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_order_whatever_they_mean() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 2, 0x18, 7, 0x1D, 0, 0, 0, 0];
        let found = fields(&bytes);
        assert_eq!(found[0], Field { number: 1, content: Content::Number(150, 2) });
        assert_eq!(parts(&found, 2), [&[0x18, 7]]);
        assert_eq!(found[2], Field { number: 3, content: Content::Fixed });
    }
}
