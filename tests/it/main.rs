//! Integration tests, by behaviour.

mod bootstrap;
mod compare;
mod faults;
mod kill;
mod ledger;
mod load;
mod mistakes;
mod postgres;
mod random;
mod resync;
mod rules;
mod service;
mod smoke;
mod streams;
mod tidy;
mod types;
mod verify;
