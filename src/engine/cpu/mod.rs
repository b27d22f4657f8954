//! The CPU engine: a twin of every kernel, with the kernel's name and argument order, generic over
//! f32 and f64.
//!
//! In f32 it is a product, the default where there is no hardware GPU; in f64 it is the oracle of
//! the tests. It uses all cores (through rayon) and the widest vectors the CPU has. Every result is
//! the same bits for any number of threads.

mod conv;
mod elementwise;
mod reduce;
pub mod simd;
mod update;

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::{Data, Engine, Loaded, Timing, memory};
use crate::error::{Error, Result};
use crate::program::kernel::{Element, Kernel, Params};
use crate::program::{Buffer, Call, Program, View};
use simd::{Isa, Real};

/// Runs `unit(0) .. unit(units - 1)` on all threads.
fn parallel(units: usize, unit: impl Fn(usize) + Sync + Send) {
    if units <= 1 {
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
}

/// 64 bytes of f32 or 128 of f64: keeps rows of images on cache-line boundaries. A cell, since
/// outputs are written through a shared engine.
#[repr(C, align(64))]
struct Line<T>(UnsafeCell<[T; 16]>);

/// Memory of one buffer.
enum Memory<T> {
    Float(Vec<Line<T>>),
    U32(Vec<u32>),
    U8(Vec<u8>),
}

struct Stored<T> {
    buffer: Buffer,
    /// Elements over all replicas.
    total: usize,
    memory: Memory<T>,
}

/// `len` elements, or an error where the allocator has no room: a limit of the process that nobody
/// told us of.
fn filled<V>(buffer: &Buffer, len: usize, value: impl FnMut() -> V) -> Result<Vec<V>> {
    let mut memory = Vec::new();
    if memory.try_reserve_exact(len).is_err() {
        let bytes = (len as u64).checked_mul(size_of::<V>() as u64);
        return Err(memory::lack(
            &format!("buffer '{}'", buffer.name),
            bytes,
            "the system refuses it",
        ));
    }
    memory.resize_with(len, value);
    Ok(memory)
}

impl<T: Real> Stored<T> {
    fn new(buffer: &Buffer, total: usize) -> Result<Self> {
        let memory = match buffer.element {
            Element::Float => Memory::Float(filled(buffer, total.div_ceil(16), || {
                Line(UnsafeCell::new([T::ZERO; 16]))
            })?),
            Element::U32 => Memory::U32(filled(buffer, total, || 0)?),
            Element::U8 => Memory::U8(filled(buffer, total, || 0)?),
        };
        Ok(Stored { buffer: buffer.clone(), total, memory })
    }

    fn floats(&self) -> Option<&[T]> {
        match &self.memory {
            Memory::Float(lines) => {
                // SAFETY: a Line is 16 elements without padding, and `total` rounded up to lines
                // was allocated.
                Some(unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), self.total) })
            }
            _ => None,
        }
    }

    fn floats_mut(&mut self) -> Option<&mut [T]> {
        // SAFETY: as in `floats`, and `self` is borrowed mutably.
        self.out().map(|out| unsafe { out.slice(0, self.total) })
    }

    /// The memory as an output.
    fn out(&self) -> Option<Out<T>> {
        match &self.memory {
            Memory::Float(lines) => Some(Out(lines.as_ptr().cast_mut().cast())),
            _ => None,
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

/// Runs programs on the CPU in floats of type T.
pub struct CpuEngine<T> {
    isa: Isa,
    memory: Vec<Stored<T>>,
    persistent: HashMap<String, usize>,
    programs: Vec<LoadedProgram>,
}

impl<T: Real> Default for CpuEngine<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> CpuEngine<T> {
    /// An engine with the widest vectors that this CPU has.
    pub fn new() -> Self {
        Self::with_isa(Isa::detect())
    }

    /// An engine with one of [`Isa::available`]'s instruction sets: tests compare them.
    ///
    /// # Panics
    /// This CPU does not have it.
    pub fn with_isa(isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this CPU has no {}", isa.name());
        CpuEngine { isa, memory: Vec::new(), persistent: HashMap::new(), programs: Vec::new() }
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.persistent
            .get(name)
            .copied()
            .ok_or_else(|| Error::invalid(format!("the loaded programs have no buffer '{name}'")))
    }

    /// The engine's index of each of the program's buffers; those that aren't there yet are made.
    fn allocate(&mut self, program: &Program) -> Result<Vec<usize>> {
        let known = |buffer: &Buffer| {
            buffer.persistent.then(|| self.persistent.get(&buffer.name)).flatten()
        };
        let new = program.buffers.iter().filter(|buffer| known(buffer).is_none());
        let bytes = new.map(|buffer| buffer.bytes(program.replicas, size_of::<T>() as u64));
        let bytes = bytes.into_iter().try_fold(0u64, |sum, bytes| sum.checked_add(bytes?));
        memory::check(&format!("{}, program '{}'", self.description(), program.name), bytes)?;
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            let known = buffer.persistent.then(|| self.persistent.get(&buffer.name)).flatten();
            if let Some(&at) = known {
                super::same_buffer(
                    &self.memory[at].buffer,
                    buffer,
                    self.memory[at].total,
                    program.replicas,
                )?;
                buffers.push(at);
                continue;
            }
            let total = buffer.total(program.replicas).unwrap_or(usize::MAX);
            self.memory.push(Stored::new(buffer, total)?);
            if buffer.persistent {
                self.persistent.insert(buffer.name.clone(), self.memory.len() - 1);
            }
            buffers.push(self.memory.len() - 1);
        }
        Ok(buffers)
    }

    fn has_batch(&self, program: &LoadedProgram, replica: usize, step: u32) -> bool {
        let Some(view) = program.schedule else { return true };
        let schedule = self.memory[program.buffers[view.buffer]].floats();
        schedule
            .is_none_or(|s| s[(step as usize * program.program.replicas + replica) * 4] != T::ZERO)
    }

    fn call(&self, program: &LoadedProgram, call: &Call, replica: usize, step: u32) {
        let args = Args { engine: self, program, call, replica };
        let replicas = program.program.replicas;
        let row = (step as usize * replicas + replica) * 4;
        let isa = self.isa;
        use Kernel::*;
        match (call.kernel, &call.params) {
            (ConvY, Params::Conv { geometry, epilogue }) => {
                conv::conv_y(
                    isa,
                    geometry,
                    *epilogue,
                    args.read(0),
                    args.read(1),
                    args.read(2),
                    args.read(3),
                    args.read(4),
                    args.write(5),
                );
            }
            (ConvX, Params::Conv { geometry, epilogue }) => {
                conv::conv_x(
                    isa,
                    geometry,
                    *epilogue,
                    args.read(0),
                    args.read(1),
                    args.read(2),
                    args.read(3),
                    args.read(4),
                    args.write(5),
                );
            }
            (ConvW, &Params::ConvW { ref geometry, add, splits }) => {
                conv::conv_w(
                    isa,
                    geometry,
                    splits,
                    add,
                    args.read(0),
                    args.read(1),
                    args.read(2),
                    args.write(3),
                );
            }
            (SplitSum, &Params::SplitSum { splits, add, .. }) => {
                conv::split_sum(splits, add, args.read(0), args.read(1), args.write(2))
            }
            (Add, Params::Map { .. }) => {
                elementwise::add(args.read(0), args.read(1), args.write(2))
            }
            (Mul, Params::Map { .. }) => {
                elementwise::mul(args.read(0), args.read(1), args.write(2))
            }
            (Affine, &Params::Map { scale, shift, .. }) => {
                elementwise::affine(scale, shift, args.read(0), args.write(1))
            }
            (Relu, Params::Map { .. }) => elementwise::relu(args.read(0), args.write(1)),
            (ReluGrad, Params::Map { .. }) => {
                elementwise::relu_grad(args.read(0), args.read(1), args.write(2))
            }
            (Sigmoid, Params::Map { .. }) => elementwise::sigmoid(args.read(0), args.write(1)),
            (SigmoidGrad, Params::Map { .. }) => {
                elementwise::sigmoid_grad(args.read(0), args.read(1), args.write(2))
            }
            (InvNorm, &Params::Map { scale, .. }) => {
                elementwise::inv_norm(scale, args.read(0), args.write(1))
            }
            (Copy, Params::Map { .. }) => elementwise::copy(args.read(0), args.write(1)),
            (Fill, &Params::Map { shift, .. }) => elementwise::fill(shift, args.write(0)),
            (Broadcast, &Params::Reshape { small, large }) => {
                reduce::broadcast(small, large, args.read(0), args.write(1))
            }
            (SumTo, &Params::Reshape { small, large }) => {
                reduce::sum_to(small, large, args.read(0), args.write(1))
            }
            (Mse, &Params::Mse { rows, n }) => reduce::mse(
                rows,
                n,
                args.read(0),
                args.read(1),
                args.read(2),
                args.write(3),
                args.write(4),
            ),
            (MseSum, &Params::Mse { rows, n }) => {
                reduce::mse_sum(rows, n, args.read(0), args.read(1), args.write(2), args.write(3))
            }
            (Constraint, Params::Constraint { segments, .. }) => {
                reduce::constraint(segments, args.read(0), args.read(1), args.write(2))
            }
            (ConstraintSum, Params::Constraint { segments, .. }) => {
                reduce::constraint_sum(segments, args.read(0), args.write(1))
            }
            (ConstraintGrad, Params::Constraint { segments, scale }) => {
                reduce::constraint_grad(
                    segments,
                    *scale,
                    args.read(0),
                    args.read(1),
                    args.read(2),
                    args.write(3),
                );
            }
            (ImageGrad, Params::ImageGrad { geometry }) => {
                conv::image_grad(
                    isa,
                    geometry,
                    args.read(0),
                    args.read(1),
                    args.read(2),
                    args.write(3),
                );
            }
            (ImageCos, &Params::ImageCos { blocks, n, segment }) => {
                reduce::image_cos(blocks, n, segment, args.read(0), args.read(1), args.write(2));
            }
            (Adam, &Params::Adam { lr, beta1, beta2, eps, .. }) => {
                let constants = update::Adam { lr, beta1, beta2, eps };
                let schedule = &args.read(5)[row..row + 4];
                update::adam(
                    constants,
                    args.write(0),
                    args.write(1),
                    args.write(2),
                    args.write(3),
                    args.read(4),
                    schedule,
                );
            }
            (Gather, &Params::Gather { pixels, n }) => {
                let first = (step as usize * replicas + replica) * n;
                let image_weight = args.read(2)[row];
                update::gather(
                    pixels,
                    args.bytes(0),
                    &args.indices(1)[first..first + n],
                    image_weight,
                    args.write(3),
                    args.write(4),
                );
            }
            (Record, &Params::Record { len, offset, width }) => {
                let at = (step as usize * replicas + replica) * width + offset;
                args.write(1)[at..at + len].copy_from_slice(&args.read(0)[..len]);
            }
            (kernel, params) => panic!("{kernel:?} can't take {params:?}"),
        }
    }
}

/// The arguments of one call for one replica, as slices.
struct Args<'a, T> {
    engine: &'a CpuEngine<T>,
    program: &'a LoadedProgram,
    call: &'a Call,
    replica: usize,
}

