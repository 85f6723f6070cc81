// SPDX-License-Identifier: GPL-2.0

//! Man pages and completions, from the same definition as the arguments.

use std::fs;
use std::io::Write as _;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::{Error, Result};
use crate::exit::Exit;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cohbufctl", &mut script);
    std::io::stdout().write_all(&script).map_err(Error::Stdout)
}

pub(crate) fn man(args: &ManArgs) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(|error| Error::Write {
        path: args.out.clone(),
        error,
    })?;
    for (name, page) in pages() {
        let path = args.out.join(name);
        let page = page.and_then(|page| fs::write(&path, page));
        page.map_err(|error| Error::Write { path, error })?;
    }
    Ok(())
}

/// File names and pages: of the command, and of each that it has.
fn pages() -> Vec<(String, std::io::Result<Vec<u8>>)> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let children: Vec<Command> = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
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
    writeln!(page, ".SH ENVIRONMENT")?;
    writeln!(
        page,
        ".TP\n\\fBNO_COLOR\\fR\nwhere it is set, nothing is coloured"
    )?;
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
    man(&ManArgs {
        out: dir.to_owned(),
    })
    .unwrap();
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
        for page in pages {
            for (exit, text) in Exit::ALL {
                let entry = format!("\\fB{}\\fR\n{text}", exit as u8);
                assert!(page.contains(&entry), "{page}");
            }
        }
    }
}
