//! A cost model: how long a GPU should take for a program, from sizes, variants and a data sheet.
//!
//! It ranks variants where nothing was measured, and says what a measurement can contradict. Each
//! figure may be wrong by half; `gradcon tune` and `gradcon bench` know better.

use super::{Call, Program};
use crate::kernels::tiles::TILES;
use crate::kernels::{BLOCK, DIRECT, Launch, REFERENCE, THIN};

/// A class of devices.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Class {
    /// What it is called.
    pub name: &'static str,
    /// Processors that each run workgroups (SMs, WGPs, cores).
    pub processors: f64,
    /// Multiply-adds a processor does in a clock.
    pub products: f64,
    /// Clocks in a nanosecond.
    pub gigahertz: f64,
    /// Bytes a nanosecond from memory.
    pub memory: f64,
    /// Bytes a nanosecond from the last cache.
    pub cache: f64,
    /// Bytes that the last cache holds.
    pub cache_bytes: f64,
    /// Clocks from asking the last cache to having the answer in workgroup memory, with the
    /// barriers around it: estimated.
    pub latency: f64,
    /// Microseconds between dispatches that wait for each other: estimated.
    pub gap: f64,
}

/// The classes there are figures for: of data sheets, but for the last two columns.
pub static CLASSES: [Class; 4] = [
    class("h100", [132.0, 128.0, 1.755], [2600.0, 5500.0, 50e6], 600.0, 2.5),
    class("rx-7900-xtx", [48.0, 128.0, 2.4], [800.0, 3000.0, 96e6], 700.0, 3.0),
    class("m2", [10.0, 128.0, 1.4], [80.0, 300.0, 8e6], 500.0, 2.0),
    class("iris-xe", [6.0, 128.0, 1.3], [45.0, 150.0, 4e6], 600.0, 5.0),
];

const fn class(
    name: &'static str,
    [processors, products, gigahertz]: [f64; 3],
    [memory, cache, cache_bytes]: [f64; 3],
    latency: f64,
    gap: f64,
) -> Class {
    Class { name, processors, products, gigahertz, memory, cache, cache_bytes, latency, gap }
}

impl Class {
    /// The class that an adapter of this name is closest to: by its maker, since what matters is how
    /// much of a kernel's time goes where, not how much there is.
    pub fn like(adapter: &str) -> &'static Class {
        let name = adapter.to_lowercase();
        let makers = [("apple", 2), ("radeon", 1), ("amd", 1), ("intel", 3)];
        let class = makers.iter().find(|(maker, _)| name.contains(maker)).map_or(0, |m| m.1);
        &CLASSES[class]
    }
}

/// What a call should take.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// Microseconds, alone on the device.
    pub us: f64,
    /// What it spends them on: `products`, `latency`, `cache` or `memory`.
    pub bound: &'static str,
    /// The part of the device that is busy meanwhile.
    pub share: f64,
}

/// Of what a processor could multiply, the part that a variant's loop gets to: the rest goes to
/// reading workgroup memory (which a warp can use for 1.34 bytes a product) and to addresses.
fn efficiency(launch: &Launch) -> f64 {
    if let Some(tile) = TILES.iter().find(|tile| tile.name == launch.variant) {
        let products = f64::from(4 * tile.rows * tile.quads);
        let others = f64::from(tile.rows + 4 * tile.quads) / 4.0 + 0.1 * products;
        return (1.34 / tile.bytes_per_product()).min(products / (products + others));
    }
    match (launch.variant, launch.constant("per_thread")) {
        // Every operand is a load of its own.
        (DIRECT, _) => 0.25,
        // One of the images serves four positions, with weights that are the same for all threads.
        (THIN, _) => 0.4,
        (_, 1) => 0.17,
        (_, few @ 2..=3) => 0.13 * f64::from(few),
        _ => 0.5,
    }
}

