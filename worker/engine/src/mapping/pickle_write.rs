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
        self.plain_array("f8", shape, values.flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn integers(&mut self, values: &[i64]) {
        self.plain_array("i8", &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Writes a one-dimensional array of integers of 32 bits.
    pub(super) fn short_integers(&mut self, values: impl ExactSizeIterator<Item = i32>) {
        self.plain_array("i4", &[values.len()], values.flat_map(i32::to_le_bytes));
    }

    /// Begins an array of `length` Python objects. They follow, and then [`Self::end_objects`].
    pub(super) fn begin_objects(&mut self, length: usize) {
        self.begin_array("O8", &[length], "|", 63);
        self.begin_list();
    }

    pub(super) fn end_objects(&mut self) {
        self.end_list();
        self.end_array();
    }

    fn plain_array(&mut self, code: &str, shape: &[usize], data: impl Iterator<Item = u8>) {
        self.begin_array(code, shape, "<", 0);
        // BINBYTES8 is needed because the data may exceed 4 GiB.
        self.bytes.push(0x8e);
        let size_at = self.bytes.len();
        self.bytes.extend([0; 8]);
        self.bytes.extend(data);
        let size = (self.bytes.len() - size_at - 8) as u64;
        self.bytes[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
        self.end_array();
    }

    /// Writes `_reconstruct(ndarray, (0,), b'b')`, and the beginning of BUILD with (1, shape, dtype, False, data). The data
    /// follow.
    fn begin_array(&mut self, code: &str, shape: &[usize], order: &str, flags: i64) {
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
        self.dtype(code, order, flags);
        // NEWFALSE stands for the order with the last dimension varying fastest.
        self.bytes.push(0x89);
    }

    fn end_array(&mut self) {
        self.end_tuple();
        self.bytes.push(b'b');
    }

    /// Writes `dtype(code, False, True)`, and then BUILD with (3, order, None, None, None, -1, -1, flags).
    fn dtype(&mut self, code: &str, order: &str, flags: i64) {
        self.global("numpy", "dtype");
        self.text(code);
        self.bytes.extend(b"\x89\x88\x87R");
        self.begin_tuple();
        self.int(3);
        self.text(order);
        self.bytes.extend(b"NNN");
        for value in [-1, -1, flags] {
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
        pickler.begin_objects(2);
        pickler.int(-1);
        pickler.begin_list();
        pickler.int(70_000);
        pickler.int(3);
        pickler.end_list();
        pickler.end_objects();
        pickler.short_integers([7, -1].into_iter());
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
        let objects = document.objects(items[11]).unwrap();
        assert_eq!(objects[0], PickleValue::Int(-1));
        assert_eq!(document.items(objects[1]).unwrap(), [PickleValue::Int(70_000), PickleValue::Int(3)]);
        assert_eq!(document.array(items[12]).unwrap().integers().unwrap(), [7, -1]);
        assert_eq!(document.items(document.get(items[13], "empty").unwrap()), Some(&[][..]));
    }
}
