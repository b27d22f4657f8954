//! A strict reader for the pickles in CIFAR-10's Python archive: a dictionary of text, numbers, lists and one NumPy
//! array of bytes.
//!
//! A pickle is a program. This reader knows only the instructions and the four names that such a file needs, runs
//! nothing, and refuses everything else. Protocols 1 to 4, as Python 2 and 3 and any NumPy write them.

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Result};

/// A value of the pickle; containers refer to other values by index because lists are filled after they were named.
#[derive(Debug)]
enum Value {
    Mark,
    None,
    Bool(bool),
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Global(Global),
    Dtype(Vec<u8>),
    Array { shape: Vec<usize>, data: Vec<u8> },
}

#[derive(Clone, Copy, Debug)]
enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
    Encode,
}

/// A parsed pickle whose outermost value is a dictionary.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: usize,
}

impl Pickle {
    /// Reads a whole pickle; `name` stands for the file in errors.
    pub fn parse(bytes: &[u8], name: &Path) -> Result<Pickle> {
        let mut machine = Machine { input: bytes, at: 0, values: Vec::new(), stack: Vec::new(), memo: HashMap::new() };
        machine.run().map_err(|what| {
            Error::invalid(format!("{}: not a CIFAR pickle: {what} (at byte {})", name.display(), machine.at))
        })
    }

    /// The array [rows, columns] of bytes under `key`, row by row.
    pub fn array(&self, key: &str) -> Option<([usize; 2], &[u8])> {
        match self.get(key)? {
            Value::Array { shape, data } => Some((shape.as_slice().try_into().ok()?, data)),
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

    fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(entries) = &self.values[self.root] else { return None };
        let is_key = |id: usize| match &self.values[id] {
            Value::Bytes(bytes) => bytes == key.as_bytes(),
            Value::Text(text) => text == key,
            _ => false,
        };
        entries.iter().find(|&&(k, _)| is_key(k)).map(|&(_, v)| &self.values[v])
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<usize>,
    memo: HashMap<usize, usize>,
}

type Step<T> = std::result::Result<T, String>;

impl Machine<'_> {
    fn run(&mut self) -> Step<Pickle> {
        loop {
            match self.take(1)?[0] {
                0x80 => {
                    let protocol = self.take(1)?[0];
                    if protocol > 4 {
                        return Err(format!("protocol {protocol}, expected at most 4"));
                    }
                }
                0x95 => drop(self.take(8)?), // frame: a hint about lengths
                b'(' => self.push(Value::Mark),
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => {
                    let n = self.int(1)?;
                    self.push(Value::Int(n));
                }
                b'M' => {
                    let n = self.int(2)?;
                    self.push(Value::Int(n));
                }
                b'J' => {
                    let n = self.int(4)? as i32;
                    self.push(Value::Int(n.into()));
                }
                b'I' => {
                    let value = match self.line()? {
                        "00" => Value::Bool(false),
                        "01" => Value::Bool(true),
                        digits => Value::Int(digits.parse().map_err(|_| format!("number {digits:?}"))?),
                    };
                    self.push(value);
                }
                b'U' | b'C' => self.bytes(1)?,
                b'T' | b'B' => self.bytes(4)?,
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                b']' => self.push(Value::List(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                b')' => self.push(Value::Tuple(Vec::new())),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items));
                }
                n @ 0x85..=0x87 => {
                    let length = usize::from(n - 0x84);
                    let from = self.stack.len().checked_sub(length).ok_or("a tuple of too few values")?;
                    let items = self.stack.split_off(from);
                    self.push(Value::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }
                b'q' => {
                    let slot = self.int(1)? as usize;
                    self.remember(slot)?;
                }
                b'r' => {
                    let slot = self.int(4)? as usize;
                    self.remember(slot)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => {
                    let slot = self.int(1)? as usize;
                    self.recall(slot)?;
                }
                b'j' => {
                    let slot = self.int(4)? as usize;
                    self.recall(slot)?;
                }
                b'c' => {
                    let module = self.line()?.to_string();
                    let name = self.line()?.to_string();
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (&self.values[module], &self.values[name]) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.global(&module, &name)?;
                        }
                        other => return Err(format!("a name made of {other:?}")),
                    }
                }
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                b'.' => {
                    let root = self.pop()?;
                    if !matches!(self.values[root], Value::Dict(_)) {
                        return Err("the outermost value is not a dictionary".into());
                    }
                    return Ok(Pickle { values: std::mem::take(&mut self.values), root });
                }
                code => return Err(format!("instruction {code:#04x}")),
            }
        }
    }

