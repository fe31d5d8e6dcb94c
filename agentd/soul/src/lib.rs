//! SOUL: who this node is to others. A certificate authority of its own, the server certificate it
//! issues for itself, and the bearer token that opens the API until a node is claimed.
//!
//! Everything lives in one state directory, readable by the agent only, and is reused on restart:
//!
//! | file                      | what                                              |
//! |---------------------------|---------------------------------------------------|
//! | `ca.key`, `ca.crt`        | the authority, made once                          |
//! | `ca.name`                 | the node name the authority may vouch for         |
//! | `server.key`, `server.crt`| the current server certificate                    |
//! | `server.names`            | the names in it, one per line, then its validity  |
//! | `token`                   | the bearer token                                  |

mod authority;
mod identity;
mod state;
mod token;
mod validity;

pub use authority::{Authority, AuthorityError};
pub use identity::{Ensured, Identity, IdentityError};
pub use state::StateError;
pub use token::{Token, TokenError};
