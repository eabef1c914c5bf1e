//! Values of the output.

use super::blocks::Element;
use super::content::Value;
use crate::mapping::Real;

/// The fill value, exactly as netCDF defines it for double precision; it is rounded for single precision.
pub const FILL: f64 = 9.969_209_968_386_869e36;

/// A value of the output, of single or double precision.
pub trait OutputValue: Element + Real + PartialOrd {
    /// The fill value in this precision.
    const FILL: Self;
    /// Returns true if the value is a finite number.
    fn finite(self) -> bool;
    /// Returns an attribute with one or two values of this type.
    fn attribute(values: &[Self]) -> Value;
}

impl OutputValue for f32 {
    const FILL: f32 = FILL as f32;
    #[inline]
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn attribute(values: &[f32]) -> Value {
        Value::F32(values.to_vec())
    }
}

impl OutputValue for f64 {
    const FILL: f64 = FILL;
    #[inline]
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn attribute(values: &[f64]) -> Value {
        Value::F64(values.to_vec())
    }
}