    fn take(&mut self, n: usize) -> Step<&[u8]> {
        let rest = &self.input[self.at..];
        let taken = rest.get(..n).ok_or_else(|| format!("cut short: {} bytes left, {n} needed", rest.len()))?;
        self.at += n;
        Ok(taken)
    }

    /// A little-endian unsigned number of `width` bytes.
    fn int(&mut self, width: usize) -> Step<i64> {
        Ok(self.take(width)?.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)) as i64)
    }

    fn counted(&mut self, width: usize) -> Step<&[u8]> {
        let length = self.int(width)?;
        self.take(usize::try_from(length).map_err(|_| format!("length {length}"))?)
    }

    fn bytes(&mut self, width: usize) -> Step<()> {
        let value = Value::Bytes(self.counted(width)?.to_vec());
        self.push(value);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let text = std::str::from_utf8(self.counted(width)?).map_err(|_| "text that is not UTF-8")?.to_string();
        self.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Step<&str> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("cut short in a line")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a line that is not text".into())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Step<usize> {
        self.stack.pop().ok_or_else(|| "a value from an empty stack".into())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<usize>> {
        let mark = self.stack.iter().rposition(|&id| matches!(self.values[id], Value::Mark)).ok_or("no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn top(&mut self) -> Step<&mut Value> {
        let &id = self.stack.last().ok_or("a value from an empty stack")?;
        Ok(&mut self.values[id])
    }

    fn extend_list(&mut self, items: &[usize]) -> Step<()> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            other => return Err(format!("items for {other:?}, which is no list")),
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
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy", "ndarray") => Global::Ndarray,
            ("numpy", "dtype") => Global::Dtype,
            ("_codecs", "encode") => Global::Encode,
            _ => return Err(format!("it calls {module}.{name}")),
        };
        self.push(Value::Global(global));
        Ok(())
    }

    /// A call: only the three that make an array, a type, and (Python 3 writing for Python 2) bytes from text.
    fn reduce(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Value::Tuple(arguments)) = (&self.values[function], &self.values[arguments])
        else {
            return Err("a call of something that is no function".into());
        };
        let argument = |i: usize| arguments.get(i).map(|&id| &self.values[id]);
        let value = match (function, argument(0), argument(1)) {
            (Global::Reconstruct, Some(Value::Global(Global::Ndarray)), _) => {
                Value::Array { shape: Vec::new(), data: Vec::new() }
            }
            (Global::Dtype, Some(Value::Bytes(name)), _) => Value::Dtype(name.clone()),
            (Global::Dtype, Some(Value::Text(name)), _) => Value::Dtype(name.clone().into_bytes()),
            (Global::Encode, Some(Value::Text(text)), Some(Value::Text(codec))) if codec == "latin1" => {
                let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| format!("{c:?} is not latin1"));
                Value::Bytes(text.chars().map(byte).collect::<Step<_>>()?)
            }
            call => return Err(format!("call {call:?}")),
        };
        self.push(value);
        Ok(())
    }

    /// Fills in an array (its state: version, shape, type, Fortran order, values); a type's state says nothing new.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let Value::Tuple(state) = &self.values[state] else { return Err("a state that is no tuple".into()) };
        let state = state.clone();
        match self.top()? {
            Value::Dtype(_) => return Ok(()),
            Value::Array { .. } => {}
            other => return Err(format!("a state for {other:?}")),
        }
        let [_, shape, dtype, fortran, data] = state[..] else {
            return Err(format!("an array state of {} values, expected 5", state.len()));
        };
        let (Value::Tuple(shape), Value::Dtype(dtype), Value::Bool(fortran), Value::Bytes(data)) =
            (&self.values[shape], &self.values[dtype], &self.values[fortran], &self.values[data])
        else {
            return Err("an array state of other values than shape, type, order and bytes".into());
        };
        if dtype != b"u1" {
            return Err(format!("an array of {}, expected u1", String::from_utf8_lossy(dtype)));
        }
        let sizes = shape.iter().map(|&id| match self.values[id] {
            Value::Int(n) => usize::try_from(n).map_err(|_| format!("an array dimension of {n}")),
            ref other => Err(format!("an array dimension of {other:?}")),
        });
        let shape = sizes.collect::<Step<Vec<usize>>>()?;
        let [rows, columns] = shape[..] else {
            return Err(format!("an array of shape {shape:?}, expected two dimensions"));
        };
        if rows.checked_mul(columns) != Some(data.len()) {
            return Err(format!("an array of {} bytes, expected shape {shape:?}", data.len()));
        }
        let data = if *fortran {
            (0..data.len()).map(|i| data[i % columns * rows + i / columns]).collect()
        } else {
            data.clone()
        };
        *self.top()? = Value::Array { shape, data };
        Ok(())
    }
}
