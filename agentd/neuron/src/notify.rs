//! `sd_notify(3)`: tells PID 1 how the start is going.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use crate::log;

/// The model answers.
pub fn ready() {
    send("READY=1");
}

/// One line of what is being done now.
pub fn status(text: &str) {
    send(&format!("STATUS={}", text.replace('\n', " ")));
}

/// The process is on its way out.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(message: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return; // Started by hand.
    };
    if let Err(error) = send_to(path.as_bytes(), message) {
        log::warning(&format!("cannot notify PID 1: {error}"));
    }
}

/// `@name` is an abstract address, anything else a path.
fn send_to(path: &[u8], message: &str) -> io::Result<()> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(message.as_bytes(), &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_and_path_sockets_get_the_message() {
        let name = format!("neuron-notify-{}", std::process::id());
        let path = env::temp_dir().join(&name);
        let listeners = [
            (
                format!("@{name}").into_bytes(),
                SocketAddr::from_abstract_name(&name).unwrap(),
            ),
            (
                path.as_os_str().as_bytes().to_vec(),
                SocketAddr::from_pathname(&path).unwrap(),
            ),
        ];
        for (target, address) in listeners {
            let listener = UnixDatagram::bind_addr(&address).unwrap();
            send_to(&target, "READY=1").unwrap();
            let mut buffer = [0; 16];
            let count = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
