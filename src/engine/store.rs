//! What both engines know of their buffers: which there are, and which a program shares with
//! others by name.

use std::collections::HashMap;
use std::ops::Range;

use super::memory;
use crate::error::{Error, Result};
use crate::kernels::Element;
use crate::program::{Buffer, Program};

/// A buffer and its memory on a device.
pub(super) struct Stored<M> {
    pub buffer: Buffer,
    /// Elements over all replicas.
    pub total: usize,
    pub memory: M,
}

/// The buffers of an engine.
pub(super) struct Store<M> {
    buffers: Vec<Stored<M>>,
    persistent: HashMap<String, usize>,
}

impl<M> Default for Store<M> {
    fn default() -> Self {
        Store { buffers: vec![], persistent: HashMap::new() }
    }
}

impl<M> Store<M> {
    /// Buffers there are.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Forgets all buffers but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.buffers.truncate(len);
        self.persistent.retain(|_, at| *at < len);
    }

    /// The buffer of this number.
    pub fn at(&self, at: usize) -> &Stored<M> {
        &self.buffers[at]
    }

    /// Errors if what a program needs beyond what is there is more memory than this machine has;
    /// `what` is the engine.
    pub fn check_memory(&self, what: &str, program: &Program, float: usize) -> Result<()> {
        let new = program.buffers.iter().filter(|buffer| self.known(buffer).is_none());
        let bytes = new.map(|buffer| buffer.bytes(program.replicas, float));
        let bytes = bytes.into_iter().try_fold(0u64, |sum, bytes| sum.checked_add(bytes?));
        memory::check(&format!("{what}, program '{}'", program.name), bytes)
    }

    fn known(&self, buffer: &Buffer) -> Option<usize> {
        buffer.persistent.then(|| self.persistent.get(&buffer.name).copied()).flatten()
    }

    /// The number of each of the program's buffers; those that aren't there yet are made by `make`,
    /// which learns how many elements there are over all replicas (`None`: more than can be
    /// counted). After an error, [`Store::truncate`] brings back what was.
    pub fn take_in(
        &mut self,
        program: &Program,
        mut make: impl FnMut(&Buffer, Option<usize>) -> Result<(M, usize)>,
    ) -> Result<Vec<usize>> {
        let mut numbers = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            let total = buffer.total(program.replicas);
            let at = match self.known(buffer) {
                Some(at) => {
                    same(&self.buffers[at], buffer, total)?;
                    at
                }
                None => {
                    let (memory, total) = make(buffer, total)?;
                    self.buffers.push(Stored { buffer: buffer.clone(), total, memory });
                    let at = self.buffers.len() - 1;
                    if buffer.persistent {
                        self.persistent.insert(buffer.name.clone(), at);
                    }
                    at
                }
            };
            numbers.push(at);
        }
        // Two names of one memory would be two results in one place.
        let mut places = numbers.clone();
        places.sort_unstable();
        assert!(
            places.windows(2).all(|pair| pair[0] != pair[1]),
            "program {}: two buffers of one name",
            program.name
        );
        Ok(numbers)
    }

    /// The persistent buffer of this name.
    pub fn find(&mut self, name: &str) -> Result<&mut Stored<M>> {
        let at = self.persistent.get(name).ok_or_else(|| {
            Error::invalid(format!("the loaded programs have no buffer '{name}'"))
        })?;
        Ok(&mut self.buffers[*at])
    }

    /// The persistent buffer of this name, to be overwritten by `len` elements.
    pub fn find_for(&mut self, name: &str, len: usize) -> Result<&mut Stored<M>> {
        let stored = self.find(name)?;
        let total = stored.total;
        if len == total {
            return Ok(stored);
        }
        Err(Error::invalid(format!("buffer '{name}' holds {total} elements, got {len}")))
    }

    /// The persistent buffer of floats of this name.
    pub fn find_floats(&mut self, name: &str) -> Result<&mut Stored<M>> {
        let stored = self.find(name)?;
        match stored.buffer.element {
            Element::Float => Ok(stored),
            _ => Err(Error::invalid(format!("buffer '{name}' holds no floats"))),
        }
    }

    /// The persistent buffer of this name, of floats in any precision.
    pub fn find_numbers(&mut self, name: &str) -> Result<&mut Stored<M>> {
        match self.find(name)?.buffer.element {
            Element::Half => self.find(name),
            _ => self.find_floats(name),
        }
    }

    /// Two persistent buffers of floats of one shape, for a copy of `replicas` from the first to
    /// the second.
    pub fn find_pair(
        &mut self,
        from: &str,
        to: &str,
        replicas: &[usize],
    ) -> Result<[&mut Stored<M>; 2]> {
        let shape = |stored: &Stored<M>| (stored.buffer.len, stored.total);
        let shapes = [shape(self.find_floats(from)?), shape(self.find_floats(to)?)];
        let places = [self.persistent[from], self.persistent[to]];
        let refused =
            |what: &str| Error::invalid(format!("a copy from '{from}' to '{to}': {what}"));
        let [(len, total), other] = shapes;
        if other != (len, total) {
            let what = format!(
                "they hold {total} and {} elements, {len} and {} a replica",
                other.1, other.0
            );
            return Err(refused(&what));
        }
        if let Some(replica) = replicas.iter().find(|&&replica| (replica + 1) * len > total) {
            return Err(refused(&format!("there is no replica {replica} in {total} elements")));
        }
        self.buffers.get_disjoint_mut(places).map_err(|_| refused("they are one buffer"))
    }
}

impl<M> Stored<M> {
    /// The elements of one replica.
    pub fn replica(&self, replica: usize) -> Range<usize> {
        replica * self.buffer.len..(replica + 1) * self.buffer.len
    }

    /// The error of data that don't fit.
    pub fn wrong_type(&self) -> Error {
        let Buffer { name, element, .. } = &self.buffer;
        Error::invalid(format!("buffer '{name}' holds {element:?}, not what was written"))
    }
}

/// Errors unless a program's persistent buffer is the one that is held under its name.
fn same<M>(held: &Stored<M>, wanted: &Buffer, wanted_total: Option<usize>) -> Result<()> {
    if held.buffer == *wanted && Some(held.total) == wanted_total {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "buffer '{}' is {:?} x {} in an earlier program and {:?} x {} in this one",
        wanted.name,
        held.buffer.element,
        held.total,
        wanted.element,
        wanted_total.map_or("too many".into(), |total| total.to_string())
    )))
}
