//! The programs that tests start.

use std::ops::{Deref, DerefMut};
use std::process::Child;

/// A process that is killed if it is still running when this is dropped.
pub struct Started(pub Child);

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
