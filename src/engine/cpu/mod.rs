//! The CPU engine: a twin of every kernel, with the kernel's name and argument order, generic over
//! f32 and f64.
//!
//! In f32 it is a product, the default where there is no hardware GPU; in f64 it is the oracle of
//! the tests. It uses all cores (through rayon) and the widest vectors the CPU has. Every result is
//! the same bits for any number of threads.

mod adam;
mod batch;
mod constraint;
mod conv;
mod conv_w;
mod loss;
mod map;
mod memory;
mod noise;
mod peaks;
mod reduce;
mod score;
mod scratch;
mod simd;
mod tile;

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::store::{Store, Stored};
use super::{Data, Engine, Loaded, Measure};
use crate::error::Result;
use crate::kernels::adam::SCHEDULE;
use crate::kernels::{Access, Batch, Element, Form, Kernel};
use crate::program::{Buffer, Call, Program, View};
pub use simd::Isa;
use simd::Real;

/// The CPU engine in f32, with the widest vectors that this CPU has.
pub fn f32() -> Box<dyn Engine> {
    f32_with(Isa::detect())
}

/// The CPU engine in f64: the oracle of the tests.
pub fn f64() -> Box<dyn Engine> {
    f64_with(Isa::detect())
}

/// The CPU engine in f32 with one of [`Isa::available`]'s instruction sets: tests compare them.
///
/// # Panics
/// This CPU does not have it.
pub fn f32_with(isa: Isa) -> Box<dyn Engine> {
    Box::new(CpuEngine::<f32>::new(isa))
}

/// The same in f64.
///
/// # Panics
/// This CPU does not have the instruction set.
pub fn f64_with(isa: Isa) -> Box<dyn Engine> {
    Box::new(CpuEngine::<f64>::new(isa))
}

