//! A small HTTP server for tests, which can misbehave in every way that matters.

mod reply;
mod request;
mod server;

pub use self::{reply::Reply, request::HttpRequest, server::HttpServer};
