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
    watches_input: bool,
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
            watches_input: false,
            devices: BTreeMap::new(),
        };
        if !buttons.watch_input() {
            if let Some(parent) = directory.parent() {
                inotify::add_watch(&buttons.watch, parent, inotify::WatchFlags::CREATE)?;
            }
            // It may have appeared between the two calls.
            buttons.watch_input();
        }
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
        let mut changed = false;
        while reader.next().is_ok() {
            changed = true;
        }
        if changed && (self.watches_input || self.watch_input()) {
            self.scan();
        }
    }

    fn watch_input(&mut self) -> bool {
        let events = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        if !self.watches_input && inotify::add_watch(&self.watch, &self.directory, events).is_ok() {
            self.watches_input = true;
            self.scan();
        }
        self.watches_input
    }

    fn scan(&mut self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
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
