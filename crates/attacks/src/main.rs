//! `otf-attack`: what the triggers of the overlays tell the kernel, for test machines that are thrown away.
//!
//! Each attack shows that memory is damaged and stops there.
#![expect(clippy::print_stdout, reason = "it says what harm was done")]

mod alive;
mod attribute;
mod binding;
mod byteorder;
mod catchall;
mod fields;
mod netlink;
mod nft;
mod packet;
mod register;
mod setelem;
mod vlan;

use std::{env, io, process::ExitCode};

const USAGE: &str = "otf-attack BUG setup|attack|harm | otf-attack alive
BUG: binding, byteorder, catchall, fields, register, setelem, vlan";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(result) = run(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("otf-attack {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Option<io::Result<()>> {
    Some(match words {
        ["alive"] => alive::watch(),
        ["serve"] => alive::serve(),
        ["binding", "setup"] => binding::setup(),
        ["binding", "attack"] => binding::attack(),
        ["byteorder", "setup"] => byteorder::setup(),
        ["byteorder", "attack"] => byteorder::attack(),
        ["catchall", "setup"] => catchall::setup(),
        ["catchall", "attack"] => catchall::attack(),
        ["catchall", "harm"] => catchall::harm(),
        ["fields", "setup"] => fields::setup(),
        ["fields", "attack"] => fields::attack(),
        ["register", "setup"] => register::setup(),
        ["register", "attack"] => register::attack(),
        ["setelem", "setup"] => setelem::setup(),
        ["setelem", "attack"] => setelem::attack(),
        ["setelem", "harm"] => setelem::harm(),
        ["vlan", "setup"] => vlan::setup(),
        ["vlan", "attack"] => vlan::attack(),
        _ => return None,
    })
}
