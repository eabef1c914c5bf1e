//! MITgcm output: `.meta` headers, `.data` arrays, the compact LLC layout.
