//! The way that is usual without us: a server that collects each body in memory and hands it to the redis crate. It
//! runs as a process of its own, so that its memory can be read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use crate::{Error, Result};

/// Serves PUT and GET of whole values until it is ended.
pub(crate) fn serve(listen: SocketAddr, engine: &Path) -> Result<()> {
    let url = format!("unix://{}", engine.display());
    let client = redis::Client::open(url).map_err(|error| Error::Wrong(error.to_string()))?;
    let listener = TcpListener::bind(listen).map_err(Error::io(format!("listen on {listen}")))?;
    for stream in listener.incoming().flatten() {
        let client = client.clone();
        // A failed exchange ends its connection, as the load generator expects of every server.
        std::thread::spawn(move || connection(stream, &client));
    }
    Ok(())
}

fn connection(stream: TcpStream, client: &redis::Client) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut engine = client.get_connection().ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (method, key, length) = head(&mut stream)?;
        if method == "PUT" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).ok()?;
            redis::cmd("SET").arg(&key).arg(body).query::<()>(&mut engine).ok()?;
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        } else {
            let body: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut engine).ok()?;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.get_mut().write_all(head.as_bytes()).ok()?;
            stream.get_mut().write_all(&body).ok()?;
        }
    }
}

/// Method, key and length of the body; `None` when the client has gone.
fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, String, usize)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
            None => return Some((method, format!("whole{}", path.replace('/', ":")), length)),
        }
    }
}
