//! Netlink attributes, written one after the other.

/// Mark of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Bytes of length and type.
const HEADER: usize = 4;

/// A run of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// No attribute yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an attribute of raw bytes.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.append(kind, value);
        self
    }

    /// Appends a number in network byte order, as `nf_tables` has all of them.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends a text with the zero byte behind it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute that holds `inner`.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The bytes of the message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn append(&mut self, kind: u16, value: &[u8]) {
        let length = (HEADER + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`: type without marks, and value.
pub fn parse(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = bytes.get(HEADER..length) else {
            break;
        };
        found.push((u16::from_ne_bytes([k0, k1]) & !NESTED, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// The value of the first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    parse(bytes)
        .into_iter()
        .find_map(|(found, value)| (found == kind).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_nested() {
        let inner = Attributes::new().text(1, "ab").number(2, 7);
        assert_eq!(
            inner.as_bytes(),
            [7, 0, 1, 0, b'a', b'b', 0, 0, 8, 0, 2, 0, 0, 0, 0, 7]
        );
        let outer = Attributes::new().nest(3, &inner);
        assert_eq!(outer.as_bytes()[..4], [20, 0, 3, 0x80]);
        assert_eq!(find(outer.as_bytes(), 3), Some(inner.as_bytes()));
    }

    #[test]
    fn a_cut_attribute_ends_the_run() {
        let whole = Attributes::new().number(1, 1).number(2, 2);
        let bytes = &whole.as_bytes()[..12];
        assert_eq!(parse(bytes), [(1, &[0, 0, 0, 1][..])]);
    }
}
