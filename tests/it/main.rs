//! Integration tests, by behaviour.

mod compare;
mod kill;
mod postgres;
mod random;
mod service;
mod smoke;
mod tidy;
mod types;
