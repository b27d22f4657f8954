//! What this CPU can do at best: multiply-adds of each instruction set, reading at the size of each
//! cache, copying, handing work to all threads. And the engine's measurements.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::time::Instant;

use super::simd::{Isa, Real, Simd, dispatch};
use super::{CpuEngine, Out, parallel};
use crate::engine::measure::{Facts, Measure, Probe, Roof, Span, Timing, Work};
use crate::engine::{Loaded, memory};
use crate::error::{Error, Result};

/// Independent chains of multiply-adds: more than latency times throughput of any CPU, and with two
/// operands no more than the 16 registers of AVX2.
const CHAINS: usize = 12;

/// Multiply-adds of a chain in one unit of work.
const FMAS: usize = 1 << 14;

/// Accumulators of a read.
const SUMS: usize = 8;

/// Elements of a [`Line`].
const LINE: usize = 16;

/// A cache line of f32, two of f64: cells, since units copy from one to the other.
#[repr(C, align(64))]
struct Line<T>(UnsafeCell<[T; LINE]>);

// SAFETY: the cells are written through `Out` only, by units that own their part.
unsafe impl<T: Send> Sync for Line<T> {}

/// Bytes that a unit reads at least, again and again where it has fewer of its own.
const READ: usize = 4 << 20;

/// Most memory of all probes, in bytes: beyond the caches of all but the largest machines.
const MOST: u64 = 1 << 30;

/// What a probe does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Multiply-adds in so many units.
    Fma(Isa, usize),
    /// So many units read so many lines each.
    Read { units: usize, lines: usize },
    /// The first half of the memory over the second.
    Copy,
    /// Units without work.
    Launch,
}

/// The probes, and memory for them that holds ones.
pub(super) struct Peaks<T> {
    probes: Vec<(Probe, Kind)>,
    checked: Vec<bool>,
    memory: Vec<Line<T>>,
}

/// Bytes of the data caches of one core (level 1, level 2) and of all (level 3), where the system
/// says; else what is usual.
fn caches() -> [u64; 3] {
    let mut bytes = [32 << 10, 512 << 10, 8 << 20];
    for i in 0..8 {
        let of = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{name}");
            std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
        };
        let (level, size) = (of("level").parse::<usize>(), of("size"));
        let size = size.strip_suffix('K').and_then(|size| size.parse::<u64>().ok());
        if let (Ok(level @ 1..=3), Some(kib), true) = (level, size, of("type") != "Instruction") {
            bytes[level - 1] = kib << 10;
        }
    }
    bytes
}

