//! Memory that a kernel needs while it runs: kept for the next one.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::simd::Real;

/// Elements of a line.
const LINE: usize = 16;

/// Cache lines: vectors that are loaded from them never lie in two.
#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line<T>([T; LINE]);

/// What is not in use.
pub(super) struct Pool<T>(Mutex<Vec<Vec<Line<T>>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Mutex::default())
    }
}

impl<T: Real> Pool<T> {
    /// `len` elements, of any value.
    pub fn take(&self, len: usize) -> Scratch<'_, T> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lines = match free {
            Some(lines) if lines.len() * LINE >= len => lines,
            _ => bytemuck::zeroed_vec(len.div_ceil(LINE)),
        };
        Scratch { pool: self, lines, len }
    }
}

/// Memory that goes back to its pool.
pub(super) struct Scratch<'a, T: Real> {
    pool: &'a Pool<T>,
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Real> Deref for Scratch<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `take` made room for so many elements, and lines are arrays of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Real> DerefMut for Scratch<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Real> Drop for Scratch<'_, T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
    }
}
