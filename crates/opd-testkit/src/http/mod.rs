//! A small HTTP server for tests, which can misbehave in every way that matters.

mod fault;
mod forward;
mod reply;
mod request;
mod server;

pub use self::{
    fault::Fault, forward::forward, reply::Reply, request::HttpRequest, server::HttpServer,
};
