//! /etc/passwd and /etc/group, read directly: a static program has no NSS.

/// The users and groups of the image.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<(String, u32)>,
}

/// One line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// A unit names an account that the image does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// `User=`.
    #[error("no user {0} in /etc/passwd")]
    User(String),
    /// `Group=` or `SupplementaryGroups=`.
    #[error("no group {0} in /etc/group")]
    Group(String),
}

impl Accounts {
    /// Reads the texts of the two files. Lines that are not accounts are passed over, as getpwent(3) does.
    pub fn parse(passwd: &str, group: &str) -> Accounts {
        Accounts {
            users: passwd.lines().filter_map(parse_user).collect(),
            groups: group.lines().filter_map(parse_group).collect(),
        }
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`AccountError::User`] when there is none.
    pub fn user(&self, name: &str) -> Result<&User, AccountError> {
        self.users
            .iter()
            .find(|user| user.name == name)
            .ok_or_else(|| AccountError::User(name.to_owned()))
    }

    /// The number of the group of that name.
    ///
    /// # Errors
    /// [`AccountError::Group`] when there is none.
    pub fn gid(&self, name: &str) -> Result<u32, AccountError> {
        let found = self.groups.iter().find(|(known, _)| known == name);
        found
            .map(|(_, gid)| *gid)
            .ok_or_else(|| AccountError::Group(name.to_owned()))
    }
}

fn parse_user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields.as_slice() else {
        return None;
    };
    Some(User {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: (*home).to_owned(),
    })
}

fn parse_group(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_accounts_and_names_the_missing() {
        let passwd = "root:x:0:0:root:/root:/usr/sbin/nologin\ngarbage\nneuron:x:901:901::/:/x\n";
        let accounts = Accounts::parse(passwd, "root:x:0:\ntty:x:5:a,b\n:x:7:\n");
        assert_eq!(accounts.user("neuron").unwrap().uid, 901);
        assert_eq!(accounts.gid("tty"), Ok(5));
        assert_eq!(
            accounts.user("garbage").unwrap_err().to_string(),
            "no user garbage in /etc/passwd"
        );
        assert_eq!(
            accounts.gid("disk"),
            Err(AccountError::Group("disk".to_owned()))
        );
    }
}
