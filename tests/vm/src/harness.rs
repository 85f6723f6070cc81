// SPDX-License-Identifier: GPL-2.0

//! Runs tests and says how they went, as KTAP version 1.

use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use cohbuf::Errno;
use cohbuf_testdev::Refused;

/// Some times what the slowest test takes on an emulated debug kernel, which is 170 s where two
/// guests share two CPUs: a host that has more to do is no failure.
const LIMIT: Duration = Duration::from_secs(600);

/// What takes as long is said.
const SLOW: Duration = Duration::from_secs(4);

/// Why a test did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(String),
    Skipped(String),
}

pub(crate) type Outcome = Result<(), Stop>;

/// Ends a test as one that cannot run here.
pub(crate) fn skip<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skipped(reason.into()))
}

/// Ends a test as failed.
pub(crate) fn fail<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(reason.into()))
}

impl From<cohbuf::Error> for Stop {
    fn from(error: cohbuf::Error) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Stop::Failed(format!("unexpected: {errno}"))
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Stop::Failed(format!("attach: {}", refused.errno))
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error.to_string())
    }
}

/// Fails the test unless a call gives this errno.
#[track_caller]
pub(crate) fn expect_errno<T>(
    what: &str,
    result: Result<T, impl Into<AnyErrno>>,
    errno: Errno,
) -> Outcome {
    let line = std::panic::Location::caller();
    match result {
        Ok(_) => fail(format!("{line}: {what}: succeeded, must be {errno}")),
        Err(error) => match error.into().0 {
            is if is == errno => Ok(()),
            is => fail(format!("{line}: {what}: {is}, must be {errno}")),
        },
    }
}

/// The errno in any error.
pub(crate) struct AnyErrno(Errno);

impl From<Errno> for AnyErrno {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl From<cohbuf::Error> for AnyErrno {
    fn from(error: cohbuf::Error) -> Self {
        Self(error.errno())
    }
}

impl From<Refused> for AnyErrno {
    fn from(refused: Refused) -> Self {
        Self(refused.errno)
    }
}

/// Fails the test unless two values are equal.
#[track_caller]
pub(crate) fn expect_eq<T: PartialEq + std::fmt::Debug>(what: &str, is: T, must: T) -> Outcome {
    if is == must {
        return Ok(());
    }
    let line = std::panic::Location::caller();
    fail(format!("{line}: {what}: {is:?}, must be {must:?}"))
}

/// Fails the test unless something holds.
#[track_caller]
pub(crate) fn expect(what: impl std::fmt::Display, holds: bool) -> Outcome {
    if holds {
        return Ok(());
    }
    let line = std::panic::Location::caller();
    fail(format!("{line}: does not hold: {what}"))
}

static OUT: OnceLock<PathBuf> = OnceLock::new();

/// Leaves a text for a person to read, beside the results and on standard output.
pub(crate) fn leave(name: &str, text: &str) -> io::Result<()> {
    print!("{text}");
    leave_file(name, text)
}

/// The same, beside the results alone.
pub(crate) fn leave_file(name: &str, text: &str) -> io::Result<()> {
    match OUT.get() {
        Some(out) => std::fs::write(out.join(name), text),
        None => Ok(()),
    }
}

/// Leaves a picture beside the results: red, green and blue of each pixel.
pub(crate) fn leave_picture(
    name: &str,
    (width, height): (usize, usize),
    pixels: &[u8],
) -> io::Result<()> {
    let Some(out) = OUT.get() else {
        return Ok(());
    };
    let file = File::create(out.join(name))?;
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Outcome,
}

pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) cases: &'static [Case],
}

/// A suite of the functions named.
#[macro_export]
macro_rules! suite {
    ($name:literal: $($case:ident),* $(,)?) => {
        pub(super) const SUITE: $crate::harness::Suite = $crate::harness::Suite {
            name: $name,
            cases: &[$($crate::harness::Case { name: stringify!($case), run: $case }),*],
        };
    };
}

/// The same, of functions that take a [`Guest`](crate::guest::Guest).
#[macro_export]
macro_rules! guest_suite {
    ($name:literal: $($case:ident),* $(,)?) => {
        pub(super) const SUITE: $crate::harness::Suite = $crate::harness::Suite {
            name: $name,
            cases: &[$($crate::harness::Case {
                name: stringify!($case),
                run: || $case(&$crate::guest::Guest::look()),
            }),*],
        };
    };
}

/// Fails the test where the condition does not hold.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return $crate::harness::fail(format!("line {}: {}", line!(), format_args!($($what)+)));
        }
    };
}

/// Fails the test unless `result` is the error `errno`.
#[track_caller]
pub(crate) fn fails_with<T>(result: Result<T, Errno>, errno: Errno, what: &str) -> Outcome {
    expect_errno(what, result, errno)
}

