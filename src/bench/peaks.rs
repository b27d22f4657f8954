//! What a device can do at best, measured, and what that says of a kernel: the least time that it
//! can take.

use super::GoOn;
use super::record::{Kind, Row, Unit};
use super::stats::{Stop, Summary};
use crate::engine::measure::{Measure, Probe, Roof, Timing, Work, repeats};
use crate::error::Result;

/// A limit of all kernels: what a fifth of the samples reached.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// The probe's name.
    pub name: String,
    /// Operations, bytes or launches a second.
    pub rate: f64,
}

/// The peaks of a device.
pub struct Peaks {
    /// A row for each, in the order of the probes.
    pub rows: Vec<Row>,
    /// Operations a second, if that was measured.
    pub compute: Option<Limit>,
    /// For how many bytes or more, and bytes a second; the largest last.
    pub memory: Vec<(u64, Limit)>,
    /// Launches a second.
    pub launch: Option<Limit>,
    /// The probe of `compute`, and its repetitions.
    reference: Option<(usize, u32)>,
}

/// What bounds a kernel, and the least seconds that it can take.
#[derive(Clone, PartialEq, Debug)]
pub struct Bound {
    /// FMA, the memory's name, or launch.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
}

impl Peaks {
    /// Measures all probes of a device in rounds, so that a change of clocks meets them all.
    ///
    /// # Errors
    /// A device error, a probe with a wrong result, that of `go_on`.
    pub fn measure(device: &mut dyn Measure, stop: Stop, go_on: GoOn) -> Result<Peaks> {
        let probes = device.probes()?;
        let here: Vec<usize> = (0..probes.len()).filter(|&i| probes[i].missing.is_none()).collect();
        let mut times = vec![1; probes.len()];
        for &i in &here {
            times[i] = repeats(|times| device.time_probe(i, times))?;
        }
        let mut samples = vec![vec![]; probes.len()];
        let mut seconds = vec![0.0; probes.len()];
        let mut clocks = vec![None; probes.len()];
        let mut open = here;
        while !open.is_empty() {
            for &i in &open {
                go_on()?;
                let start = std::time::Instant::now();
                let span = device.time_probe(i, times[i])?;
                samples[i].push(span.seconds / f64::from(times[i]));
                clocks[i] = Some(span.clock);
                seconds[i] += start.elapsed().as_secs_f64();
            }
            open.retain(|&i| !stop.enough(&samples[i], seconds[i]));
        }
        let rows = probes.iter().zip(samples).zip(clocks).map(|((probe, samples), clock)| {
            let (unit, scale) = unit(probe);
            let mut row = Row::new(Kind::Peak, &probe.name, &probe.shape, unit);
            row.note = probe.missing.clone();
            match clock {
                Some(clock) => row.measured(Summary::of(samples).map(scale), clock),
                None => row,
            }
        });
        let rows: Vec<Row> = rows.collect();
        Ok(Peaks::of(&probes, rows, &times))
    }

    fn of(probes: &[Probe], rows: Vec<Row>, times: &[u32]) -> Peaks {
        let (mut compute, mut memory, mut launch) = (None, vec![], None);
        let mut reference = None;
        for (i, (probe, row)) in probes.iter().zip(&rows).enumerate() {
            let Some(value) = &row.value else { continue };
            // The good end of the noise band: a limit is not what a disturbed device did.
            let best = if row.unit.is_rate() { value.p80 } else { value.p20 };
            let limit = |rate| Limit { name: probe.name.clone(), rate };
            match probe.roof {
                Some(Roof::Compute) => {
                    let fma = limit(best * 1e9);
                    if compute.as_ref().is_none_or(|known: &Limit| fma.rate > known.rate) {
                        compute = Some(fma);
                        reference = Some((i, times[i]));
                    }
                }
                Some(Roof::Memory(from)) => memory.push((from, limit(best * 1e9))),
                Some(Roof::Launch) => launch = Some(limit(1e6 / best)),
                None => {}
            }
        }
        memory.sort_by_key(|(from, _)| *from);
        Peaks { rows, compute, memory, launch, reference }
    }

    /// Repetitions of the FMA peak a second, now: whether the device is as it was a moment ago.
    ///
    /// # Errors
    /// A device error.
    pub fn reference(&self, device: &mut dyn Measure) -> Result<Option<f64>> {
        let Some((probe, times)) = self.reference else { return Ok(None) };
        let mut rates = vec![];
        for _ in 0..3 {
            rates.push(f64::from(times) / device.time_probe(probe, times)?.seconds);
        }
        Ok(Some(Summary::of(rates).median))
    }

