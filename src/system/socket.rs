//! Sockets that listen, as /proc shows them.

use std::collections::BTreeSet;
use std::{fs, io};

use crate::error::{Error, Result};
use crate::system::process::{is_gone, proc_text};
use crate::system::root::Root;

/// The state of a TCP socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Tells whether a process has a TCP socket that listens; one that is gone has none.
pub fn listens(root: &Root, pid: u32) -> Result<bool> {
    let place = root.at(format!("/proc/{pid}"));
    let mut listening = BTreeSet::new();
    // A kernel without IPv6 has only the first.
    for table in ["net/tcp", "net/tcp6"] {
        let path = place.join(table);
        let table = if_there(proc_text(&path));
        let table = table.map_err(|cause| Error::system("read", &path, cause))?;
        let table = table.unwrap_or_default();
        listening.extend(table.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().skip(3);
            let listens = fields.next()? == LISTENS;
            listens.then(|| format!("socket:[{}]", fields.nth(5).unwrap_or_default()))
        }));
    }
    let path = place.join("fd");
    let look = || -> io::Result<bool> {
        for entry in if_there(fs::read_dir(&path))?.into_iter().flatten() {
            // It may have been closed meanwhile.
            let link = if_there(entry.and_then(|entry| fs::read_link(entry.path())))?;
            let link = link.and_then(|link| link.into_os_string().into_string().ok());
            if link.is_some_and(|link| listening.contains(&link)) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    look().map_err(|cause| Error::system("look at", &path, cause))
}

/// Gives `None` for what is not there, or not any more.
fn if_there<T>(look: io::Result<T>) -> io::Result<Option<T>> {
    match look {
        Err(cause) if is_gone(&cause) => Ok(None),
        look => look.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::error::Code;
    use crate::system::beneath::scratch::Scratch;

    #[test]
    fn a_process_listens_while_it_has_a_listening_socket()
    -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = Root::new("/");
        // A process of its own: other tests of this one may listen.
        let mut other = std::process::Command::new("sleep").arg("60").spawn()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let _client = TcpStream::connect(listener.local_addr()?)?;
        assert!(listens(&root, std::process::id())?);
        assert!(!listens(&root, other.id())?, "it has inherited none");
        other.kill()?;
        other.wait()?;
        assert!(!listens(&root, other.id())?, "it is gone");
        Ok(())
    }

    #[test]
    fn a_table_that_cannot_be_read_is_no_answer()
    -> std::result::Result<(), Box<dyn std::error::Error>> {
        let scratch = Scratch::new("socket-table")?;
        fs::create_dir_all(scratch.path().join("proc/7/net/tcp"))?;
        let error = listens(&Root::new(scratch.path()), 7).map_err(|error| error.code());
        assert_eq!(error, Err(Code::System));
        Ok(())
    }
}