thread_local! {
    /// This thread runs a replica by itself, and the others run theirs.
    static BESIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `unit(0) .. unit(units - 1)` on all threads, unless they have replicas of their own.
fn parallel(units: usize, unit: impl Fn(usize) + Sync + Send) {
    if units <= 1 || BESIDE.get() {
        (0..units).for_each(unit);
    } else {
        (0..units).into_par_iter().for_each(unit);
    }
}

/// A pointer to an output that several threads fill, each its own part.
#[derive(Clone, Copy)]
struct Out<T>(*mut T);

// SAFETY: only `slice` and the kernels read the pointer, and they promise that no two threads touch
// the same element.
unsafe impl<T: Send> Send for Out<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T> Out<T> {
    /// # Safety
    /// The range must lie in the output and belong to the caller alone.
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller promises that the range is in the output and its own.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    /// # Safety
    /// The range must lie in the output, and nobody may write to it.
    unsafe fn part<'a>(self, start: usize, len: usize) -> &'a [T] {
        // SAFETY: the caller promises that the range is in the output and stays as it is.
        unsafe { std::slice::from_raw_parts(self.0.add(start), len) }
    }
}

/// Runs `unit(first, elements)` for parts of so many elements, on all threads.
fn in_units(len: usize, unit: impl Fn(usize, usize) + Sync + Send) {
    parallel(len.div_ceil(UNIT), |at| unit(at * UNIT, UNIT.min(len - at * UNIT)));
}

/// Floats that start as zeros, in cells, since outputs are written through a shared engine. The
/// system gives them their pages when they are first used: what is loaded and never run costs none.
struct Floats<T> {
    cells: Vec<UnsafeCell<T>>,
    /// Where the first one is: rows of images lie on cache-line boundaries.
    start: usize,
}

// SAFETY: the cells are written through `Out` only, by calls that own their part.
unsafe impl<T: Send> Sync for Floats<T> {}

/// Elements of half precision that one thread decodes or encodes at a time.
const UNIT: usize = 1 << 14;

/// Bytes of a cache line.
const LINE: usize = 64;

impl<T: bytemuck::Zeroable> Floats<T> {
    /// Room for whole vectors of floats.
    fn new(buffer: &Buffer, total: usize) -> Result<Self> {
        let len = total.checked_next_multiple_of(16).unwrap_or(total);
        let cells: Vec<UnsafeCell<T>> = zeros(buffer, len.saturating_add(LINE / size_of::<T>()))?;
        let start = cells.as_ptr().align_offset(LINE);
        Ok(Floats { cells, start })
    }

    fn as_ptr(&self) -> *mut T {
        self.cells[self.start..].as_ptr().cast_mut().cast()
    }
}

/// Memory of one buffer.
enum Memory<T> {
    Float(Floats<T>),
    Half(Floats<f16>),
    U32(Vec<u32>),
    U8(Vec<u8>),
}

/// `len` zeros, or an error where the allocator has no room: a limit of the process that nobody told
/// us of.
fn zeros<V: bytemuck::Zeroable>(buffer: &Buffer, len: usize) -> Result<Vec<V>> {
    bytemuck::try_zeroed_vec(len).map_err(|()| {
        let bytes = (len as u64).checked_mul(size_of::<V>() as u64);
        let what = format!("buffer '{}'", buffer.name);
        super::memory::lack(&what, bytes, "the system refuses it")
    })
}

impl<T: Real> Memory<T> {
    fn new(buffer: &Buffer, total: usize) -> Result<Self> {
        Ok(match buffer.element {
            Element::Float => Memory::Float(Floats::new(buffer, total)?),
            Element::Half => Memory::Half(Floats::new(buffer, total)?),
            Element::U32 => Memory::U32(zeros(buffer, total)?),
            Element::U8 => Memory::U8(zeros(buffer, total)?),
        })
    }

    /// The memory as an output; `None` if it holds no floats.
    fn out(&self) -> Option<Out<T>> {
        match self {
            Memory::Float(floats) => Some(Out(floats.as_ptr())),
            Memory::Half(_) | Memory::U32(_) | Memory::U8(_) => None,
        }
    }
}

impl<T: Real> Stored<Memory<T>> {
    fn floats(&self) -> Option<&[T]> {
        match &self.memory {
            Memory::Float(floats) => {
                // SAFETY: at least `total` elements from there on were allocated, as zeros.
                Some(unsafe { std::slice::from_raw_parts(floats.as_ptr(), self.total) })
            }
            Memory::Half(_) | Memory::U32(_) | Memory::U8(_) => None,
        }
    }

    /// What it holds in half precision to be overwritten; none if it holds no such thing.
    fn halves_mut(&mut self) -> &mut [f16] {
        match &self.memory {
            // SAFETY: as in `floats`, and `self` is borrowed mutably.
            Memory::Half(halves) => unsafe { Out(halves.as_ptr()).slice(0, self.total) },
            _ => &mut [],
        }
    }

    /// The floats to be overwritten; none if it holds no floats.
    fn floats_mut(&mut self) -> &mut [T] {
        match self.memory.out() {
            // SAFETY: as in `floats`, and `self` is borrowed mutably.
            Some(out) => unsafe { out.slice(0, self.total) },
            None => &mut [],
        }
    }
}

struct LoadedProgram {
    program: Program,
    /// The schedule that the batch is gathered by, if there is a batch.
    schedule: Option<View>,
    /// Index into the engine's memory for each of the program's buffers.
    buffers: Vec<usize>,
}

/// Runs programs on the CPU in floats of type T. Never named outside of this crate, so that its
/// loops are compiled here, once.
struct CpuEngine<T> {
    isa: Isa,
    store: Store<Memory<T>>,
    programs: Vec<LoadedProgram>,
    scratch: scratch::Pool<T>,
    /// Made when it is first asked for.
    peaks: Option<peaks::Peaks<T>>,
}

impl<T: Real> CpuEngine<T> {
    fn new(isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this CPU has no {}", isa.name());
        let (store, scratch) = (Store::default(), scratch::Pool::default());
        CpuEngine { isa, store, programs: vec![], scratch, peaks: None }
    }

    fn has_batch(&self, program: &LoadedProgram, replica: usize, step: u32) -> bool {
        let Some(view) = program.schedule else { return true };
        let schedule = self.store.at(program.buffers[view.buffer]).floats();
        let row = step as usize * program.program.replicas + replica;
        schedule.is_none_or(|s| s[row * SCHEDULE] != T::ZERO)
    }

    fn call(&self, program: &LoadedProgram, call: &Call, replica: usize, step: u32) {
        let row = step as usize * program.program.replicas + replica;
        let mut args = Args { engine: self, program, call, replica, row, decoded: vec![] };
        args.decode();
        match &call.kernel {
            Kernel::Memory(kernel) => memory::run(kernel, &args),
            Kernel::Conv(kernel) => conv::run(kernel, &args),
            Kernel::ConvW(kernel) => conv_w::run(kernel, &args),
            Kernel::Map(kernel) => map::run(kernel, &args),
            Kernel::Reduce(kernel) => reduce::run(kernel, &args),
            Kernel::Loss(kernel) => loss::run(kernel, &args),
            Kernel::Constraint(kernel) => constraint::run(kernel, &args),
            Kernel::Score(kernel) => score::run(kernel, &args),
            Kernel::Adam(kernel) => adam::run(kernel, &args),
            Kernel::Batch(kernel) => batch::run(kernel, &args),
            Kernel::Noise(kernel) => noise::run(kernel, &args),
        }
        args.encode();
    }
}

/// The arguments of one call for one replica, as slices.
struct Args<'a, T: Real> {
    engine: &'a CpuEngine<T>,
    program: &'a LoadedProgram,
    call: &'a Call,
    replica: usize,
    /// The replica's row of a shared `[step, replica, ...]` buffer.
    row: usize,
    /// Of a call with arguments in half precision, for each argument the floats that stand for it,
    /// and the memory that they are in.
    decoded: Vec<Option<(Out<T>, scratch::Scratch<'a, T>)>>,
}

impl<'a, T: Real> Args<'a, T> {
    fn isa(&self) -> Isa {
        self.engine.isa
    }

    fn locate(&self, i: usize) -> (&'a Stored<Memory<T>>, Range<usize>) {
        let view = self.call.args[i];
        let stored = self.engine.store.at(self.program.buffers[view.buffer]);
        let start = view.offset
            + if stored.buffer.replicated { self.replica * stored.buffer.len } else { 0 };
        (stored, start..start + view.len)
    }

    /// The part of an argument's buffer that is the argument, in half precision.
    fn halves(&self, i: usize) -> Option<Out<f16>> {
        let (stored, range) = self.locate(i);
        match &stored.memory {
            // SAFETY: `load` checked that the view lies in its buffer.
            Memory::Half(halves) => Some(Out(unsafe { halves.as_ptr().add(range.start) })),
            _ => None,
        }
    }

    /// Makes floats of what is in half precision.
    fn decode(&mut self) {
        let kernel = &self.call.kernel;
        let count = self.call.args.len();
        if !(0..count).any(|i| kernel.element(i) == Element::Half) {
            return;
        }
        for i in 0..count {
            let floats = self.halves(i).map(|halves| {
                let mut memory = self.scratch(self.call.args[i].len);
                let (floats, len) = (Out(memory.as_mut_ptr()), memory.len());
                if kernel.bindings()[i].access != Access::Write {
                    in_units(len, |start, len| {
                        // SAFETY: who writes to this part of the buffer is a call of the same
                        // replica, and those run one after the other; units are disjoint parts of
                        // the floats.
                        unsafe { T::widen(halves.part(start, len), floats.slice(start, len)) };
                    });
                }
                (floats, memory)
            });
            self.decoded.push(floats);
        }
    }

    /// Puts results in half precision where they belong.
    fn encode(&self) {
        for (i, decoded) in self.decoded.iter().enumerate() {
            let (Some((floats, _)), Some(halves)) = (decoded, self.halves(i)) else { continue };
            if self.call.kernel.bindings()[i].access == Access::Read {
                continue;
            }
            in_units(self.call.args[i].len, |start, len| {
                // SAFETY: the kernel is done with its floats; for the rest as in `write`, and units
                // are disjoint parts of the argument.
                unsafe { T::narrow(floats.part(start, len), halves.slice(start, len)) };
            });
        }
    }

    /// The floats of an argument's buffer, and which of them are the argument.
    fn floats(&self, i: usize) -> (Out<T>, Range<usize>) {
        if let Some(Some((floats, _))) = self.decoded.get(i) {
            return (*floats, 0..self.call.args[i].len);
        }
        let (stored, range) = self.locate(i);
        let out = stored.memory.out().unwrap_or_else(|| {
            panic!("{}: '{}' holds no floats", self.call.label, stored.buffer.name)
        });
        (out, range)
    }

    fn read(&self, i: usize) -> &'a [T] {
        let (floats, range) = self.floats(i);
        // SAFETY: `load` checked that the view lies in its buffer. Who writes to this part of it is
        // a call of the same replica, and those run one after the other.
        unsafe { floats.part(range.start, range.len()) }
    }

    fn indices(&self, i: usize) -> &'a [u32] {
        match self.locate(i) {
            (Stored { memory: Memory::U32(v), .. }, range) => &v[range],
            (stored, _) => panic!("{}: '{}' holds no indices", self.call.label, stored.buffer.name),
        }
    }

    fn bytes(&self, i: usize) -> &'a [u8] {
        match self.locate(i) {
            (Stored { memory: Memory::U8(v), .. }, range) => &v[range],
            (stored, _) => panic!("{}: '{}' holds no bytes", self.call.label, stored.buffer.name),
        }
    }

    /// The memory of an output.
    fn write(&self, i: usize) -> &'a mut [T] {
        let (floats, range) = self.floats(i);
        // SAFETY: `load` checked that the view lies in its buffer and that no other argument of the
        // call does. Calls of a replica run one after the other, other replicas have their own part
        // of the buffer, and `run` borrows the engine mutably, so nobody else looks at it.
        unsafe { floats.slice(range.start, range.len()) }
    }

    /// The step's and replica's row, of `width` elements, of an output that replicas share.
    fn write_row(&self, i: usize, width: usize) -> &'a mut [T] {
        let (floats, range) = self.floats(i);
        let row = self.row * width..(self.row + 1) * width;
        assert!(row.end <= range.len(), "{}: no row {}", self.call.label, self.row);
        // SAFETY: as in `write`, and a replica has rows of its own.
        unsafe { floats.slice(range.start + row.start, width) }
    }

    /// Memory for `len` elements of any value until the call ends.
    fn scratch(&self, len: usize) -> scratch::Scratch<'a, T> {
        self.engine.scratch.take(len)
    }
}

