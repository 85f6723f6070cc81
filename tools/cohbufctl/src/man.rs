// SPDX-License-Identifier: GPL-2.0

//! Man pages and completions, from the same definition as the arguments.

use std::fs;
use std::io::Write as _;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::{Error, Result};
use crate::exit::{Exit, OF_A_PROGRAM};
use crate::show::{Look, print, print_json};

/// What is read from the environment, and what is set there.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("NO_COLOR", "where it is set, nothing is coloured"),
    ("TERM", "nor where it is \"dumb\""),
    (
        "COHBUF_FD",
        "set by create --exec: the number of the file descriptor that the program inherits",
    ),
];

pub(crate) fn completions(args: &CompletionsArgs, look: Look) -> Result<()> {
    let script = script(args.shell);
    if look.json {
        let shell = args.shell.to_string();
        return print_json(&json!({ "shell": shell, "script": script }));
    }
    print(&script)
}

fn script(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "cohbufctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without what is hidden, which people do not call: for pages and completions.
fn shown() -> Command {
    let all = Cli::command();
    Command::new("cohbufctl")
        .about(all.get_about().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(all.get_arguments().cloned())
        .subcommands(
            all.get_subcommands()
                .filter(|of| !of.is_hide_set())
                .cloned(),
        )
}

pub(crate) fn man(args: &ManArgs, look: Look) -> Result<()> {
    let mut written = Vec::new();
    fs::create_dir_all(&args.out).map_err(|error| Error::Write {
        path: args.out.clone(),
        error,
    })?;
    for (name, page) in pages() {
        let path = args.out.join(name);
        let page = page.and_then(|page| fs::write(&path, page));
        page.map_err(|error| Error::Write {
            path: path.clone(),
            error,
        })?;
        written.push(path);
    }
    if look.json {
        print_json(&json!({ "pages": written }))?;
    }
    Ok(())
}

/// File names and pages: of the command, and of each that it has.
fn pages() -> Vec<(String, std::io::Result<Vec<u8>>)> {
    let mut root = shown().disable_help_subcommand(true);
    root.build();
    let children: Vec<Command> = root
        .get_subcommands()
        .map(|command| {
            let name = format!("cohbufctl-{}", command.get_name());
            command.clone().display_name(name)
        })
        .collect();
    let names: Vec<String> = children.iter().filter_map(page_name).collect();
    let mut pages = vec![("cohbufctl.1".to_owned(), page(root, &names))];
    for child in children {
        let Some(name) = page_name(&child) else {
            continue;
        };
        pages.push((format!("{name}.1"), page(child, &["cohbufctl".to_owned()])));
    }
    pages
}

fn page_name(command: &Command) -> Option<String> {
    command.get_display_name().map(str::to_owned)
}

fn page(command: Command, see: &[String]) -> std::io::Result<Vec<u8>> {
    let has_children = command.has_subcommands();
    // The exit status has a section of its own here.
    let command = command.after_help("").after_long_help("");
    let man = Man::new(command).manual("cohbuf").source("cohbuf");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_children {
        man.render_subcommands_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (exit, text) in Exit::ALL {
        writeln!(page, ".TP\n\\fB{}\\fR\n{text}", exit as u8)?;
    }
    writeln!(page, ".PP\n{}", OF_A_PROGRAM.replace('-', "\\-"))?;
    writeln!(page, ".SH ENVIRONMENT")?;
    for (name, text) in ENVIRONMENT {
        writeln!(page, ".TP\n\\fB{name}\\fR\n{}", text.replace('-', "\\-"))?;
    }
    writeln!(page, ".SH \"SEE ALSO\"")?;
    let see: Vec<String> = see
        .iter()
        .map(|name| format!("\\fB{}\\fR(1)", name.replace('-', "\\-")))
        .collect();
    writeln!(page, "{}", see.join(",\n"))?;
    Ok(page)
}

/// Writes the pages for a test.
#[cfg(test)]
fn written(dir: &std::path::Path) -> Vec<String> {
    let args = ManArgs {
        out: dir.to_owned(),
    };
    man(&args, Look::plain()).unwrap();
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_each_command() {
        let dir = std::env::temp_dir().join(format!("cohbufctl-man-{}", std::process::id()));
        let names = written(&dir);
        let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let (main, list) = (page("cohbufctl.1"), page("cohbufctl-list.1"));
        let pages: Vec<String> = names.iter().map(|name| page(name)).collect();
        fs::remove_dir_all(&dir).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = format!("cohbufctl-{}.1", command.get_name());
            assert_eq!(names.contains(&name), !command.is_hide_set(), "{name}");
        }
        assert!(list.contains(".TH cohbufctl-list 1"), "{list}");
        assert!(list.contains("\\-\\-exporter"), "{list}");
        assert!(main.contains("cohbufctl\\-list(1)"), "{main}");
        assert!(main.contains("\\fBCOHBUF_FD"), "{main}");
        for page in pages {
            for (exit, text) in Exit::ALL {
                let entry = format!("\\fB{}\\fR\n{text}", exit as u8);
                assert!(page.contains(&entry), "{page}");
            }
            assert!(page.contains("128 + N"), "{page}");
            for (name, _) in ENVIRONMENT {
                assert!(page.contains(&format!("\\fB{name}\\fR\n")), "{page}");
            }
        }
    }

    #[test]
    fn nobody_is_offered_what_is_hidden() {
        let script = script(clap_complete::Shell::Bash);
        let mut shown = 0;
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let offered = script.contains(&format!("cohbufctl,{name})"));
            assert_eq!(offered, !command.is_hide_set(), "{name}");
            shown += usize::from(offered);
        }
        // An option of all of them.
        assert!(script.matches("--json").count() > shown);
    }

    #[test]
    fn the_documentation_has_the_environment() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../Documentation/cohbufctl.rst"
        );
        let page = std::fs::read_to_string(page).unwrap();
        for (name, _) in ENVIRONMENT {
            assert!(page.contains(&format!("``{name}")), "{name}");
        }
    }
}
