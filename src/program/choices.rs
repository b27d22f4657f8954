//! Which variant a call runs in where somebody measured it: plain data, to be kept in a file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::kernels::Kernel;

/// The variant of one kernel with its parameters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The kernel.
    pub kernel: String,
    /// Its sizes and fused parts, for people.
    pub sizes: String,
    /// [`identity`] of the kernel with all its parameters.
    pub id: String,
    /// Models that run at once.
    pub replicas: usize,
    /// The variant's name.
    pub variant: String,
}

impl Choice {
    /// `variant` for a kernel in a program of so many models.
    pub fn new(kernel: &Kernel, replicas: usize, variant: &str) -> Choice {
        Choice {
            kernel: kernel.name().to_string(),
            sizes: kernel.family().description(),
            id: identity(kernel),
            replicas,
            variant: variant.to_string(),
        }
    }

    /// Whether it is for the same kernel and number of models.
    pub fn is_for(&self, other: &Choice) -> bool {
        self.id == other.id && self.replicas == other.replicas
    }
}

/// Choices for some calls; a call that has none runs as it would without any.
///
/// ```
/// use gradcon::kernels::{Kernel, Memory};
/// use gradcon::program::choices::{Choice, Choices};
///
/// let fill = |len| Kernel::Memory(Memory::Fill { len, value: 1.0 });
/// let choices = Choices(vec![Choice::new(&fill(5), 10, "fast"), Choice::new(&fill(5), 1, "small")]);
/// let variant = |len, replicas| choices.find(&fill(len), replicas).map(|c| &c.variant[..]);
/// assert_eq!([variant(5, 1), variant(5, 12), variant(5, 3)], [Some("small"), Some("fast"), None]);
/// assert_eq!(variant(6, 1), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Choices(pub Vec<Choice>);

impl Choices {
    /// The choice for a kernel in a program of so many models: of the same number, else of the
    /// nearest that fills a device alike (1, 2 to 4, 5 to 16, more).
    pub fn find(&self, kernel: &Kernel, replicas: usize) -> Option<&Choice> {
        if self.0.is_empty() {
            return None;
        }
        let id = identity(kernel);
        let alike = |c: &&Choice| c.id == id && filling(c.replicas) == filling(replicas);
        self.0.iter().filter(alike).min_by_key(|c| c.replicas.abs_diff(replicas))
    }
}

/// How much of a device so many models fill.
fn filling(replicas: usize) -> usize {
    [1, 4, 16].iter().filter(|&&most| replicas > most).count()
}

/// Tells a kernel with its parameters from every other: 16 hexadecimal digits.
pub fn identity(kernel: &Kernel) -> String {
    let hash = Sha256::digest(format!("{kernel:?}"));
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
