//! The power button: every input device with KEY_POWER, as soon as it appears.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{OFlags, inotify};

use crate::sys;

/// Open power buttons, and the watch for new ones.
pub struct PowerButtons {
    directory: std::path::PathBuf,
    watch: OwnedFd,
    /// The watch on `directory`; `None` while it does not exist. devtmpfs removes it with its last device.
    input_watch: Option<i32>,
    /// `None`: looked at, not a power button.
    devices: BTreeMap<OsString, Option<File>>,
}

impl PowerButtons {
    /// Watches `directory`, normally /dev/input, which need not exist yet.
    ///
    /// # Errors
    /// What inotify said.
    pub fn watch(directory: &Path) -> io::Result<PowerButtons> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let mut buttons = PowerButtons {
            directory: directory.to_owned(),
            watch,
            input_watch: None,
            devices: BTreeMap::new(),
        };
        if let Some(parent) = directory.parent() {
            inotify::add_watch(&buttons.watch, parent, inotify::WatchFlags::CREATE)?;
        }
        buttons.watch_input();
        Ok(buttons)
    }

    /// What to poll for reading.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.watch.as_fd()).chain(self.devices.values().flatten().map(AsFd::as_fd))
    }

    /// Takes in what became readable: new devices, key presses. True when a power key was pressed.
    pub fn check(&mut self) -> bool {
        self.drain_watch();
        let mut pressed = false;
        for device in self.devices.values_mut() {
            let Some(file) = device else { continue };
            let mut records = [0; 24 * 64];
            match file.read(&mut records) {
                Ok(read) => pressed |= sys::is_power_key(&records[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Unplugged.
                Err(_) => *device = None,
            }
        }
        pressed
    }

    fn drain_watch(&mut self) {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut space);
        let name = self
            .directory
            .file_name()
            .map(|name| name.as_encoded_bytes().to_vec());
        let (mut appeared, mut changed) = (false, false);
        while let Ok(event) = reader.next() {
            if Some(event.wd()) == self.input_watch {
                changed = true;
                if event.events().contains(inotify::ReadFlags::IGNORED) {
                    self.input_watch = None;
                }
            } else {
                appeared |= event.file_name().map(|file| file.to_bytes().to_vec()) == name;
            }
        }
        if appeared {
            self.watch_input();
        } else if changed {
            self.scan();
        }
    }

    fn watch_input(&mut self) {
        let events = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        self.input_watch = inotify::add_watch(&self.watch, &self.directory, events).ok();
        self.scan();
    }

    fn scan(&mut self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let names: Vec<OsString> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        self.devices.retain(|name, _| names.contains(name));
        for name in names {
            let is_event = name.to_str().is_some_and(|name| name.starts_with("event"));
            if is_event && !self.devices.contains_key(&name) {
                let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
                let file = File::options()
                    .read(true)
                    .custom_flags(flags)
                    .open(self.directory.join(&name))
                    .ok();
                self.devices
                    .insert(name, file.filter(sys::reports_power_key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_whenever_their_folder_comes_and_goes() {
        let dev = tempfile::tempdir().unwrap();
        let input = dev.path().join("input");
        let mut buttons = PowerButtons::watch(&input).unwrap();
        for _ in 0..2 {
            assert!(!buttons.check());
            fs::create_dir(&input).unwrap();
            fs::write(input.join("event0"), "").unwrap();
            fs::write(input.join("mouse0"), "").unwrap();
            buttons.check();
            // A plain file is not a power button, but it was looked at.
            assert_eq!(buttons.devices.keys().collect::<Vec<_>>(), ["event0"]);
            fs::write(input.join("event1"), "").unwrap();
            buttons.check();
            assert_eq!(buttons.devices.len(), 2);
            fs::remove_dir_all(&input).unwrap();
            buttons.check();
            assert!(buttons.devices.is_empty());
        }
    }
}
