//! A strict reader of protobuf's wire format, and a writer for the broker's own messages.
//!
//! Accepts only what all readers agree on: varints in their shortest form and within bounds, known
//! wire types, no groups, field numbers from 1 to 2^29 − 1, and nothing after the last field. The
//! caller checks which fields a message may have, and how often.
//!
//! Source: protobuf, "Encoding".

use crate::refusal::Reason;

/// The reason why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// The message ends inside a field.
    Truncated,
    /// A varint is not in its shortest form, or exceeds 64 bits.
    Varint,
    /// A group, or an unknown wire type.
    WireType,
    /// An invalid field number.
    FieldNumber,
    /// A field that the message does not have, or one of another type.
    UnknownField,
    /// A singular field that occurs twice, two members of a choice, or a duplicate key in a map.
    Doubled,
    /// Text that is not UTF-8.
    NotUtf8,
    /// Nesting that exceeds the limit.
    TooDeep,
    /// A value without a kind, or a number that JSON cannot represent.
    NoValue,
}

impl From<WireError> for Reason {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Doubled => Self::DuplicateMember,
            WireError::TooDeep => Self::TooDeep,
            WireError::Truncated
            | WireError::Varint
            | WireError::WireType
            | WireError::FieldNumber
            | WireError::UnknownField
            | WireError::NotUtf8
            | WireError::NoValue => Self::NotProtobuf,
        }
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// Returns bytes, or an embedded message.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(WireError::UnknownField),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::NotUtf8)
    }

    pub(crate) fn varint(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Bytes(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(WireError::UnknownField),
        }
    }

    pub(crate) fn double(self) -> Result<f64, WireError> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Self::Bytes(_) | Self::Varint(_) | Self::Fixed32(_) => Err(WireError::UnknownField),
        }
    }
}

/// A field, with its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// The bytes of the field, including its tag and length.
    pub(crate) raw: &'a [u8],
}

/// Reads the fields of a message in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub(crate) fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let from = self.rest;
        let tag = u32::try_from(self.varint()?).map_err(|_| WireError::FieldNumber)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(WireError::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::WireType),
        };
        let raw = from.get(..from.len().saturating_sub(self.rest.len())).unwrap_or_default();
        Ok(Some(Field { number, value, raw }))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds only the last of 64 bits.
            if shift == 63 && bits > 1 {
                return Err(WireError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A final zero byte: the number has a shorter form.
                return if byte == 0 && shift > 0 { Err(WireError::Varint) } else { Ok(value) };
            }
        }
        Err(WireError::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Stores the value of a singular field.
pub(crate) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), WireError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(WireError::Doubled),
    }
}

/// Writes a message.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn bytes(mut self, number: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(mut self, number: u32, value: u64) -> Self {
        self.varint(u64::from(number) << 3);
        self.varint(value);
        self
    }

    /// Appends a field as it was read.
    pub(crate) fn raw(&mut self, field: &[u8]) {
        self.0.extend_from_slice(field);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while let Some(low) = u8::try_from(value & 0x7f).ok().filter(|_| value > 0x7f) {
            self.0.push(low | 0x80);
            value >>= 7;
        }
        self.0.extend(u8::try_from(value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, WireError> {
        let mut reader = Reader::new(message);
        let mut found = Vec::new();
        while let Some(field) = reader.next_field()? {
            found.push((field.number, field.value));
        }
        Ok(found)
    }

    #[test]
    fn each_wire_type_is_read() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            &[0x1a, 2, b'h', b'i'],
            &[0x25, 1, 0, 0, 0],
            &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0],
        ]
        .concat();
        let found = fields(&message).unwrap();
        assert_eq!(
            found,
            [
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1.0_f64.to_bits())),
                (3, Value::Bytes(b"hi")),
                (4, Value::Fixed32(1)),
                ((1 << 29) - 1, Value::Varint(0)),
            ]
        );
    }

    #[test]
    fn ambiguous_encodings_are_refused() {
        for (what, message, error) in [
            ("a varint with a final zero", &[0x08, 0x80, 0x00][..], WireError::Varint),
            ("a tag with a final zero", &[0x88, 0x00, 0x01], WireError::Varint),
            ("a length with a final zero", &[0x0a, 0x80, 0x00], WireError::Varint),
            (
                "eleven bytes",
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                WireError::Varint,
            ),
            (
                "ten bytes without an end",
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x81],
                WireError::Varint,
            ),
            ("65 bits", &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], WireError::Varint),
            ("a group", &[0x0b, 0x0c], WireError::WireType),
            ("wire type 6", &[0x0e], WireError::WireType),
            ("field 0", &[0x00, 0x01], WireError::FieldNumber),
            ("a tag beyond 32 bits", &[0x80, 0x80, 0x80, 0x80, 0x10, 0], WireError::FieldNumber),
            ("no value", &[0x08], WireError::Truncated),
            ("half a varint", &[0x08, 0x80], WireError::Truncated),
            ("half of its bytes", &[0x0a, 3, b'h', b'i'], WireError::Truncated),
            ("half a double", &[0x09, 0, 0], WireError::Truncated),
            (
                "a huge length",
                &[0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 127],
                WireError::Truncated,
            ),
        ] {
            assert_eq!(fields(message), Err(error), "{what}");
        }
    }

    proptest! {
        #[test]
        fn written_fields_are_read_back(
            number in 1..(1_u32 << 29),
            value: u64,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let message = Writer::default().number(number, value).bytes(number, &bytes).finish();
            let expected = [(number, Value::Varint(value)), (number, Value::Bytes(&bytes))];
            prop_assert_eq!(fields(&message).unwrap(), expected);
        }

        #[test]
        fn each_field_keeps_its_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let (mut reader, mut again) = (Reader::new(&bytes), Writer::default());
            while let Ok(Some(field)) = reader.next_field() {
                again.raw(field.raw);
            }
            prop_assert!(bytes.starts_with(&again.finish()));
        }
    }
}
