//! Sections of the settings, each declared once: key, type, default, unit, limits and meaning stand side by side, and the
//! struct, its defaults, the check of its limits and its part of the reference page all come from there.
//!
//! ```
//! edp_protocol::settings! {
//!     /// Section `oven`.
//!     pub struct OvenSettings {
//!         /// How long a cake is baked.
//!         pub time: u32 = 1800, unit "s", range 1..=7200;
//!         /// The cook, who is told when it is done.
//!         pub cook: Option<String> = None, default "nobody is told";
//!     }
//! }
//! let cold = OvenSettings { time: 0, ..OvenSettings::default() };
//! let (key, what) = cold.beyond_limits().unwrap();
//! assert_eq!((key.as_str(), what.as_str()), ("time", "a whole number from 1 to 7200 is expected"));
//! assert_eq!(OvenSettings::reference()[0].default, "1800");
//! ```

use std::fmt;
use std::ops::RangeInclusive;

/// One key of the settings, as the reference page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The sections and the name of the key, with dots between them: `store.s3.timeout`.
    pub key: String,
    /// The meaning of the setting, in Markdown.
    pub meaning: String,
    /// The value that is used unless it is set, or what happens then; empty if it then has no effect.
    pub default: String,
    /// The unit of a number: `s`, `MiB`, `%`; otherwise empty.
    pub unit: &'static str,
    /// The permitted values, if the type does not state them; otherwise empty.
    pub limits: String,
}

impl Setting {
    /// Returns the environment variable that sets it, with precedence over the file: `EDP_STORE__S3__TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("EDP_{}", self.key.replace('.', "__").to_ascii_uppercase())
    }

    /// Returns the same setting within a section.
    #[must_use]
    pub fn within(mut self, section: &str) -> Setting {
        self.key = format!("{section}.{}", self.key);
        self
    }

    /// Returns a setting as [`settings!`](crate::settings) declares it: name, documentation, code of the type and of the
    /// default; and where these are not enough, the default, the unit and the limits in words.
    #[doc(hidden)]
    pub fn declared(
        [key, doc, of_type, code]: [&str; 4],
        default: &str,
        unit: &'static str,
        limits: String,
    ) -> Setting {
        let default = match (default, code) {
            ("", "None") => String::new(),
            ("", code) => code.replace('_', ""),
            (text, _) => text.to_owned(),
        };
        let limits = match limits {
            _ if !limits.is_empty() => limits,
            _ if of_type.contains("bool") => "`true` or `false`".to_owned(),
            _ if of_type.contains("PathBuf") => "a path".to_owned(),
            _ if ["u8", "u16", "u32", "u64"].into_iter().any(|number| of_type.contains(number)) => {
                "at least 0".to_owned()
            }
            _ => limits,
        };
        Setting { key: key.to_owned(), meaning: doc.trim().to_owned(), default, unit, limits }
    }
}

/// Returns the range of a setting with such a value in words, without an end that does not matter.
#[doc(hidden)]
pub fn in_words<N: Copy + Into<u64>>(_: impl Into<Option<N>>, range: &RangeInclusive<N>) -> String {
    match ((*range.start()).into(), (*range.end()).into()) {
        (start, end) if end >= u32::MAX.into() => format!("at least {start}"),
        (start, end) => format!("{start} to {end}"),
    }
}

/// Returns the problem of a number that is not in its range. The number is not repeated: no value of a setting is.
#[doc(hidden)]
pub fn beyond<N: Copy + PartialOrd + fmt::Display>(
    value: impl Into<Option<N>>,
    range: &RangeInclusive<N>,
) -> Option<String> {
    let value = value.into()?;
    let what = || format!("a whole number from {} to {} is expected", range.start(), range.end());
    (!range.contains(&value)).then(what)
}

/// Declares a section of the settings, see [`setting`](crate::setting).
///
/// A key is `pub NAME: TYPE = DEFAULT`, then what applies of `default "what is used if it is not set"` (where the code of
/// the value does not say it), `unit "s"`, `range 1..=60` (of whole numbers; it is held to) and `limits "a or b"` (in
/// words, for what the type checks when it is read), in this order. Sections within the section follow after `sections`,
/// and what is no setting after `beside`.
#[macro_export]
macro_rules! settings {
    (
        $(#[$of:meta])*
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)*)])?
            pub $key:ident: $type:ty = $value:expr
                $(, default $default:literal)? $(, unit $unit:literal)? $(, range $range:expr)? $(, limits $limits:literal)?;
        )*}
        $(sections {$(
            $(#[doc = $inner_doc:literal])+
            pub $section:ident: $inner:ty;
        )*})?
        $(beside {$(
            $(#[doc = $beside_doc:literal])+
            pub $beside:ident: $other:ty;
        )*})?
    ) => {
        $(#[$of])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($value), "`")]
                $(#[serde($($serde)*)])?
                pub $key: $type,
            )*
            $($($(#[doc = $inner_doc])+ pub $section: $inner,)*)?
            $($($(#[doc = $beside_doc])+ #[serde(skip)] pub $beside: $other,)*)?
        }

        impl Default for $name {
            fn default() -> $name {
                $name {
                    $($key: $value,)*
                    $($($section: Default::default(),)*)?
                    $($($beside: Default::default(),)*)?
                }
            }
        }

        impl $name {
            /// Returns the keys of this section and of the sections in it, for the reference page.
            pub fn reference() -> Vec<$crate::setting::Setting> {
                let own = [$({
                    let code = [stringify!($key), concat!($($doc),+), stringify!($type), stringify!($value)];
                    let limits = String::new() $(+ &$crate::setting::in_words($name::default().$key, &($range)))? $(+ $limits)?;
                    $crate::setting::Setting::declared(code, concat!("" $(, $default)?), concat!("" $(, $unit)?), limits)
                },)*];
                let inner: Vec<Vec<$crate::setting::Setting>> = vec![$($(
                    <$inner>::reference().into_iter().map(|of| of.within(stringify!($section))).collect(),
                )*)?];
                own.into_iter().chain(inner.into_iter().flatten()).collect()
            }

            /// Returns the key of a number that is not in its range, and what is expected. Returns `None` if all are.
            pub fn beyond_limits(&self) -> Option<(String, String)> {
                $($(
                    if let Some(what) = $crate::setting::beyond(self.$key, &($range)) {
                        return Some((stringify!($key).to_owned(), what));
                    }
                )?)*
                $($(
                    if let Some((key, what)) = self.$section.beyond_limits() {
                        return Some((format!("{}.{key}", stringify!($section)), what));
                    }
                )*)?
                None
            }
        }
    };
}
