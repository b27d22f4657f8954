//! What a call must at least do: operations counted from its sizes, and bytes that have to move
//! once.
//!
//! Conventions: a multiply-add is two operations; taps in the padding are not counted, nobody
//! executes them; bytes are the sum of all results and of each distinct operand, in float32;
//! GFLOP/s and GB/s are of 1e9.

use super::kernel::{Access, Element, Kernel, Params};
use super::{Buffer, Call, Program};

/// Least work of a call or program, for all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(iter: I) -> Cost {
        iter.fold(Cost::default(), |a, b| Cost {
            flops: a.flops + b.flops,
            bytes: a.bytes + b.bytes,
        })
    }
}

impl Call {
    /// Cost of this call in `program`.
    pub fn cost(&self, program: &Program) -> Cost {
        let mut bytes = 0;
        for (i, (arg, binding)) in self.args.iter().zip(self.kernel.row().bindings).enumerate() {
            let repeated = self.args[..i].contains(arg);
            let element = match program.buffers[arg.buffer].element {
                Element::Float | Element::U32 => 4,
                Element::U8 => 1,
            };
            let times = if binding.access == Access::Update { 2 } else { 1 };
            // Of a log, an index list or a dataset, only this step's part moves.
            let len = match (self.kernel, &self.params) {
                (Kernel::Record, Params::Record { len, .. }) => *len,
                (Kernel::Gather, Params::Gather { pixels, n }) => {
                    [pixels * n, *n, 4, pixels * n, *n][i]
                }
                (Kernel::Adam, _) if binding.name == "schedule" => 4,
                _ => arg.len,
            };
            bytes += if repeated { 0 } else { (len * element * times) as u64 };
        }
        Cost {
            flops: self.flops() * program.replicas as u64,
            bytes: bytes * program.replicas as u64,
        }
    }

    fn flops(&self) -> u64 {
        let len = |len: usize| len as u64;
        match (self.kernel, &self.params) {
            (Kernel::ConvY | Kernel::ConvX, Params::Conv { geometry, epilogue }) => {
                let out =
                    if self.kernel == Kernel::ConvY { geometry.y_len() } else { geometry.x_len() };
                2 * geometry.macs() + out as u64 * (epilogue.bias as u64 + epilogue.add as u64)
            }
            (_, Params::ConvW { geometry, .. }) => 2 * geometry.macs(),
            (_, Params::SplitSum { len, splits, add }) => {
                (len * (splits - 1 + *add as usize)) as u64
            }
            (Kernel::Copy | Kernel::Fill, _) => 0,
            (Kernel::Affine, Params::Map { len, .. }) => 2 * *len as u64,
            (Kernel::Sigmoid | Kernel::SigmoidGrad | Kernel::InvNorm, Params::Map { len, .. }) => {
                3 * *len as u64
            }
            (_, Params::Map { len, .. }) => *len as u64,
            (Kernel::SumTo, Params::Reshape { large, .. }) => {
                large.iter().product::<usize>() as u64
            }
            (Kernel::Mse, Params::Mse { rows, n }) => 4 * len(rows * n),
            (Kernel::Constraint, Params::Constraint { segments, .. }) => {
                6 * segments.iter().map(|s| len(s.len)).sum::<u64>()
            }
            (Kernel::ConstraintGrad, Params::Constraint { segments, .. }) => {
                3 * segments.iter().map(|s| len(s.len)).sum::<u64>()
            }
            // Each image's gradient elements are multiplied with r and squared.
            (_, Params::ImageGrad { geometry }) => {
                2 * geometry.macs() + 4 * len(geometry.w_len() * geometry.n)
            }
            (_, Params::ImageCos { blocks, n, .. }) => 2 * len(blocks * n),
            (_, Params::Adam { len, reference_len, .. }) => {
                14 * *len as u64 + 3 * *reference_len as u64
            }
            (_, Params::Gather { pixels, n }) => len(pixels * n),
            _ => 0,
        }
    }
}

impl Program {
    /// Sum over all calls.
    pub fn cost(&self) -> Cost {
        self.calls.iter().map(|c| c.cost(self)).sum()
    }

    /// Bytes of scratch memory, and of persistent memory, in float32; as many as can be counted, if
    /// there are more.
    pub fn memory(&self) -> (u64, u64) {
        let bytes = |persistent: bool| {
            let of = self.buffers.iter().filter(|b| b.persistent == persistent);
            of.map(|b| b.bytes(self.replicas, 4).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
        };
        (bytes(false), bytes(true))
    }
}

impl Buffer {
    /// Elements over all replicas; `None` if they can't be counted.
    pub fn total(&self, replicas: usize) -> Option<usize> {
        self.len.checked_mul(if self.replicated { replicas } else { 1 })
    }

    /// Bytes over all replicas where a float has `float` bytes; `None` if they can't be counted.
    pub fn bytes(&self, replicas: usize, float: u64) -> Option<u64> {
        let element = match self.element {
            Element::Float => float,
            Element::U32 => 4,
            Element::U8 => 1,
        };
        (self.total(replicas)? as u64).checked_mul(element)
    }
}
