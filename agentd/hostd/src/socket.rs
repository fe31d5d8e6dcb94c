//! The listening socket and who owns it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The agent's account, which may use the socket besides root.
pub const AGENT_ACCOUNT: &str = "mnemos";

/// Why the helper cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The account database could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image was built without the agent's account.
    #[error("no entry `{AGENT_ACCOUNT}` in {}", path.display())]
    NoAccount {
        /// Which file.
        path: PathBuf,
    },
    /// One of the steps to a listening socket failed.
    #[error("cannot {step} {}", path.display())]
    Step {
        /// What we did.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The numeric id of `name` in `/etc/passwd` or `/etc/group`: both hold it in the third field.
///
/// # Errors
/// When the file cannot be read or has no such entry.
pub fn account_id(path: &Path, name: &str) -> Result<u32, SocketError> {
    let text = fs::read_to_string(path).map_err(|source| SocketError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    parse_account_id(&text, name).ok_or_else(|| SocketError::NoAccount {
        path: path.to_path_buf(),
    })
}

fn parse_account_id(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// Listens on `path`, mode 0660, owned by root and `group`; replaces what an earlier run left there.
///
/// The socket gets its owner and mode under another name first: nobody can reach it in between.
///
/// # Errors
/// Names the step that failed.
pub fn listen(path: &Path, group: u32) -> Result<UnixListener, SocketError> {
    let fresh = path.with_extension("sock.new");
    let failed = |step, path: &Path| {
        let path = path.to_path_buf();
        move |source| SocketError::Step { step, path, source }
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &fresh)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("bind", &fresh))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o660))
        .map_err(failed("set the mode of", &fresh))?;
    chown(&fresh, None, Some(group)).map_err(failed("set the group of", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("publish", path))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn finds_the_id_of_an_account() {
        let text =
            "root:x:0:0::/:/none\nmnemos-x:x:1:1::/:\nmnemos:x:900:900:agent:/:/none\nbroken\n";
        assert_eq!(parse_account_id(text, "mnemos"), Some(900));
        assert_eq!(parse_account_id(text, "console"), None);
        assert_eq!(parse_account_id("mnemos:x:many:\n", "mnemos"), None);
    }

    #[test]
    fn replaces_an_old_socket_and_sets_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/hostd.sock");
        let group = fs::metadata(folder.path()).unwrap().gid();
        drop(listen(&path, group).unwrap());
        let _listener = listen(&path, group).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o660);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
