//! Writes the pickles of mapping factors in protocol 4.
//!
//! It uses no memo and no frames: both are optional, and the files hold few values besides raw array data.

/// A pickle under construction. Values are written in the order in which Python's stack machine expects them.
#[derive(Debug)]
pub(super) struct Pickler {
    bytes: Vec<u8>,
}

impl Pickler {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0x80, 4] }
    }

    /// Returns the finished pickle. One value must have been written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }

    /// Begins a list. Its items follow, and then [`Self::end_list`].
    pub(super) fn begin_list(&mut self) {
        self.bytes.extend(b"](");
    }

    pub(super) fn end_list(&mut self) {
        self.bytes.push(b'e');
    }

    /// Begins a dict. Its keys and values follow in turn, and then [`Self::end_dict`].
    pub(super) fn begin_dict(&mut self) {
        self.bytes.extend(b"}(");
    }

    pub(super) fn end_dict(&mut self) {
        self.bytes.push(b'u');
    }

    /// Begins a tuple. Its items follow, and then [`Self::end_tuple`].
    pub(super) fn begin_tuple(&mut self) {
        self.bytes.push(b'(');
    }

    pub(super) fn end_tuple(&mut self) {
        self.bytes.push(b't');
    }

    pub(super) fn int(&mut self, value: i64) {
        if let Ok(value) = u8::try_from(value) {
            self.bytes.extend([b'K', value]);
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes.push(b'J');
            self.bytes.extend(value.to_le_bytes());
        } else {
            // LONG1 with eight bytes.
            self.bytes.extend([0x8a, 8]);
            self.bytes.extend(value.to_le_bytes());
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes.push(0x8d);
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text.bytes());
    }

    pub(super) fn floats<'a>(&mut self, shape: &[usize], values: impl Iterator<Item = &'a f64>) {
        self.array("f8", shape, values.flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn integers(&mut self, values: &[i64]) {
        self.array("i8", &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Writes `_reconstruct(ndarray, (0,), b'b')`, and then BUILD with (1, shape, dtype, False, data).
    fn array(&mut self, code: &str, shape: &[usize], data: impl Iterator<Item = u8>) {
        self.global("numpy.core.multiarray", "_reconstruct");
        self.global("numpy", "ndarray");
        self.int(0);
        self.bytes.extend(b"\x85C\x01b\x87R");

        self.begin_tuple();
        self.int(1);
        self.begin_tuple();
        for &size in shape {
            self.int(size as i64);
        }
        self.end_tuple();
        self.dtype(code);
        // NEWFALSE stands for the order with the last dimension varying fastest. BINBYTES8 is needed because the data
        // may exceed 4 GiB.
        self.bytes.extend([0x89, 0x8e]);
        let size_at = self.bytes.len();
        self.bytes.extend([0; 8]);
        self.bytes.extend(data);
        let size = (self.bytes.len() - size_at - 8) as u64;
        self.bytes[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
        self.end_tuple();
        self.bytes.push(b'b');
    }

    /// Writes `dtype(code, False, True)`, and then BUILD with (3, '<', None, None, None, -1, -1, 0).
    fn dtype(&mut self, code: &str) {
        self.global("numpy", "dtype");
        self.text(code);
        self.bytes.extend(b"\x89\x88\x87R");
        self.begin_tuple();
        self.int(3);
        self.text("<");
        self.bytes.extend(b"NNN");
        for value in [-1, -1, 0] {
            self.int(value);
        }
        self.end_tuple();
        self.bytes.push(b'b');
    }

    fn global(&mut self, module: &str, name: &str) {
        self.text(module);
        self.text(name);
        self.bytes.push(0x93);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::pickle::{PickleDocument, PickleValue};
    use super::*;

    #[test]
    fn everything_comes_back() {
        let mut pickler = Pickler::new();
        pickler.begin_list();
        let numbers = [0, 255, 256, -1, i64::from(i32::MIN), 1 << 40, i64::MIN, i64::MAX];
        numbers.iter().for_each(|&number| pickler.int(number));
        pickler.text("Tiefe, profondeur, 深さ");
        pickler.floats(&[2, 2], [1.5, f64::NAN, -0.0, 4.0].iter());
        pickler.integers(&[-3, 1 << 50]);
        pickler.begin_dict();
        pickler.text("empty");
        pickler.begin_tuple();
        pickler.end_tuple();
        pickler.end_dict();
        pickler.end_list();
        let bytes = pickler.finish();

        let document = PickleDocument::parse(&bytes).unwrap();
        let items = document.items(document.root()).unwrap();
        for (item, number) in items.iter().zip(numbers) {
            assert_eq!(*item, PickleValue::Int(number));
        }
        assert_eq!(items[8], PickleValue::Str("Tiefe, profondeur, 深さ"));
        let floats = document.array(items[9]).unwrap();
        assert_eq!(floats.shape(), [2, 2]);
        let values = floats.floats().unwrap();
        assert!(values[0] == 1.5 && values[1].is_nan() && values[2].is_sign_negative() && values[3] == 4.0);
        assert_eq!(document.array(items[10]).unwrap().integers().unwrap(), [-3, 1 << 50]);
        assert_eq!(document.items(document.get(items[11], "empty").unwrap()), Some(&[][..]));
    }
}
