//! A CPU engine that counts what is asked of it, and can be made to fail.

#![allow(dead_code)] // each test file uses its part

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use gradcon::engine::{Data, Engine, Loaded, Measure, cpu};
use gradcon::kernels::Form;
use gradcon::method::feed::BEST_PARAMS;
use gradcon::program::Program;
use gradcon::{Error, Result};

/// What was asked of an engine so far.
#[derive(Default)]
pub struct Counts {
    pub reads: Cell<usize>,
    pub writes: Cell<usize>,
    pub runs: Cell<usize>,
    /// The device is lost at the next run.
    pub lost: Cell<bool>,
}

fn count(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

pub struct Counting {
    pub engine: Box<dyn Engine>,
    pub counts: Rc<Counts>,
    /// Runs until the device is lost.
    pub runs_left: usize,
    /// Copies of best models until one is spoiled: it holds a NaN then.
    pub good_copies: usize,
}

impl Counting {
    pub fn new() -> Counting {
        let (engine, counts) = (cpu::f32(), Rc::default());
        Counting { engine, counts, runs_left: usize::MAX, good_copies: usize::MAX }
    }
}

impl Engine for Counting {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        self.engine.load(program)
    }
    fn clear(&mut self) {
        self.engine.clear();
    }
    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        count(&self.counts.writes);
        self.engine.write(name, data)
    }
    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        self.engine.copy_replicas(from, to, replicas)?;
        if to == BEST_PARAMS {
            match self.good_copies.checked_sub(1) {
                Some(left) => self.good_copies = left,
                None => {
                    let mut params = self.engine.read(to)?;
                    params[7] = f64::NAN;
                    self.engine.write(to, Data::F64(&params))?;
                }
            }
        }
        Ok(())
    }
    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        count(&self.counts.reads);
        self.engine.read(name)
    }
    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        count(&self.counts.reads);
        self.engine.read_f32(name)
    }
    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        count(&self.counts.runs);
        let lost = || Error::Device("the device was lost".into());
        self.runs_left = self.runs_left.checked_sub(1).ok_or_else(lost)?;
        if self.counts.lost.get() {
            return Err(lost());
        }
        self.engine.run(program, steps)
    }
    fn wait(&mut self) -> Result<()> {
        self.engine.wait()
    }
    fn measure(&mut self) -> &mut dyn Measure {
        self.engine.measure()
    }
    fn description(&self) -> String {
        self.engine.description()
    }
    fn form(&self) -> Form {
        self.engine.form()
    }
}
