//! The one integration binary: the public library and the built command, against captured bytes and the simulator.

mod alerts;
mod architecture;
mod calibration;
mod captures;
mod command;
mod dashboards;
mod engine;
mod failures;
mod faults;
mod framing;
mod gates;
mod labels;
mod monitoring;
mod network;
mod outputs;
mod packages;
mod pages;
mod properties;
mod proxy;
mod receiver;
mod saved;
mod secrets;
mod selftest;
mod tls;
mod trend;
mod vllm_json;
