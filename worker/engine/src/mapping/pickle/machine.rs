//! The stack machine that runs a pickle without calling anything.

use std::ops::Range;

use super::{
    Array, ArrayId, DType, DTypeId, DictId, ListId, PickleDocument, PickleError, PickleGlobal, PickleValue, Store,
    TupleId,
};

/// Largest number of values that one file may put into containers and the memo. Target grids and masks have a few
/// thousand values, the complete mapping of a half-degree grid some hundred thousand.
pub(super) const MAX_VALUES: usize = 1 << 22;
/// Largest number of containers that may be open at one time.
pub(super) const MAX_MARKS: usize = 256;
/// Length in characters of the longest part of a hostile name that an error repeats.
const MAX_NAME_SHOWN: usize = 60;

/// The state of the machine between two opcodes.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Offset of the current opcode.
    at: usize,
    stack: Vec<PickleValue<'a>>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: Vec<PickleValue<'a>>,
    /// Number of values stored so far, anywhere.
    used: usize,
    store: Store<'a>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            pos: 0,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            used: 0,
            store: Store::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<PickleDocument<'a>, PickleError> {
        if self.byte()? != 0x80 {
            return self.malformed("this is not a pickle of protocol 2 or later");
        }
        let protocol = self.byte()?;
        if !(2..=5).contains(&protocol) {
            return self.malformed(format!("protocol {protocol} is not supported, only 2 to 5"));
        }
        loop {
            self.at = self.pos;
            let opcode = self.byte()?;
            if opcode == b'.' {
                break;
            }
            self.step(opcode)?;
        }
        if self.pos != self.bytes.len() {
            return self.malformed("other bytes follow the end of the pickle");
        }
        match (self.stack.as_slice(), self.marks.is_empty()) {
            (&[root], true) => Ok(PickleDocument { root, store: self.store }),
            _ => self.malformed("the pickle does not end with exactly one value"),
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            // FRAME is only a hint for readers of streams.
            0x95 => {
                let size = self.u64()?;
                match usize::try_from(size) {
                    Ok(size) if size <= self.bytes.len() - self.pos => Ok(()),
                    _ => Err(PickleError::Truncated { at: self.at }),
                }
            }
            b'N' => self.push(PickleValue::None),
            0x88 => self.push(PickleValue::Bool(true)),
            0x89 => self.push(PickleValue::Bool(false)),
            // BININT1, BININT2, BININT, LONG1
            b'K' => {
                let value = self.byte()?;
                self.push(PickleValue::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.fixed()?);
                self.push(PickleValue::Int(value.into()))
            }
            b'J' => {
                let value = i32::from_le_bytes(self.fixed()?);
                self.push(PickleValue::Int(value.into()))
            }
            0x8a => {
                let size = self.byte()?;
                let digits = self.take(size.into())?;
                match long(digits) {
                    Some(value) => self.push(PickleValue::Int(value)),
                    None => self.malformed(format!("an integer of {size} bytes is too large")),
                }
            }
            // BINFLOAT is big-endian, unlike everything else.
            b'G' => {
                let value = f64::from_be_bytes(self.fixed()?);
                self.push(PickleValue::Float(value))
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => {
                let size = self.byte()?;
                self.text(size.into())
            }
            b'X' => {
                let size = self.u32()?;
                self.text(size.into())
            }
            0x8d => {
                let size = self.u64()?;
                self.text(size)
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => {
                let size = self.byte()?;
                self.raw(size.into())
            }
            b'B' => {
                let size = self.u32()?;
                self.raw(size.into())
            }
            0x8e => {
                let size = self.u64()?;
                self.raw(size)
            }
            // MARK
            b'(' => {
                if self.marks.len() == MAX_MARKS {
                    return Err(PickleError::Limit { at: self.at, what: "open containers", limit: MAX_MARKS });
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.tuple(self.stack.len()),
            0x85..=0x87 => {
                let size = usize::from(opcode - 0x84);
                match self.stack.len().checked_sub(size).filter(|&from| from >= self.floor()) {
                    Some(from) => self.tuple(from),
                    None => self.malformed("a tuple of more values than there are"),
                }
            }
            b't' => {
                let from = self.mark()?;
                self.tuple(from)
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => {
                self.charge(1)?;
                self.store.lists.push(Vec::new());
                self.push(PickleValue::List(ListId(self.store.lists.len() as u32 - 1)))
            }
            b'a' => {
                let from = self.stack.len().saturating_sub(1);
                self.append(from)
            }
            b'e' => {
                let from = self.mark()?;
                self.append(from)
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => {
                self.charge(1)?;
                self.store.dicts.push(Vec::new());
                self.push(PickleValue::Dict(DictId(self.store.dicts.len() as u32 - 1)))
            }
            b's' => {
                let from = self.stack.len().saturating_sub(2);
                self.set_items(from)
            }
            b'u' => {
                let from = self.mark()?;
                self.set_items(from)
            }
            // MEMOIZE, BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            0x94 => self.memoize(self.memo.len()),
            b'q' => {
                let index = self.byte()?;
                self.memoize(index.into())
            }
            b'r' => {
                let index = self.u32()?;
                self.memoize(index as usize)
            }
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())
            }
            b'j' => {
                let index = self.u32()?;
                self.recall(index as usize)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (PickleValue::Str(name), PickleValue::Str(module)) => self.global(module, name),
                _ => self.malformed("STACK_GLOBAL without two texts"),
            },
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(PickleError::Opcode { at: self.at, opcode }),
        }
    }

    /// Executes REDUCE, a call in Python; here only the three constructions that arrays need.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let args = self.pop()?;
        let callable = self.pop()?;
        let (PickleValue::Global(global), PickleValue::Tuple(args)) = (callable, args) else {
            return self.malformed(format!("a call of {} with {}", callable.kind(), args.kind()));
        };
        let args: Vec<PickleValue<'a>> = self.store.tuple(args).iter().take(4).copied().collect();
        match (global, args.as_slice()) {
            (
                PickleGlobal::Reconstruct,
                &[
                    PickleValue::Global(PickleGlobal::NdArray),
                    PickleValue::Tuple(_),
                    PickleValue::Bytes(b"b") | PickleValue::Str("b"),
                ],
            ) => {
                self.charge(1)?;
                self.store.arrays.push(None);
                self.push(PickleValue::Array(ArrayId(self.store.arrays.len() as u32 - 1)))
            }
            (PickleGlobal::DType, &[PickleValue::Str(code), _, _]) => {
                let Some(dtype) = DType::from_code(code) else {
                    return self.malformed(format!("element type {:?} is not supported", shortened(code)));
                };
                self.charge(1)?;
                self.store.dtypes.push(dtype);
                self.push(PickleValue::DType(DTypeId(self.store.dtypes.len() as u32 - 1)))
            }
            (PickleGlobal::Scalar, &[PickleValue::DType(dtype), PickleValue::Bytes(bytes)]) => {
                match self.store.dtypes[dtype.0 as usize].scalar(bytes) {
                    Some(value) => self.push(value),
                    None => self.malformed("a scalar that does not fit its element type"),
                }
            }
            _ => self.malformed(format!("unexpected arguments of {global:?}")),
        }
    }

    /// Executes BUILD, which sets the state of an element type or an array.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let PickleValue::Tuple(state) = state else {
            return self.malformed(format!("BUILD with {}", state.kind()));
        };
        let target = match self.stack.last() {
            Some(&target) if self.stack.len() > self.floor() => target,
            _ => return self.malformed("BUILD of nothing"),
        };
        let state = self.store.tuple(state);
        let built = match target {
            PickleValue::DType(id) => {
                let mut dtype = self.store.dtypes[id.0 as usize];
                dtype.set_state(state).map(|()| self.store.dtypes[id.0 as usize] = dtype)
            }
            PickleValue::Array(id) => {
                Array::from_state(state, |id| self.store.tuple(id), |id| self.store.dtypes[id.0 as usize]).and_then(
                    |array| {
                        let listed = array.object_list().map(|list| self.store.lists[list.0 as usize].len());
                        if listed.is_some_and(|listed| listed != array.len()) {
                            return Err("an object array whose list does not have the array's length".to_owned());
                        }
                        self.store.arrays[id.0 as usize] = Some(array);
                        Ok(())
                    },
                )
            }
            other => Err(format!("BUILD of {}", other.kind())),
        };
        built.or_else(|reason| self.malformed(reason))
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        match PickleGlobal::find(module, name) {
            Some(global) => self.push(PickleValue::Global(global)),
            None => Err(PickleError::PickleGlobal {
                at: self.at,
                name: format!("{}.{}", shortened(module), shortened(name)),
            }),
        }
    }

    fn memoize(&mut self, index: usize) -> Result<(), PickleError> {
        let Some(&value) = self.stack.last() else {
            return self.malformed("nothing to remember");
        };
        // Python numbers the memo without gaps; with a gap, a few bytes could claim a lot of memory.
        if index > self.memo.len() {
            return self.malformed(format!("memo entry {index} before entry {}", self.memo.len()));
        }
        if index == self.memo.len() {
            self.charge(1)?;
            self.memo.push(value);
        } else {
            self.memo[index] = value;
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), PickleError> {
        match self.memo.get(index) {
            Some(&value) => self.push(value),
            None => self.malformed(format!("memo entry {index} does not exist")),
        }
    }

    /// Moves the values of the stack from position `from` on into a tuple.
    fn tuple(&mut self, from: usize) -> Result<(), PickleError> {
        self.charge(self.stack.len() - from)?;
        let start = self.store.tuples.len() as u32;
        self.store.tuples.extend(self.stack.drain(from..));
        let end = self.store.tuples.len() as u32;
        self.push(PickleValue::Tuple(TupleId { start, end }))
    }

    /// Moves the values of the stack from position `from` on into the list below them.
    fn append(&mut self, from: usize) -> Result<(), PickleError> {
        self.charge(self.stack.len() - from)?;
        match self.below(from) {
            Some(PickleValue::List(id)) => {
                self.store.lists[id.0 as usize].extend(self.stack.drain(from..));
                Ok(())
            }
            _ => self.malformed("values to append without a list"),
        }
    }

    /// Moves the values of the stack from position `from` on, keys and values in turn, into the dict below them.
    fn set_items(&mut self, from: usize) -> Result<(), PickleError> {
        let count = self.stack.len() - from;
        self.charge(count)?;
        match self.below(from) {
            Some(PickleValue::Dict(id)) if count.is_multiple_of(2) => {
                let (pairs, _) = self.stack[from..].as_chunks::<2>();
                self.store.dicts[id.0 as usize].extend(pairs.iter().map(|&[key, value]| (key, value)));
                self.stack.truncate(from);
                Ok(())
            }
            _ => self.malformed("keys and values without a dict"),
        }
    }

    /// Returns the value below stack position `from`; `None` if a MARK lies between.
    fn below(&self, from: usize) -> Option<PickleValue<'a>> {
        let below = from.checked_sub(1)?;
        (below >= self.floor()).then(|| self.stack[below])
    }

    /// Returns the lowest position that an opcode may touch: that of the last MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Removes the last MARK and returns its position.
    fn mark(&mut self) -> Result<usize, PickleError> {
        match self.marks.pop() {
            Some(from) => Ok(from),
            None => self.malformed("there is no MARK"),
        }
    }

    fn push(&mut self, value: PickleValue<'a>) -> Result<(), PickleError> {
        if self.stack.len() == MAX_VALUES {
            return Err(PickleError::Limit { at: self.at, what: "values on the stack", limit: MAX_VALUES });
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<PickleValue<'a>, PickleError> {
        if self.stack.len() > self.floor()
            && let Some(value) = self.stack.pop()
        {
            return Ok(value);
        }
        self.malformed("the stack is empty")
    }

    /// Counts `count` values that are about to be stored against the limit.
    fn charge(&mut self, count: usize) -> Result<(), PickleError> {
        self.used = self.used.saturating_add(count);
        if self.used > MAX_VALUES {
            return Err(PickleError::Limit { at: self.at, what: "values", limit: MAX_VALUES });
        }
        Ok(())
    }

    fn text(&mut self, size: u64) -> Result<(), PickleError> {
        let bytes = self.take(size)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(PickleValue::Str(text)),
            Err(_) => self.malformed("text that is not UTF-8"),
        }
    }

    fn raw(&mut self, size: u64) -> Result<(), PickleError> {
        let bytes = self.take(size)?;
        self.push(PickleValue::Bytes(bytes))
    }

    /// Reads a text up to the next newline.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.pos..];
        let Some(size) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(PickleError::Truncated { at: self.at });
        };
        self.pos += size + 1;
        match std::str::from_utf8(&rest[..size]) {
            Ok(text) => Ok(text),
            Err(_) => self.malformed("a name that is not UTF-8"),
        }
    }

    fn take(&mut self, size: u64) -> Result<&'a [u8], PickleError> {
        let range: Option<Range<usize>> =
            usize::try_from(size).ok().and_then(|size| Some(self.pos..self.pos.checked_add(size)?));
        match range.and_then(|range| self.bytes.get(range)) {
            Some(bytes) => {
                self.pos += bytes.len();
                Ok(bytes)
            }
            None => Err(PickleError::Truncated { at: self.at }),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let at = self.at;
        self.take(N as u64)?.try_into().map_err(|_| PickleError::Truncated { at })
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let [byte] = self.fixed()?;
        Ok(byte)
    }

    fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    fn u64(&mut self) -> Result<u64, PickleError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    fn malformed<T>(&self, reason: impl Into<String>) -> Result<T, PickleError> {
        Err(PickleError::Malformed { at: self.at, reason: reason.into() })
    }
}

/// Decodes a little-endian integer in two's complement; `None` if it does not fit into 64 bits.
fn long(digits: &[u8]) -> Option<i64> {
    let sign = if digits.last().is_some_and(|&top| top >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide.get_mut(..digits.len())?.copy_from_slice(digits);
    Some(i64::from_le_bytes(wide))
}

fn shortened(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_NAME_SHOWN).collect();
    if shown.len() < name.len() {
        shown.push_str("...");
    }
    shown
}