pub(crate) fn list(suites: &[Suite]) {
    for suite in suites {
        for case in suite.cases {
            println!("{}.{}", suite.name, case.name);
        }
    }
}

/// Both where the results go to.
struct Report {
    file: Option<File>,
}

impl Report {
    fn line(&mut self, line: &str) -> io::Result<()> {
        println!("{line}");
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}")?;
        }
        Ok(())
    }

    fn comment(&mut self, indent: &str, text: &str) -> io::Result<()> {
        text.lines()
            .try_for_each(|line| self.line(&format!("{indent}# {line}")))
    }
}

/// Runs what the filter selects; whether all of it passed.
pub(crate) fn run(suites: &[Suite], filter: Option<&str>, out: Option<&Path>) -> io::Result<bool> {
    let selected: Vec<(&Suite, Vec<&Case>)> = suites
        .iter()
        .map(|suite| {
            let cases = suite.cases.iter().filter(|case| {
                let name = format!("{}.{}", suite.name, case.name);
                filter.is_none_or(|filter| filter.split(',').any(|part| name.contains(part)))
            });
            (suite, cases.collect::<Vec<_>>())
        })
        .filter(|(_, cases)| !cases.is_empty())
        .collect();
    if selected.is_empty() {
        return Err(io::Error::other("no test has a name like that; see --list"));
    }

    let file = match out {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            let _ = OUT.set(dir.to_owned());
            Some(File::create(dir.join("vm.ktap"))?)
        }
        None => None,
    };
    let report = Arc::new(Mutex::new(Report { file }));
    let watchdog = Watchdog::start(Arc::clone(&report));
    let lock = || report.lock().unwrap_or_else(|poison| poison.into_inner());

    let mut good = true;
    lock().line("KTAP version 1")?;
    lock().line(&format!("1..{}", selected.len()))?;
    for (number, (suite, cases)) in selected.iter().enumerate() {
        lock().line("    KTAP version 1")?;
        lock().line(&format!("    # Subtest: {}", suite.name))?;
        lock().line(&format!("    1..{}", cases.len()))?;
        let mut suite_good = true;
        for (number, case) in cases.iter().enumerate() {
            let number = number + 1;
            watchdog.watch(&format!("not ok {number} {}", case.name));
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(case.run)).unwrap_or_else(|panic| {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                fail(format!("panicked: {}", text.unwrap_or("?")))
            });
            watchdog.rest();
            let mut report = lock();
            let took = began.elapsed();
            if took >= SLOW {
                report.comment("    ", &format!("{}: {} s", case.name, took.as_secs()))?;
            }
            match outcome {
                Ok(()) => report.line(&format!("    ok {number} {}", case.name))?,
                Err(Stop::Skipped(reason)) => {
                    report.line(&format!("    ok {number} {} # SKIP {reason}", case.name))?;
                }
                Err(Stop::Failed(reason)) => {
                    suite_good = false;
                    report.comment("    ", &format!("{}: {reason}", case.name))?;
                    report.line(&format!("    not ok {number} {}", case.name))?;
                }
            }
        }
        let word = if suite_good { "ok" } else { "not ok" };
        lock().line(&format!("{word} {} {}", number + 1, suite.name))?;
        good &= suite_good;
    }
    Ok(good)
}

/// Ends the process, and with it the results, where a test hangs.
struct Watchdog {
    orders: mpsc::Sender<Option<String>>,
}

impl Watchdog {
    fn start(report: Arc<Mutex<Report>>) -> Self {
        let (orders, inbox) = mpsc::channel::<Option<String>>();
        std::thread::spawn(move || {
            let mut watched: Option<String> = None;
            loop {
                let order = match &watched {
                    None => inbox
                        .recv()
                        .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                    Some(_) => inbox.recv_timeout(LIMIT),
                };
                match (order, &watched) {
                    (Ok(order), _) => watched = order,
                    (Err(mpsc::RecvTimeoutError::Timeout), Some(line)) => {
                        let mut report = report.lock().unwrap_or_else(|poison| poison.into_inner());
                        let text = format!("hangs for {} s, the rest did not run", LIMIT.as_secs());
                        // There is nothing left to try where this fails.
                        let _ = report.comment("    ", &text);
                        let _ = report.line(&format!("    {line}"));
                        std::process::exit(1);
                    }
                    (Err(_), _) => return,
                }
            }
        });
        Self { orders }
    }

    fn watch(&self, line: &str) {
        let _ = self.orders.send(Some(line.to_owned()));
    }

    fn rest(&self) {
        let _ = self.orders.send(None);
    }
}
