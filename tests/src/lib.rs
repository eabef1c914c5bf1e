//! End-to-end tests of the two programs; nothing to use from elsewhere.