    /// Microseconds that a clock sees of a launch that does nothing and waits for the one before, which
    /// is part of every time of a kernel that is repeated.
    pub fn gap_us(&self, clock: Timing) -> Option<f64> {
        let launch = self.launch.as_ref()?;
        let row = self.rows.iter().find(|row| row.name == launch.name)?;
        row.median().filter(|_| row.clock == Some(clock))
    }

    /// What bounds a kernel of so many operations and bytes; `cold`: its operands lie in no cache.
    pub fn bound(&self, flops: u64, bytes: u64, cold: bool) -> Option<Bound> {
        let mut reached = self.memory.iter().filter(|(from, _)| cold || *from <= bytes);
        let memory = reached.next_back().map(|(_, limit)| limit);
        let of = |name: &str, work: f64, limit: Option<&Limit>| {
            Some(Bound { name: name.to_string(), seconds: work / limit?.rate })
        };
        let bounds = [
            of("FMA", flops as f64, self.compute.as_ref()),
            memory.and_then(|m| of(short(&m.name), bytes as f64, Some(m))),
            of("launch", 1.0, self.launch.as_ref()),
        ];
        bounds.into_iter().flatten().max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

/// The name of the memory that a probe reads.
pub fn short(probe: &str) -> &str {
    probe.strip_prefix("read ").unwrap_or(probe)
}

/// A probe's unit, and how seconds of a repetition become it.
fn unit(probe: &Probe) -> (Unit, impl Fn(f64) -> f64 + use<>) {
    let (unit, work) = match probe.work {
        Work::Flops(flops) => (Unit::Gflops, Some(flops)),
        Work::Bytes(bytes) => (Unit::Gbytes, Some(bytes)),
        Work::Once => (Unit::Microseconds, None),
    };
    (unit, move |seconds: f64| match work {
        Some(work) => work / seconds / 1e9,
        None => seconds * 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks() -> Peaks {
        let probe = |name: &str, work, roof| Probe {
            name: name.to_string(),
            shape: String::new(),
            work,
            roof: Some(roof),
            missing: None,
        };
        let (flops, bytes) = (Work::Flops(1.0), Work::Bytes(1.0));
        let probes = [
            (probe("fma scalar", flops, Roof::Compute), 50.0),
            (probe("fma vec4", flops, Roof::Compute), 100.0),
            (probe("read DRAM", bytes, Roof::Memory(1000)), 10.0),
            (probe("read L2", bytes, Roof::Memory(0)), 40.0),
            (probe("launch", Work::Once, Roof::Launch), 2.0),
        ];
        let rows = probes.iter().map(|(probe, best)| {
            let row = Row::new(Kind::Peak, &probe.name, "", unit(probe).0);
            // A disturbed sample changes no limit.
            let worse = if row.unit.is_rate() { 0.5 * best } else { 2.0 * best };
            row.measured(Summary::of(vec![*best, worse, *best]), Timing::Wall)
        });
        let rows = rows.collect();
        Peaks::of(&probes.map(|(probe, _)| probe), rows, &[1, 2, 3, 4, 5])
    }

    #[test]
    fn the_slowest_limit_bounds_a_kernel() {
        let peaks = peaks();
        assert_eq!(peaks.compute.as_ref().unwrap().name, "fma vec4");
        assert_eq!(peaks.reference, Some((1, 2)));
        assert_eq!((peaks.gap_us(Timing::Wall), peaks.gap_us(Timing::Device)), (Some(2.0), None));
        let bound = |flops, bytes, cold| peaks.bound(flops, bytes, cold).unwrap();
        let of = |name: &str, seconds: f64| (name.to_string(), seconds);
        let got = |b: Bound| (b.name, (b.seconds * 1e9).round());
        assert_eq!(got(bound(1_000_000, 10, false)), of("FMA", 10_000.0));
        assert_eq!(got(bound(10, 999, false)), of("launch", 2000.0));
        assert_eq!(got(bound(10, 100_000, false)), of("DRAM", 10_000.0));
        assert_eq!(got(bound(0, 900, true)), of("launch", 2000.0));
        let mut fast = peaks;
        fast.launch = None;
        assert_eq!(got(fast.bound(0, 800, false).unwrap()), of("L2", 20.0));
        assert_eq!(got(fast.bound(0, 800, true).unwrap()), of("DRAM", 80.0));
    }

    #[test]
    fn seconds_become_the_unit_of_the_work() {
        let probe = |work| Probe {
            name: String::new(),
            shape: String::new(),
            work,
            roof: None,
            missing: None,
        };
        let of = |work| {
            let (unit, scale) = unit(&probe(work));
            (unit, scale(0.5))
        };
        assert_eq!(of(Work::Flops(1e9)), (Unit::Gflops, 2.0));
        assert_eq!(of(Work::Bytes(3e9)), (Unit::Gbytes, 6.0));
        assert_eq!(of(Work::Once), (Unit::Microseconds, 5e5));
    }
}
