//! A strict reader for the pickles in CIFAR-10's Python archive: a dictionary of text, numbers,
//! lists and one NumPy array of bytes.
//!
//! A pickle is a program. This reader knows only the instructions and the five names that such a
//! file needs, runs nothing, and refuses everything else. Protocols 1 to 5, as Python 2 and 3 and
//! any NumPy write them.
//!
//! What a pickle builds is bounded: values that its memo repeats are shared, never copied; at most
//! [`INSTRUCTIONS`] are carried out; and all copies together (a transposed array, bytes that were
//! written as text) have at most [`COPIES`] times the length of the pickle.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::shown;

/// A batch of 10,000 images needs 60,000 in the wordiest protocol.
const INSTRUCTIONS: usize = 1 << 20;
/// An array that Python 3 wrote for Python 2 in Fortran order needs twice its length.
const COPIES: usize = 4;

/// A value of the pickle; containers refer to other values by index because lists are filled after
/// they were named.
enum Value<'a> {
    Mark,
    None,
    Bool(bool),
    Int(i64),
    Bytes(Cow<'a, [u8]>),
    Text(&'a str),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Global(Global),
    /// The value that names the type.
    Dtype(usize),
    /// An array that was called into being; its state follows.
    Unfilled,
    Array {
        shape: [usize; 2],
        data: Cow<'a, [u8]>,
    },
}

impl Value<'_> {
    /// The kind of value in words. Never its content, which may be of any length.
    fn kind(&self) -> &'static str {
        match self {
            Value::Mark => "a mark",
            Value::None => "None",
            Value::Bool(_) => "a truth value",
            Value::Int(_) => "a number",
            Value::Bytes(_) => "bytes",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dictionary",
            Value::Global(_) => "a function",
            Value::Dtype(_) => "a type",
            Value::Unfilled | Value::Array { .. } => "an array",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Global {
    Reconstruct,
    Frombuffer,
    Ndarray,
    Dtype,
    Encode,
}

/// A parsed pickle whose outermost value is a dictionary.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a whole pickle; `name` stands for the file in errors.
    pub fn parse(bytes: &'a [u8], name: &Path) -> Result<Pickle<'a>> {
        let mut machine = Machine {
            input: bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            memo: HashMap::new(),
            copies: COPIES * bytes.len(),
        };
        machine.run().map_err(|what| {
            Error::invalid(format!(
                "{}: not a CIFAR pickle: {what} (at byte {})",
                name.display(),
                machine.at
            ))
        })
    }

    /// The array [rows, columns] of bytes under `key`, row by row.
    pub fn array(&self, key: &str) -> Option<([usize; 2], &[u8])> {
        match self.get(key)? {
            Value::Array { shape, data } => Some((*shape, data)),
            _ => None,
        }
    }

    /// The list of numbers under `key`.
    pub fn ints(&self, key: &str) -> Option<Vec<i64>> {
        match self.get(key)? {
            Value::List(items) => items
                .iter()
                .map(|&i| match self.values[i] {
                    Value::Int(n) => Some(n),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(entries) = &self.values[self.root] else { return None };
        let is_key = |id: usize| match &self.values[id] {
            Value::Bytes(bytes) => **bytes == *key.as_bytes(),
            Value::Text(text) => *text == key,
            _ => false,
        };
        entries.iter().find(|&&(k, _)| is_key(k)).map(|&(_, v)| &self.values[v])
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<usize>,
    memo: HashMap<usize, usize>,
    /// Bytes that may still be copied.
    copies: usize,
}

type Step<T> = std::result::Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Pickle<'a>> {
        for _ in 0..INSTRUCTIONS {
            match self.take(1)?[0] {
                b'.' => return self.end(),
                code => self.step(code)?,
            }
        }
        Err(format!("more than {INSTRUCTIONS} instructions"))
    }

    /// Carries out one instruction.
    fn step(&mut self, code: u8) -> Step<()> {
        match code {
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?), // frame: a hint about lengths
            b'(' => self.push(Value::Mark),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' | b'M' => {
                let n = self.int(if code == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(n));
            }
            b'J' => {
                let n = self.int(4)? as i32;
                self.push(Value::Int(n.into()));
            }
            b'I' => self.decimal()?,
            b'U' | b'C' => self.bytes(1)?,
            b'T' | b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }
            b'q' | b'r' => {
                let slot = self.int(if code == b'q' { 1 } else { 4 })?;
                self.remember(slot as usize)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' | b'j' => {
                let slot = self.int(if code == b'h' { 1 } else { 4 })?;
                self.recall(slot as usize)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => self.stacked_global()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(format!("instruction {code:#04x}")),
        }
        Ok(())
    }

    fn protocol(&mut self) -> Step<()> {
        match self.take(1)?[0] {
            0..=5 => Ok(()),
            protocol => Err(format!("protocol {protocol}, expected at most 5")),
        }
    }

    fn end(&mut self) -> Step<Pickle<'a>> {
        let root = self.pop()?;
        if !matches!(self.values[root], Value::Dict(_)) {
            return Err("the outermost value is not a dictionary".into());
        }
        Ok(Pickle { values: std::mem::take(&mut self.values), root })
    }

    /// A number, or a truth value, as text.
    fn decimal(&mut self) -> Step<()> {
        let value = match self.line()? {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            digits => {
                Value::Int(digits.parse().map_err(|_| format!("number \"{}\"", shown(digits)))?)
            }
        };
        self.push(value);
        Ok(())
    }

    /// A tuple of the last `length` values.
    fn tuple(&mut self, length: usize) -> Step<()> {
        let from = self.stack.len().checked_sub(length).ok_or("a tuple of too few values")?;
        let items = self.stack.split_off(from);
        self.push(Value::Tuple(items));
        Ok(())
    }

    /// A name whose parts were put on the stack.
    fn stacked_global(&mut self) -> Step<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name])
        else {
            return Err("a name that is no text".into());
        };
        self.global(module, name)
    }

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let rest = &self.input[self.at..];
        let taken = rest
            .get(..n)
            .ok_or_else(|| format!("cut short: {} bytes left, {n} needed", rest.len()))?;
        self.at += n;
        Ok(taken)
    }

    /// A little-endian unsigned number of `width` bytes.
    fn int(&mut self, width: usize) -> Step<i64> {
        Ok(self.take(width)?.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)) as i64)
    }

    fn counted(&mut self, width: usize) -> Step<&'a [u8]> {
        let length = self.int(width)?;
        self.take(usize::try_from(length).map_err(|_| format!("length {length}"))?)
    }

    fn bytes(&mut self, width: usize) -> Step<()> {
        let value = Value::Bytes(Cow::Borrowed(self.counted(width)?));
        self.push(value);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let text =
            std::str::from_utf8(self.counted(width)?).map_err(|_| "text that is not UTF-8")?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("cut short in a line")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a line that is not text".into())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Step<usize> {
        self.stack.pop().ok_or_else(|| "a value from an empty stack".into())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<usize>> {
        let mark = self
            .stack
            .iter()
            .rposition(|&id| matches!(self.values[id], Value::Mark))
            .ok_or("no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn top(&mut self) -> Step<&mut Value<'a>> {
        let &id = self.stack.last().ok_or("a value from an empty stack")?;
        Ok(&mut self.values[id])
    }

    fn extend_list(&mut self, items: &[usize]) -> Step<()> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            other => return Err(format!("items for {}, which is no list", other.kind())),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[usize]) -> Step<()> {
        match self.top()? {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err("entries for something that is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, slot: usize) -> Step<()> {
        let &id = self.stack.last().ok_or("nothing to remember")?;
        self.memo.insert(slot, id);
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Step<()> {
        let &id = self.memo.get(&slot).ok_or_else(|| format!("memo {slot} was never written"))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let global = match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Global::Reconstruct
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::Frombuffer,
            ("numpy", "ndarray") => Global::Ndarray,
            ("numpy", "dtype") => Global::Dtype,
            ("_codecs", "encode") => Global::Encode,
            _ => return Err(format!("it calls {}", shown(format_args!("{module}.{name}")))),
        };
        self.push(Value::Global(global));
        Ok(())
    }

    /// A call: only the four that make an array (two), a type, and (Python 3 writing for Python 2)
    /// bytes from text.
    fn reduce(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Value::Tuple(arguments)) =
            (&self.values[function], &self.values[arguments])
        else {
            return Err("a call of something that is no function".into());
        };
        let value = match (*function, &arguments[..]) {
            (Global::Reconstruct, &[class, ..])
                if matches!(self.values[class], Value::Global(Global::Ndarray)) =>
            {
                Value::Unfilled
            }
            (Global::Dtype, &[name, ..]) => Value::Dtype(name),
            (Global::Frombuffer, &[data, dtype, shape, order]) => {
                let fortran = match &self.values[order] {
                    Value::Text("C") => false,
                    Value::Text("F") => true,
                    _ => return Err("an array in another order than C and F".into()),
                };
                self.array(data, dtype, shape, fortran)?
            }
            (Global::Encode, &[text, codec]) => match (&self.values[text], &self.values[codec]) {
                (Value::Text(text), Value::Text("latin1")) => {
                    let text = *text;
                    self.copy(text.len())?;
                    let byte =
                        |c: char| u8::try_from(u32::from(c)).map_err(|_| "text that is not latin1");
                    Value::Bytes(Cow::Owned(
                        text.chars().map(byte).collect::<std::result::Result<_, _>>()?,
                    ))
                }
                _ => return Err("bytes from something else than latin1 text".into()),
            },
            _ => {
                return Err(
                    "a call with other arguments than those of an array, a type or bytes".into()
                );
            }
        };
        self.push(value);
        Ok(())
    }

    /// Fills in an array (its state: version, shape, type, Fortran order, values); a type's state
    /// says nothing new.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        match self.top()? {
            Value::Dtype(_) => return Ok(()),
            Value::Unfilled => {}
            other => return Err(format!("a state for {}", other.kind())),
        }
        let Value::Tuple(state) = &self.values[state] else {
            return Err("a state that is no tuple".into());
        };
        let &[_, shape, dtype, fortran, data] = &state[..] else {
            return Err(format!("an array state of {} values, expected 5", state.len()));
        };
        let Value::Bool(fortran) = self.values[fortran] else {
            return Err("an array's order that is no truth value".into());
        };
        let array = self.array(data, dtype, shape, fortran)?;
        *self.top()? = array;
        Ok(())
    }

    /// The array of two dimensions that these values describe.
    fn array(&mut self, data: usize, dtype: usize, shape: usize, fortran: bool) -> Step<Value<'a>> {
        let Value::Dtype(dtype) = self.values[dtype] else {
            return Err("an array's type that is none".into());
        };
        let dtype = match &self.values[dtype] {
            Value::Text(name) => name.as_bytes(),
            Value::Bytes(name) => name,
            other => return Err(format!("an array of {}, expected u1", other.kind())),
        };
        if dtype != b"u1" {
            return Err(format!(
                "an array of {}, expected u1",
                shown(String::from_utf8_lossy(dtype))
            ));
        }
        let Value::Tuple(shape) = &self.values[shape] else {
            return Err("an array's shape that is no tuple".into());
        };
        let &[rows, columns] = &shape[..] else {
            return Err(format!("an array of {} dimensions, expected two", shape.len()));
        };
        let size = |id: usize| match self.values[id] {
            Value::Int(n) => usize::try_from(n).map_err(|_| format!("an array dimension of {n}")),
            ref other => Err(format!("an array dimension that is {}", other.kind())),
        };
        let shape @ [rows, columns] = [size(rows)?, size(columns)?];
        let Value::Bytes(bytes) = &self.values[data] else {
            return Err("an array's values that are no bytes".into());
        };
        let length = bytes.len();
        if rows.checked_mul(columns) != Some(length) {
            return Err(format!("an array of {length} bytes, expected shape {shape:?}"));
        }
        if let (Cow::Borrowed(bytes), false) = (bytes, fortran) {
            return Ok(Value::Array { shape, data: Cow::Borrowed(bytes) });
        }
        self.copy(length)?;
        let Value::Bytes(bytes) = &self.values[data] else { unreachable!("looked at above") };
        let data = if fortran {
            (0..length).map(|i| bytes[i % columns * rows + i / columns]).collect()
        } else {
            bytes.to_vec()
        };
        Ok(Value::Array { shape, data: Cow::Owned(data) })
    }

    /// Counts a copy of `length` bytes.
    fn copy(&mut self, length: usize) -> Step<()> {
        let left = self.copies.checked_sub(length);
        self.copies = left
            .ok_or_else(|| format!("it builds more than {COPIES} times as many bytes as it has"))?;
        Ok(())
    }
}
