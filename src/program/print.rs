//! A program as a table for people: what is called, for what, and what it costs.

use std::fmt::Write;

use super::Program;

impl Program {
    /// The table; with seconds per call (from an engine's `time_calls`) also what was achieved.
    pub fn table(&self, seconds: Option<&[f64]>) -> String {
        let mut text = format!(
            "program {} x {} replica(s): {} kernel calls, {} waits between them, {} buffers\n",
            self.name,
            self.replicas,
            self.calls.len(),
            self.waits(),
            self.buffers.len()
        );
        let label_width = self.calls.iter().map(|c| c.label.len()).max().unwrap_or(0).max(3);
        let detail: Vec<String> =
            self.calls.iter().map(|call| call.kernel.family().description()).collect();
        let detail_width = detail.iter().map(String::len).max().unwrap_or(0);
        let _ = write!(
            text,
            "{:>3}  {:15} {:label_width$} {:detail_width$} {:>9} {:>9}",
            "#", "kernel", "for", "sizes", "MFLOP", "KB"
        );
        text += if seconds.is_some() { "       us   GFLOP/s   GB/s\n" } else { "\n" };
        for (i, call) in self.calls.iter().enumerate() {
            let cost = call.cost(self);
            let (mflop, kb) = (cost.flops as f64 / 1e6, cost.bytes as f64 / 1e3);
            let _ = write!(
                text,
                "{i:>3}  {:15} {:label_width$} {:detail_width$} {mflop:>9.3} {kb:>9.1}",
                call.kernel.name(),
                call.label,
                detail[i]
            );
            if let Some(s) = seconds {
                let (us, gflops, gbs) =
                    (s[i] * 1e6, cost.flops as f64 / s[i] / 1e9, cost.bytes as f64 / s[i] / 1e9);
                let _ = write!(text, " {us:>8.1} {gflops:>9.1} {gbs:>6.1}");
            }
            text.push('\n');
        }
        let (total, (scratch, persistent)) = (self.cost(), self.memory());
        let _ = writeln!(
            text,
            "total {:.1} MFLOP, {:.1} MB moved at least once; memory: {:.1} MB scratch, {:.1} MB \
             persistent",
            total.flops as f64 / 1e6,
            total.bytes as f64 / 1e6,
            scratch as f64 / 1e6,
            persistent as f64 / 1e6
        );
        if let Some(s) = seconds {
            let all: f64 = s.iter().sum();
            let _ = writeln!(
                text,
                "{:.3} ms, {:.1} GFLOP/s",
                all * 1e3,
                total.flops as f64 / all / 1e9
            );
        }
        text
    }
}
