//! Kernel `map`: the elementwise family, several functions at once.

use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::tape::ops::Map;

/// `out[i] = f(inputs[0][i], ...)`, all `[len]`, where f is a chain of [`Link`]s, the last of which
/// is the result. Bindings without an input repeat the first.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub struct MapKernel {
    pub len: usize,
    /// 1 to [`MAX_INPUTS`].
    pub inputs: Vec<Input>,
    /// 1 to [`MAX_LINKS`].
    pub links: Vec<Link>,
    /// Whether the result, and inputs that aren't repeated, are in half precision; len is even then.
    pub half: bool,
}

/// How an input is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Element i.
    Whole,
    /// A tensor that is repeated: element `i / inner % count`.
    Repeated {
        /// Elements of the result that read the same one, in a row.
        inner: usize,
        /// Elements there are.
        count: usize,
    },
}

/// One function of a chain. A function of one value has it twice.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Link {
    pub map: Map,
    pub of: [Operand; 2],
}

/// What a link is a function of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// An input.
    Input(usize),
    /// The result of an earlier link.
    Link(usize),
}

/// Most inputs of a chain.
pub const MAX_INPUTS: usize = 4;

/// Most links of a chain.
pub const MAX_LINKS: usize = 16;

impl MapKernel {
    /// The chain of one function of as many whole inputs as it takes.
    pub fn one(map: Map, len: usize) -> MapKernel {
        let inputs = vec![Input::Whole; map.arity()];
        let of = [Operand::Input(0), Operand::Input(map.arity() - 1)];
        MapKernel { len, inputs, links: vec![Link { map, of }], half: false }
    }
}

/// Names of the constants that say what a link does and to what.
const OPS: [[&str; 3]; MAX_LINKS] = [
    ["op0", "a0", "b0"],
    ["op1", "a1", "b1"],
    ["op2", "a2", "b2"],
    ["op3", "a3", "b3"],
    ["op4", "a4", "b4"],
    ["op5", "a5", "b5"],
    ["op6", "a6", "b6"],
    ["op7", "a7", "b7"],
    ["op8", "a8", "b8"],
    ["op9", "a9", "b9"],
    ["op10", "a10", "b10"],
    ["op11", "a11", "b11"],
    ["op12", "a12", "b12"],
    ["op13", "a13", "b13"],
    ["op14", "a14", "b14"],
    ["op15", "a15", "b15"],
];

pub(super) static SHADER: Shader = Shader {
    name: "map",
    source: include_str!("../../shaders/map.wgsl"),
    entries: &[entry(
        "map",
        &[read("input0"), read("input1"), read("input2"), read("input3"), write("out")],
    )],
    constants: &[("MAX_INPUTS", MAX_INPUTS as f64)],
    half: false,
};

impl Family for MapKernel {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        &SHADER.entries[0]
    }

    fn uniforms(&self) -> Uniforms {
        let words = Uniforms::new().int("len", self.len);
        let words = (0..MAX_INPUTS).fold(words, |words, i| {
            let (inner, count) = match self.inputs.get(i) {
                Some(&Input::Repeated { inner, count }) => (inner, count),
                _ => (1, self.len),
            };
            words.int(format!("inner{i}"), inner).int(format!("count{i}"), count)
        });
        (0..MAX_LINKS).fold(words, |words, i| {
            let [x, y] = self.links.get(i).map_or([0.0; 2], |link| link.map.constants());
            words.float(&format!("x{i}"), x).float(&format!("y{i}"), y)
        })
    }

    fn launch(&self) -> Launch {
        let mut launch = Launch::flat(if self.half { self.len / 2 } else { self.len }, 256);
        let repeated = self.inputs.iter().enumerate();
        let repeated = repeated.filter(|(_, input)| **input != Input::Whole);
        launch.constants.push(("inputs", self.inputs.len() as u32));
        launch.constants.push(("repeated", repeated.map(|(i, _)| 1u32 << i).sum()));
        launch.constants.push(("links", self.links.len() as u32));
        launch.constants.push(("half", self.half.into()));
        let place = |from: Operand| match from {
            Operand::Input(i) => i as u32,
            Operand::Link(i) => (MAX_INPUTS + i) as u32,
        };
        for (link, [op, a, b]) in self.links.iter().zip(OPS) {
            let [first, second] = link.of.map(place);
            launch.constants.extend([(op, link.map.number()), (a, first), (b, second)]);
        }
        launch
    }

    fn is_half(&self, i: usize) -> bool {
        // Bindings without an input repeat the first.
        let input = (i < MAX_INPUTS).then(|| self.inputs.get(i).unwrap_or(&self.inputs[0]));
        self.half && input.is_none_or(|input| *input == Input::Whole)
    }

    fn flops(&self) -> u64 {
        self.len as u64 * self.links.iter().map(|link| link.map.flops()).sum::<u64>()
    }

    fn details(&self) -> String {
        match self.links[..] {
            [Link { map: Map::Affine { scale, shift }, .. }] => {
                format!("{} * {scale} + {shift}", self.len)
            }
            _ => {
                let names = self.links.iter().map(|link| link.map.name());
                format!("{} {}", self.len, names.collect::<Vec<_>>().join(" "))
            }
        }
    }
}
