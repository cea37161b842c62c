//! Whole-server tests with real clients.