impl<T: Real> Peaks<T> {
    fn new(isa: Isa) -> Result<Self> {
        let [l1, l2, l3] = caches();
        let threads = rayon::current_num_threads() as u64;
        let most = memory::available().map_or(MOST, |bytes| MOST.min(bytes / 4));
        let bytes = (4 * l3).max(256 << 20).min(most);
        let all_l2 = l2 * threads;
        let line = size_of::<Line<T>>() as u64;
        let mut memory = Vec::new();
        if memory.try_reserve_exact((bytes / line) as usize).is_err() {
            return Err(memory::lack("memory to be read", Some(bytes), "the system refuses it"));
        }
        memory.resize_with((bytes / line) as usize, || Line(UnsafeCell::new([T::ONE; LINE])));

        let mut probes = vec![];
        let mut add = |name: String, shape, work, roof, missing, kind| {
            probes.push((Probe { name, shape, work, roof, missing }, kind));
        };
        for set in Isa::available() {
            for of in if threads > 1 { vec![1, threads] } else { vec![1] } {
                // Several units a thread: whoever is late takes fewer.
                let units = if of == 1 { 1 } else { 4 * of as usize };
                let roof = (set == isa && of == threads).then_some(Roof::Compute);
                let name = format!("fma {}", set.name());
                let flops = 2 * units * FMAS * CHAINS * lanes::<T>(set);
                let work = Work::Flops(flops as f64);
                add(name, format!("{of} thread(s)"), work, roof, None, Kind::Fma(set, units));
            }
        }
        let per_thread = [("L1", l1 / 2, None), ("L2", l2 / 2, Some(Roof::Memory(0)))];
        let [units, of] = [4 * threads, threads];
        for (level, bytes, roof) in per_thread {
            let lines = (bytes / line).max(1) as usize;
            let kind = Kind::Read { units: units as usize, lines };
            let shape = format!("{} KiB a thread, {threads} thread(s)", bytes >> 10);
            add(format!("read {level}"), shape, work_of(kind, line), roof, None, kind);
        }
        let l3_fits = l3 / 2 > all_l2;
        let kind = Kind::Read { units: of as usize, lines: (l3 / 2 / of / line).max(1) as usize };
        let missing = (!l3_fits).then(|| {
            format!("the {} KiB of level 2 of all threads hold as much as level 3", all_l2 >> 10)
        });
        let roof = l3_fits.then_some(Roof::Memory(all_l2));
        let shape = format!("{} KiB, {threads} thread(s)", l3 >> 11);
        add("read L3".to_string(), shape, work_of(kind, line), roof, missing, kind);

        let missing = (bytes < 2 * l3)
            .then(|| format!("{} of memory are no more than the caches hold", memory::text(bytes)));
        let lines = (bytes / line / units).max(1) as usize;
        let kind = Kind::Read { units: units as usize, lines };
        let shape = format!("{} MiB, {threads} thread(s)", bytes >> 20);
        let roof = Roof::Memory(if l3_fits { l3.max(all_l2) } else { all_l2 });
        let roof = missing.is_none().then_some(roof);
        let read = work_of(kind, line);
        add("read DRAM".to_string(), shape.clone(), read, roof, missing.clone(), kind);
        let copied = Work::Bytes((units * (bytes / 2 / line / units) * line * 2) as f64);
        add("copy DRAM".to_string(), shape, copied, None, missing, Kind::Copy);
        let shape = format!("{threads} thread(s)");
        // No roof: a small kernel is run by one thread, without it.
        add("launch".to_string(), shape, Work::Once, None, None, Kind::Launch);
        let checked = vec![false; probes.len()];
        Ok(Peaks { probes, checked, memory })
    }

    fn out(&self) -> Out<T> {
        Out(self.memory.as_ptr().cast_mut().cast())
    }

    /// Runs a probe once: what every unit found, and what it should have found.
    fn run(&self, kind: Kind) -> (Vec<f64>, f64) {
        let threads = rayon::current_num_threads();
        let units = match kind {
            Kind::Fma(_, units) | Kind::Read { units, .. } => units,
            Kind::Copy => 4 * threads,
            Kind::Launch => threads,
        };
        let mut found = vec![0.0; units];
        let out = Out(found.as_mut_ptr());
        match kind {
            Kind::Fma(isa, _) => {
                let work = Fma { step: T::ONE, out };
                parallel(units, |unit| fma(isa, &work, unit));
                // Chain j went from j to j + FMAS in every lane.
                let chains = CHAINS * (CHAINS - 1) / 2 + CHAINS * FMAS;
                (found, (chains * lanes::<T>(isa)) as f64)
            }
            Kind::Read { units, lines } => {
                let times = passes(lines, size_of::<Line<T>>());
                let (isa, work) = (self.isa(), Read { memory: self.out().0, lines, times, out });
                parallel(units, |unit| read(isa, &work, unit));
                (found, (lines * LINE * times) as f64)
            }
            Kind::Copy => {
                let (half, memory) = (self.memory.len() / 2, self.out());
                let each = half / units * LINE;
                parallel(units, |unit| {
                    // SAFETY: the first half is only read, and each unit has its part of the second.
                    let (from, to) = unsafe {
                        let from = std::slice::from_raw_parts(memory.0.add(unit * each), each);
                        (from, memory.slice(half * LINE + unit * each, each))
                    };
                    to.copy_from_slice(black_box(from));
                    let last = to.last().copied().unwrap_or(T::ONE);
                    // SAFETY: each unit has its own result.
                    unsafe { out.slice(unit, 1)[0] = last.to_f64() };
                });
                (found, 1.0)
            }
            Kind::Launch => {
                parallel(units, |unit| {
                    black_box(unit);
                });
                (found, 0.0)
            }
        }
    }