impl<T: Real> Engine for CpuEngine<T> {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        program.check();
        self.store.check_memory(&self.description(), program, size_of::<T>())?;
        let held = self.store.len();
        let make = |buffer: &Buffer, total: Option<usize>| {
            let total = total.unwrap_or(usize::MAX);
            Ok((Memory::new(buffer, total)?, total))
        };
        let buffers = self.store.take_in(program, make);
        if buffers.is_err() {
            // As if it had never been asked for: a smaller program may follow.
            self.store.truncate(held);
        }
        let gather = |c: &&Call| matches!(c.kernel, Kernel::Batch(Batch::Gather { .. }));
        let schedule = program.calls.iter().find(gather).map(|c| c.args[2]);
        let program = program.clone();
        self.programs.push(LoadedProgram { program, schedule, buffers: buffers? });
        Ok(Loaded(self.programs.len() - 1))
    }

    fn clear(&mut self) {
        self.store.truncate(0);
        self.programs.clear();
    }

    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        let stored = self.store.find_for(name, data.len())?;
        match (&mut stored.memory, data) {
            (Memory::U32(v), Data::U32(d)) => v.copy_from_slice(d),
            (Memory::U8(v), Data::U8(d)) => v.copy_from_slice(d),
            (Memory::Float(_), Data::F32(d)) => {
                let to = stored.floats_mut().iter_mut();
                to.zip(d).for_each(|(to, &v)| *to = T::from_f64(v as f64));
            }
            (Memory::Float(_), Data::F64(d)) => {
                let to = stored.floats_mut().iter_mut();
                to.zip(d).for_each(|(to, &v)| *to = T::from_f64(v));
            }
            (Memory::Half(_), Data::F32(d)) => {
                stored.halves_mut().iter_mut().zip(d).for_each(|(to, &v)| *to = f16::from_f32(v));
            }
            (Memory::Half(_), Data::F64(d)) => {
                stored.halves_mut().iter_mut().zip(d).for_each(|(to, &v)| *to = f16::from_f64(v));
            }
            _ => return Err(stored.wrong_type()),
        }
        Ok(())
    }

    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        let [from, to] = self.store.find_pair(from, to, replicas)?;
        for &replica in replicas {
            let range = from.replica(replica);
            to.floats_mut()[range.clone()].copy_from_slice(&from.floats_mut()[range]);
        }
        Ok(())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        let stored = self.store.find_numbers(name)?;
        let halves = stored.halves_mut().iter().map(|v| v.to_f64()).collect::<Vec<_>>();
        let floats = stored.floats_mut().iter().map(|v| v.to_f64());
        Ok(halves.into_iter().chain(floats).collect())
    }

    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let stored = self.store.find_numbers(name)?;
        let halves = stored.halves_mut().iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let floats = stored.floats_mut().iter().map(|v| v.to_f64() as f32);
        Ok(halves.into_iter().chain(floats).collect())
    }

    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        let program = &self.programs[program.0];
        let run = |replica: usize| {
            // Without a batch in this step it would only compute with padding images.
            for step in steps.clone().filter(|&step| self.has_batch(program, replica, step)) {
                program.program.calls.iter().for_each(|c| self.call(program, c, replica, step));
            }
        };
        // A replica at a time, whose memory stays in the caches from call to call: one for each
        // thread while there are enough of them, all threads for each of the others.
        let active = |&r: &usize| steps.clone().any(|step| self.has_batch(program, r, step));
        let replicas: Vec<usize> = (0..program.program.replicas).filter(active).collect();
        let rest = replicas.len() % rayon::current_num_threads();
        let (beside, rest) = replicas.split_at(replicas.len() - rest);
        beside.par_iter().with_max_len(1).for_each(|&replica| {
            BESIDE.set(true);
            run(replica);
            BESIDE.set(false);
        });
        rest.iter().for_each(|&replica| run(replica));
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self) -> &mut dyn Measure {
        self
    }

    fn description(&self) -> String {
        let float = if size_of::<T>() == 4 { "f32" } else { "f64" };
        format!(
            "CPU engine ({float}, {}, {} threads)",
            self.isa.name(),
            rayon::current_num_threads()
        )
    }

    fn form(&self) -> Form {
        Form::Serial
    }
}
