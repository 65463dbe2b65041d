use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{HttpRequest, Reply};

/// Asks another server what it answers to a request: the middle of a proxy.
///
/// The answer is [`Reply::Answer`] without the server's headers, or [`Reply::Drop`] if it gives none.
pub fn forward(address: SocketAddr, request: &HttpRequest) -> Reply {
    answer(address, request).unwrap_or(Reply::Drop)
}

fn answer(address: SocketAddr, request: &HttpRequest) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).ok()?;
    let HttpRequest { method, path, body, .. } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for name in ["authorization", "content-type"] {
        if let Some(value) = request.header(name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).ok()?;
    Some(Reply::Answer { status, headers: Vec::new(), body })
}
