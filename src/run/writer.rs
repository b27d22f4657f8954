//! The thread that writes a run's checkpoints, so that the training need not wait for a disk.

use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// Does one piece of work at a time, on a thread of its own.
pub(super) struct Writer<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    under_way: Option<ScopedJoinHandle<'scope, Result<()>>>,
}

impl<'scope, 'env> Writer<'scope, 'env> {
    /// A writer with nothing to do, whose threads end before `scope` does.
    pub fn new(scope: &'scope Scope<'scope, 'env>) -> Writer<'scope, 'env> {
        Writer { scope, under_way: None }
    }

    /// Whether nothing is under way.
    ///
    /// # Errors
    /// Those of the work that has ended since the last call.
    pub fn is_free(&mut self) -> Result<bool> {
        match &self.under_way {
            Some(thread) if !thread.is_finished() => Ok(false),
            _ => self.wait().map(|()| true),
        }
    }

    /// Has `work` done, once what is under way has ended.
    ///
    /// # Errors
    /// Those of the work before; no thread can be made.
    pub fn begin(&mut self, work: impl FnOnce() -> Result<()> + Send + 'scope) -> Result<()> {
        self.wait()?;
        let thread = Builder::new().name("checkpoint".into()).spawn_scoped(self.scope, work);
        let failed = |e| Error::invalid(format!("a thread for the checkpoint: {e}"));
        self.under_way = Some(thread.map_err(failed)?);
        Ok(())
    }

    /// Waits for what is under way.
    ///
    /// # Errors
    /// Those of the work.
    pub fn wait(&mut self) -> Result<()> {
        match self.under_way.take().map(ScopedJoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_is_done_beside_the_caller_and_its_error_is_told_once() {
        let (go, wait) = channel::<()>();
        std::thread::scope(|scope| {
            let mut writer = Writer::new(scope);
            assert!(writer.is_free().unwrap());
            let work = move || {
                wait.recv().unwrap();
                Err(Error::invalid("the disk is full"))
            };
            writer.begin(work).unwrap();
            assert!(!writer.is_free().unwrap(), "it still waits for us");
            go.send(()).unwrap();
            let error = loop {
                match writer.is_free() {
                    Ok(true) => panic!("the error is lost"),
                    Ok(false) => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "the disk is full");
            assert!(writer.is_free().unwrap() && writer.wait().is_ok());
            writer.begin(|| Err(Error::invalid("again"))).unwrap();
            let error = writer.begin(|| unreachable!("the work before has failed")).unwrap_err();
            assert_eq!(error.to_string(), "again");
        });
    }
}
