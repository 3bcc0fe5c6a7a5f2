//! Integration tests, by behaviour.

mod compare;
mod postgres;
mod tidy;
