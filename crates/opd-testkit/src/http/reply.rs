use std::{
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers.
    Answer {
        /// HTTP status.
        status: u16,
        /// Headers beside length and type.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Closes the connection without a word.
    Drop,
    /// Announces the whole body, sends this many bytes of it and closes the connection.
    Torn {
        /// The body.
        body: Vec<u8>,
        /// Bytes that are sent.
        sent: usize,
    },
    /// Sends the first bytes of an answer, one by one with this pause, and never ends.
    Trickle {
        /// Between two bytes.
        pause: Duration,
        /// Bytes before the connection is closed.
        bytes: usize,
    },
    /// Waits, then does something else.
    Late(Duration, Box<Reply>),
}

impl Reply {
    /// An answer of status 200.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body)
    }

    /// An answer of any status.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// Carries it out; whether the connection goes on.
    pub(super) fn send(&self, stream: &mut impl Write) -> io::Result<bool> {
        match self {
            Self::Answer { status, headers, body } => {
                head(stream, *status, headers, body.len())?;
                stream.write_all(body)?;
                stream.flush()?;
                Ok(true)
            }
            Self::Drop => Ok(false),
            Self::Torn { body, sent } => {
                head(stream, 200, &[], body.len())?;
                stream.write_all(&body[..body.len().min(*sent)])?;
                stream.flush()?;
                Ok(false)
            }
            Self::Trickle { pause, bytes } => {
                head(stream, 200, &[], 1 << 20)?;
                for _ in 0..*bytes {
                    stream.write_all(b" ")?;
                    stream.flush()?;
                    sleep(*pause);
                }
                Ok(false)
            }
            Self::Late(pause, reply) => {
                sleep(*pause);
                reply.send(stream)
            }
        }
    }
}

fn head(
    stream: &mut impl Write,
    status: u16,
    headers: &[(String, String)],
    length: usize,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())
}
