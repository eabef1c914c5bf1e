//! The floating-point types of fields.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A floating-point type that a field can have: `f32` or `f64`.
pub trait Real: sealed::Sealed + Copy + Send + Sync + 'static {
    /// Returns the nearest value of this type; an infinity for numbers beyond its range.
    fn from_f64(value: f64) -> Self;
    /// Returns the same value in double precision.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    #[inline]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    #[inline]
    fn from_f64(value: f64) -> Self {
        value
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn single_precision_survives_the_way_through_double() {
        for value in [0.1_f32, -3.5, f32::MAX, f32::MIN_POSITIVE, 1.0e-45] {
            assert_eq!(f32::from_f64(value.to_f64()), value);
        }
        assert!(f32::from_f64(f32::NAN.to_f64()).is_nan());
    }
}
