//! Engine processes and the models they serve: what there should be (`model.json` files), what there is
//! (sockets), and the proof that it works (the self-test).

mod card;
mod registry;
mod self_test;
mod watch;

#[cfg(test)]
pub(crate) use card::Card;
pub(crate) use registry::{Attachment, Engine, Registry};
#[cfg(test)]
pub(crate) use self_test::Passed;
pub(crate) use self_test::SelfTest;
pub(crate) use watch::watch;