    /// The instruction set of the engine, which reads with its vectors.
    fn isa(&self) -> Isa {
        let of = |(probe, kind): &(Probe, Kind)| match kind {
            Kind::Fma(isa, _) if probe.roof == Some(Roof::Compute) => Some(*isa),
            _ => None,
        };
        self.probes.iter().find_map(of).unwrap_or(Isa::Portable)
    }
}

/// How often a unit reads its lines.
fn passes(lines: usize, line: usize) -> usize {
    (READ / (lines * line)).max(1)
}

fn work_of(kind: Kind, line: u64) -> Work {
    match kind {
        Kind::Read { units, lines } => {
            Work::Bytes((units * lines * passes(lines, line as usize)) as f64 * line as f64)
        }
        Kind::Fma(..) | Kind::Copy | Kind::Launch => Work::Once,
    }
}

fn lanes<T: Real>(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => <T::Avx512 as Simd>::LANES,
        Isa::Avx2 => <T::Avx2 as Simd>::LANES,
        Isa::Portable => <T::Portable as Simd>::LANES,
    }
}

/// Multiply-adds: `x = x * step + step`, where step is 1 and no compiler knows.
struct Fma<T> {
    step: T,
    out: Out<f64>,
}

#[inline(always)]
unsafe fn fma_body<S: Simd>(work: &Fma<S::Real>, unit: usize) {
    // From memory and back: only so are arrays of the baseline's lanes taken for vectors.
    let mut lanes: [[S::Real; LINE]; CHAINS] =
        std::array::from_fn(|j| [S::Real::from_f64(j as f64); LINE]);
    let (lanes, steps) = (black_box(&mut lanes), black_box([work.step; LINE]));
    // SAFETY: the caller has the instructions; no vector is longer than a line; each unit has a
    // result of its own.
    unsafe {
        let step = S::load(steps.as_ptr());
        let mut chains: [S; CHAINS] = std::array::from_fn(|j| S::load(lanes[j].as_ptr()));
        for _ in 0..FMAS {
            for chain in &mut chains {
                *chain = chain.fma(step, step);
            }
        }
        chains.into_iter().zip(&mut *lanes).for_each(|(v, to)| v.store(to.as_mut_ptr()));
        let sum = black_box(lanes).iter().flat_map(|chain| &chain[..S::LANES]);
        work.out.slice(unit, 1)[0] = sum.map(|v| v.to_f64()).sum();
    }
}

dispatch!(fma, fma_body, Fma);

/// Unit i reads lines `i * lines ..` of the memory, `times` over.
struct Read<T> {
    memory: *const T,
    lines: usize,
    times: usize,
    out: Out<f64>,
}

// SAFETY: the memory is only read.
unsafe impl<T: Send> Sync for Read<T> {}

#[inline(always)]
unsafe fn read_body<S: Simd>(work: &Read<S::Real>, unit: usize) {
    // SAFETY: the caller has the instructions, and memory for all units; each has a result of its
    // own. A line is a whole number of vectors.
    unsafe {
        let len = work.lines * LINE;
        let (mut sums, mut left) = ([S::splat(S::Real::ZERO); SUMS], S::splat(S::Real::ZERO));
        for _ in 0..work.times {
            // No compiler may take the second time for the first.
            let start = black_box(work.memory).add(unit * len);
            let whole = len - len % (SUMS * S::LANES);
            for i in (0..whole).step_by(SUMS * S::LANES) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus(S::load(start.add(i + j * S::LANES)));
                }
            }
            for i in (whole..len).step_by(S::LANES) {
                left = left.plus(S::load(start.add(i)));
            }
        }
        let sum: f64 = sums.into_iter().map(|sum| sum.sum().to_f64()).sum();
        work.out.slice(unit, 1)[0] = sum + left.sum().to_f64();
    }
}

