//! Sockets that listen, as /proc shows them.

use std::collections::BTreeSet;
use std::fs;

use crate::system::process::proc_text;
use crate::system::root::Root;

/// The state of a TCP socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Tells whether a process has a TCP socket that listens. One that cannot be looked at has none.
pub fn listens(root: &Root, pid: u32) -> bool {
    let place = root.at(format!("/proc/{pid}"));
    let mut listening = BTreeSet::new();
    for table in ["net/tcp", "net/tcp6"] {
        let table = proc_text(&place.join(table)).unwrap_or_default();
        listening.extend(table.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().skip(3);
            let listens = fields.next()? == LISTENS;
            listens.then(|| format!("socket:[{}]", fields.nth(5).unwrap_or_default()))
        }));
    }
    let open = fs::read_dir(place.join("fd")).into_iter().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter_map(|link| link.into_os_string().into_string().ok())
        .any(|link| listening.contains(&link))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_process_listens_while_it_has_a_listening_socket()
    -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = Root::new("/");
        // A process of its own: other tests of this one may listen.
        let mut other = std::process::Command::new("sleep").arg("60").spawn()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let _client = TcpStream::connect(listener.local_addr()?)?;
        assert!(listens(&root, std::process::id()));
        assert!(!listens(&root, other.id()), "it has inherited none");
        other.kill()?;
        other.wait()?;
        assert!(!listens(&root, other.id()), "it is gone");
        Ok(())
    }
}