impl<'a, T: Real> Args<'a, T> {
    fn locate(&self, i: usize) -> (&'a Stored<T>, Range<usize>) {
        let view = self.call.args[i];
        let stored = &self.engine.memory[self.program.buffers[view.buffer]];
        let start = view.offset
            + if stored.buffer.replicated { self.replica * stored.buffer.len } else { 0 };
        (stored, start..start + view.len)
    }

    fn read(&self, i: usize) -> &'a [T] {
        let (stored, range) = self.locate(i);
        &stored.floats().unwrap_or_else(|| {
            panic!("{}: '{}' holds no floats", self.call.label, stored.buffer.name)
        })[range]
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
        let (stored, range) = self.locate(i);
        let out = stored.out().unwrap_or_else(|| {
            panic!("{}: '{}' holds no floats", self.call.label, stored.buffer.name)
        });
        // SAFETY: `load` checked that the view lies in its buffer and that no other argument of the
        // call does; calls run one after the other, and `run` borrows the engine mutably, so nobody
        // else looks at its memory.
        unsafe { out.slice(range.start, range.len()) }
    }
}

impl<T: Real> Engine for CpuEngine<T> {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        program.check();
        let held = self.memory.len();
        let buffers = self.allocate(program);
        if buffers.is_err() {
            // As if it had never been asked for: a smaller program may follow.
            self.memory.truncate(held);
            self.persistent.retain(|_, at| *at < held);
        }
        let buffers = buffers?;
        // Two names of one memory would be two outputs in one place.
        let mut places = buffers.clone();
        places.sort_unstable();
        assert!(
            places.windows(2).all(|pair| pair[0] != pair[1]),
            "program {}: two buffers of one name",
            program.name
        );
        let schedule = program.calls.iter().find(|c| c.kernel == Kernel::Gather).map(|c| c.args[2]);
        self.programs.push(LoadedProgram { program: program.clone(), schedule, buffers });
        Ok(Loaded(self.programs.len() - 1))
    }

    fn clear(&mut self) {
        self.memory.clear();
        self.persistent.clear();
        self.programs.clear();
    }

    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        let at = self.find(name)?;
        let stored = &mut self.memory[at];
        let want = stored.total;
        let mismatch = |got: usize| {
            Error::invalid(format!("buffer '{name}' holds {want} elements, got {got}"))
        };
        match (&mut stored.memory, data) {
            (Memory::U32(v), Data::U32(d)) if d.len() == want => v.copy_from_slice(d),
            (Memory::U8(v), Data::U8(d)) if d.len() == want => v.copy_from_slice(d),
            (Memory::Float(_), Data::F32(d)) if d.len() == want => {
                stored
                    .floats_mut()
                    .into_iter()
                    .flatten()
                    .zip(d)
                    .for_each(|(to, &v)| *to = T::from_f64(v as f64));
            }
            (Memory::Float(_), Data::F64(d)) if d.len() == want => {
                stored
                    .floats_mut()
                    .into_iter()
                    .flatten()
                    .zip(d)
                    .for_each(|(to, &v)| *to = T::from_f64(v));
            }
            (_, data) if data.len() != want => return Err(mismatch(data.len())),
            _ => {
                return Err(Error::invalid(format!(
                    "buffer '{name}' holds {:?}, not what was written",
                    stored.buffer.element
                )));
            }
        }
        Ok(())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        let stored = &self.memory[self.find(name)?];
        let floats = stored
            .floats()
            .ok_or_else(|| Error::invalid(format!("buffer '{name}' holds no floats")))?;
        Ok(floats.iter().map(|v| v.to_f64()).collect())
    }

    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        let program = &self.programs[program.0];
        let replicas = program.program.replicas;
        for step in steps {
            // A replica without a batch in this step would only compute with padding images.
            let active: Vec<usize> =
                (0..replicas).filter(|&r| self.has_batch(program, r, step)).collect();
            for call in &program.program.calls {
                active.iter().for_each(|&replica| self.call(program, call, replica, step));
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn time_calls(
        &mut self,
        program: Loaded,
        step: u32,
        repeats: usize,
    ) -> Result<(Vec<f64>, Timing)> {
        let program = &self.programs[program.0];
        let mut seconds = vec![f64::INFINITY; program.program.calls.len()];
        for _ in 0..repeats.max(1) {
            for (call, seconds) in program.program.calls.iter().zip(&mut seconds) {
                let start = Instant::now();
                (0..program.program.replicas)
                    .for_each(|replica| self.call(program, call, replica, step));
                *seconds = seconds.min(start.elapsed().as_secs_f64());
            }
        }
        Ok((seconds, Timing::Wall))
    }

    fn description(&self) -> String {
        let float = if size_of::<T>() == 4 { "f32" } else { "f64" };
        format!(
            "CPU engine ({float}, {}, {} threads)",
            self.isa.name(),
            rayon::current_num_threads()
        )
    }

    fn workgroups(&self) -> usize {
        1
    }
}
