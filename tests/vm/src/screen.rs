// SPDX-License-Identifier: GPL-2.0

//! A program in a terminal: a pty, and what its screen shows.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{Stop, fail, skip};

/// Enough for an emulated debug kernel.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Screen {
    master: fs::File,
    // Keeps the terminal, and its modes, when the program is gone.
    slave: OwnedFd,
    child: Child,
    parser: Arc<Mutex<vt100::Parser>>,
    /// All that the program wrote.
    raw: Arc<Mutex<Vec<u8>>>,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn terminal() -> Result<(OwnedFd, OwnedFd), Stop> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    fs::create_dir_all("/dev/pts")?;
    if fs::read_dir("/dev/pts")?.next().is_none() {
        match mount("devpts", "/dev/pts", "devpts", MountFlags::empty(), None) {
            Ok(()) => {}
            Err(Errno::NODEV) => return skip("this kernel has no ptys (CONFIG_UNIX98_PTYS)"),
            Err(errno) => return Err(errno.into()),
        }
    }
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(path.as_c_str(), flags, Mode::empty())?;
    Ok((master, slave))
}

impl Screen {
    /// Runs a program in a terminal of so many rows and columns, which is its own: it gets the
    /// signal of a new size.
    pub(crate) fn run(words: &[&str], rows: u16, columns: u16) -> Result<Self, Stop> {
        let (master, slave) = terminal()?;
        tcsetwinsize(&slave, size(rows, columns))?;
        let child = Command::new("setsid")
            .arg("-c")
            .args(words)
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave.try_clone()?)
            .spawn()?;
        let parser = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let mut output = fs::File::from(master.try_clone()?);
        let (into, all) = (Arc::clone(&parser), Arc::clone(&raw));
        // Ends when the last slave is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                if let (Ok(mut parser), Ok(mut all)) = (into.lock(), all.lock()) {
                    parser.process(&bytes[..len]);
                    all.extend(&bytes[..len]);
                }
            }
        });
        Ok(Self {
            master: master.into(),
            slave,
            child,
            parser,
            raw,
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut vt100::Parser) -> T) -> T {
        look(
            &mut self
                .parser
                .lock()
                .unwrap_or_else(|poison| poison.into_inner()),
        )
    }

    pub(crate) fn text(&self) -> String {
        self.with(|parser| parser.screen().contents())
    }

    /// All that was written, as it came.
    pub(crate) fn written(&self) -> String {
        let raw = self.raw.lock().unwrap_or_else(|poison| poison.into_inner());
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// Waits until the screen is as it must be, and gives it.
    pub(crate) fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<String, Stop> {
        let began = Instant::now();
        loop {
            let text = self.text();
            if is(&text) {
                return Ok(text);
            }
            if began.elapsed() > PATIENCE {
                return fail(format!("{what}: not on the screen:\n{text}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) -> Result<(), Stop> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), Stop> {
        self.with(|parser| parser.set_size(rows, columns));
        Ok(tcsetwinsize(self.master.as_fd(), size(rows, columns))?)
    }

    pub(crate) fn pid(&self) -> Result<Pid, Errno> {
        let pid = i32::try_from(self.child.id()).ok();
        pid.and_then(Pid::from_raw).ok_or(Errno::SRCH)
    }

    /// Whether a program has the whole screen, and not its end below a prompt.
    pub(crate) fn is_alternate(&self) -> bool {
        self.with(|parser| parser.screen().alternate_screen())
    }

    /// Whether lines are edited and shown while they are typed, as a shell wants it.
    pub(crate) fn is_cooked(&self) -> Result<bool, Stop> {
        let modes = tcgetattr(&self.slave)?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    pub(crate) fn end(&mut self) -> Result<ExitStatus, Stop> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                // What it wrote last.
                thread::sleep(Duration::from_millis(100));
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                return fail(format!("it does not end:\n{}", self.text()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