/// What `call` of a program of so many `replicas` and `bytes` should take in this variant.
pub fn predict(
    call: &Call,
    launch: &Launch,
    replicas: usize,
    bytes: f64,
    on: &Class,
) -> Prediction {
    let replicas = replicas as f64;
    let groups = f64::from(launch.grid[0]) * f64::from(launch.grid[1]) * replicas;
    let warps = f64::from(launch.workgroup_size.iter().product::<u32>()).max(32.0) / 32.0;
    // The busiest processor's workgroups, of which a few dozen warps run at once.
    let most = (groups / on.processors).ceil().max(1.0);
    let at_once = most.min((48.0 / warps).floor().max(1.0));
    let clocks = |clocks: f64| clocks / on.gigahertz / 1e3;
    let kernel = call.kernel.family();
    let (products, latency) = match kernel.products_of(launch) {
        Some(of) => {
            let each = of.executed as f64 * replicas / groups;
            // A warp multiplies on its quarter of a processor.
            let busy = (at_once * warps / 4.0).min(1.0);
            let products = most * each / (on.products * efficiency(launch) * busy);
            // Rounds of loading wait for each other, unless there is another block or another
            // workgroup to multiply meanwhile.
            let hidden = if launch.constant("buffers") == 2 { 0.5 } else { 1.0 };
            let rounds = (of.chain * BLOCK) as f64 / launch.tile[2] as f64;
            let waves = (most / at_once).ceil();
            (products, waves * rounds * on.latency * hidden / (at_once * warps / 8.0).max(1.0))
        }
        None => (0.0, kernel.serial() as f64 * on.latency / 4.0 + on.latency),
    };
    let cached = bytes <= on.cache_bytes;
    let moved = bytes / if cached { on.cache } else { on.memory } / 1e3;
    let parts = [
        (clocks(products), "products"),
        (clocks(latency), "latency"),
        (moved, if cached { "cache" } else { "memory" }),
    ];
    let longest = parts.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let (us, bound) = longest.unwrap_or((0.0, "products"));
    Prediction { us, bound, share: (groups / on.processors).min(1.0) }
}

impl Program {
    /// The variant of a call that the model prefers on a class of devices, of those that suit the
    /// program's buffers, and what it should take.
    pub fn choose(&self, call: &Call, on: &Class) -> (Launch, Prediction) {
        let bytes = call.cost(self).bytes as f64;
        let rated = self.variants(call).into_iter().map(|launch| {
            let prediction = predict(call, &launch, self.replicas, bytes, on);
            (launch, prediction)
        });
        let best = rated.min_by(|a, b| a.1.us.total_cmp(&b.1.us));
        best.expect("every kernel has its reference variant")
    }

    /// The variant of a call for a GPU that is a program on a CPU, where workgroup memory is one more
    /// copy.
    pub fn choose_in_software(&self, call: &Call) -> &'static str {
        let variants = self.variants(call);
        let has = |wanted: &&&str| variants.iter().any(|launch| launch.variant == **wanted);
        [THIN, DIRECT].iter().find(has).unwrap_or(&REFERENCE)
    }

    /// What each call should take, in the preferred variants, and all of them in microseconds:
    /// those between two waits beside each other, as far as the device has room, and the gaps.
    pub fn predict(&self, on: &Class) -> (Vec<(Launch, Prediction)>, f64) {
        let calls: Vec<_> = self.calls.iter().map(|call| self.choose(call, on)).collect();
        let waits = self.waits_before();
        let (mut total, mut longest, mut busy) = (0.0, 0.0_f64, 0.0);
        for ((_, of), waits) in calls.iter().zip(waits) {
            if waits {
                total += longest.max(busy) + on.gap;
                (longest, busy) = (0.0, 0.0);
            }
            longest = longest.max(of.us);
            busy += of.us * of.share;
        }
        (calls, total + longest.max(busy) + on.gap)
    }

    /// The calls as [`Program::table`], each with what it should take on a class of devices.
    pub fn predicted_table(&self, on: &Class) -> String {
        let (calls, total) = self.predict(on);
        let mut text = format!(
            "program {} x {} replica(s) as predicted for {}: {} kernel calls, {} waits\n{:>3}  \
             {:15} {:11} {:16} {:>9} {:>10} {:>8} {:>8}  bound by\n",
            self.name,
            self.replicas,
            on.name,
            self.calls.len(),
            self.waits(),
            "#",
            "kernel",
            "for",
            "variant",
            "MFLOP",
            "workgroups",
            "us",
            "GFLOP/s"
        );
        for (i, (call, (launch, of))) in self.calls.iter().zip(&calls).enumerate() {
            let flops = call.cost(self).flops as f64;
            let groups =
                u64::from(launch.grid[0]) * u64::from(launch.grid[1]) * self.replicas as u64;
            text += &format!(
                "{i:>3}  {:15} {:11} {:16} {:>9.3} {groups:>10} {:>8.2} {:>8.0}  {}\n",
                call.kernel.name(),
                call.label,
                launch.variant,
                flops / 1e6,
                of.us,
                flops / of.us / 1e3,
                of.bound
            );
        }
        let flops = self.cost().flops as f64;
        let peak = 2.0 * on.processors * on.products * on.gigahertz;
        text += &format!(
            "predicted {:.3} ms a step, {:.2} TFLOP/s, {:.0} % of {:.1}; each figure may be wrong by \
             half\n",
            total / 1e3,
            flops / total / 1e6,
            100.0 * flops / total / 1e3 / peak,
            peak / 1e3
        );
        text
    }
}
