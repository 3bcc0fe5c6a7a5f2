//! Integration tests, by behaviour.

mod bootstrap;
mod compare;
mod ddl;
mod ddl_load;
mod ddl_rights;
mod ddl_roles;
mod ddl_selected;
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