dispatch!(read, read_body, Read);

impl<T: Real> CpuEngine<T> {
    fn peaks(&mut self) -> Result<&mut Peaks<T>> {
        let peaks = match self.peaks.take() {
            Some(peaks) => peaks,
            None => Peaks::new(self.isa)?,
        };
        Ok(self.peaks.insert(peaks))
    }
}

impl<T: Real> Measure for CpuEngine<T> {
    fn time_call(&mut self, program: Loaded, call: usize, step: u32, times: u32) -> Result<Span> {
        let program = &self.programs[program.0];
        let start = Instant::now();
        for _ in 0..times {
            (0..program.program.replicas).for_each(|replica| {
                self.call(program, &program.program.calls[call], replica, step)
            });
        }
        Ok(Span { seconds: start.elapsed().as_secs_f64(), clock: Timing::Wall })
    }

    fn flush_caches(&mut self) -> Result<()> {
        let peaks = self.peaks()?;
        let (out, units) = (peaks.out(), 4 * rayon::current_num_threads());
        let each = peaks.memory.len() / units * LINE;
        // SAFETY: each unit has its own part of the memory.
        parallel(units, |unit| unsafe { black_box(out.slice(unit * each, each)).fill(T::ONE) });
        Ok(())
    }

    fn probes(&mut self) -> Result<Vec<Probe>> {
        Ok(self.peaks()?.probes.iter().map(|(probe, _)| probe.clone()).collect())
    }

    fn time_probe(&mut self, probe: usize, times: u32) -> Result<Span> {
        let peaks = self.peaks()?;
        let kind = peaks.probes[probe].1;
        if !peaks.checked[probe] {
            let (found, wanted) = peaks.run(kind);
            if let Some(wrong) = found.iter().find(|&&v| v != wanted) {
                let name = &peaks.probes[probe].0.name;
                return Err(Error::Verification(format!(
                    "peak '{name}': the result is {wrong}, expected {wanted}"
                )));
            }
            peaks.checked[probe] = true;
        }
        let start = Instant::now();
        (0..times).for_each(|_| drop(black_box(peaks.run(kind))));
        Ok(Span { seconds: start.elapsed().as_secs_f64(), clock: Timing::Wall })
    }

    fn facts(&self) -> Facts {
        Facts {
            name: cpu_name(),
            backend: "cpu".to_string(),
            driver: self.isa.name().to_string(),
            kind: "cpu".to_string(),
            threads: rayon::current_num_threads(),
        }
    }
}

/// What the CPU calls itself; its architecture where it doesn't say.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_does_the_work_that_it_counts() {
        for isa in Isa::available() {
            let peaks = Peaks::<f32>::new(isa).unwrap();
            assert_eq!(peaks.isa(), isa);
            let compute = |(probe, _): &&(Probe, Kind)| probe.roof == Some(Roof::Compute);
            assert_eq!(peaks.probes.iter().filter(compute).count(), 1);
            for (probe, kind) in &peaks.probes {
                let (found, wanted) = peaks.run(*kind);
                assert!(found.iter().all(|&v| v == wanted), "{}: {found:?}", probe.name);
            }
            // A read that meets other memory says so.
            let read = peaks.probes.iter().find(|(_, kind)| matches!(kind, Kind::Read { .. }));
            // SAFETY: nobody else looks at the memory.
            unsafe { peaks.out().slice(3, 1)[0] = 2.0 };
            let (found, wanted) = peaks.run(read.unwrap().1);
            assert_ne!(found[0], wanted);
        }
    }
}
