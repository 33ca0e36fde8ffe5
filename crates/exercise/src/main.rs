//! `otf-exercise`: repeats one operation and says what it costs, for test machines whose time counts instructions.
//!
//! It prints one line, `OTF-BENCH` and a JSON object: how often the operation ran in each round, how long the processor was
//! busy with it, and how often each BPF program ran meanwhile (in a round of its own, because counting costs too).
#![expect(clippy::print_stdout, reason = "the line is its purpose")]

mod clock;
mod command;
mod local;
mod measure;
mod programs;
mod sockets;
mod watch;

use std::{env, io, process::ExitCode};

use measure::Operation;

const USAGE: &str = "otf-exercise NAME COUNT ROUNDS OPERATION [ARGUMENT...] | otf-exercise memory FOLDER
  | otf-exercise watch NAME PROGRAM ARGUMENT...
OPERATION: null_syscall, pipe, fork_exec, file, sockets, udp_round_trip ADDRESS, udp_one_way ADDRESS, udp_send ADDRESS PRIORITY,
  command BEFORE LESS PROGRAM ARGUMENT... (a {} in an argument is the count: it runs with LESS, and with LESS + COUNT)";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["nothing"] => return ExitCode::SUCCESS,
        ["memory", folder] => programs::memory(folder).map(|line| println!("OTF-MEMORY {line}")),
        ["watch", name, program, arguments @ ..] => {
            watch::watch(name, program, arguments).map(|line| println!("OTF-WATCH {line}"))
        }
        [name, count, rounds, operation, arguments @ ..] => {
            let (Ok(count), Ok(rounds)) = (count.parse(), rounds.parse()) else {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            };
            operation_of(operation, arguments)
                .and_then(|mut operation| measure::measure(name, count, rounds, &mut *operation))
                .map(|line| println!("OTF-BENCH {line}"))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("otf-exercise {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn operation_of(name: &str, arguments: &[&str]) -> io::Result<Box<dyn Operation>> {
    Ok(match (name, arguments) {
        ("null_syscall", []) => Box::new(local::NullSyscall),
        ("pipe", []) => Box::new(local::Pipe::new()?),
        ("fork_exec", []) => Box::new(local::ForkExec::new()?),
        ("file", []) => Box::new(local::File),
        ("sockets", []) => Box::new(sockets::Pairs),
        ("udp_round_trip", [address]) => Box::new(sockets::RoundTrip::new(address)?),
        ("udp_one_way", [address]) => Box::new(sockets::OneWay::new(address)?),
        ("udp_send", [address, priority]) => Box::new(sockets::Send::new(address, priority)?),
        ("command", [before, less, program, arguments @ ..]) => {
            let less = less
                .parse()
                .map_err(|_| io::Error::other(format!("`{less}` is no number")))?;
            Box::new(command::Repeated::new(before, less, program, arguments))
        }
        _ => return Err(io::Error::other(USAGE)),
    })
}
