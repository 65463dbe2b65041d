//! Protocol buffers, read by their definition: shares nothing with the writers.

#[derive(Debug, PartialEq)]
pub(crate) enum Field {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

/// The fields of a protobuf message, by the wire format's definition.
pub(crate) fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        unreachable!()
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut message)),
            1 => {
                let (value, rest) = message.split_at(8);
                message = rest;
                Field::Fixed64(value.try_into().unwrap())
            }
            2 => {
                let length = varint(&mut message) as usize;
                let (value, rest) = message.split_at(length);
                message = rest;
                Field::Bytes(value.to_vec())
            }
            5 => {
                let (value, rest) = message.split_at(4);
                message = rest;
                Field::Fixed32(value.try_into().unwrap())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}
