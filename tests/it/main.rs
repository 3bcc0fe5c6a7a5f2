//! Integration tests, by behaviour.

mod bootstrap;
mod compare;
mod ddl;
mod ddl_load;
mod ddl_rights;
mod ddl_roles;
mod ddl_selected;
mod faults;
mod hooks;
mod http;
mod kill;
mod ledger;
mod load;
mod metrics;
mod mistakes;
mod postgres;
mod prometheus;
mod random;
mod resync;
mod rules;
mod service;
mod smoke;
mod streams;
mod tidy;
mod types;
mod verify;
