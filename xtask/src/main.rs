//! The project's own tools: `cargo run -p xtask -- COMMAND`.

mod bench;
mod harness;
mod kill;
mod pause;
mod real_targets;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo run -p xtask -- COMMAND

  tidy                     check the boundaries between crates, the sources' habits, the licences, the documents
  real-targets [FILTER]    drive the built smpath against tgtd, libiscsi, QEMU, libnbd and fio (--list names the cases)
  kill [OPTIONS]           kill and restart smpath run under a verifying client (--rounds N, --seed S, --target tgt|array)
  pause [OPTIONS]          how long I/O rests when a path is lost (--rounds N, --target tgt|array)
  bench slow-path [OPTIONS] policies on equal paths, with one path slower, and with one that carries no reads
                           (--seconds S, --rounds N, --case equal|slow|stall|fail)
  bench peers [OPTIONS]    our disk beside qemu-nbd on the same target (--seconds S, --rounds N, --backend tgt|array, --load NAME,
                           --cpus shared|apart, --tgt-threads N)
  bench scale [OPTIONS]    a thousand logical units over eight paths each: discovery, memory, a change of access states, the
                           death of a controller (--units N)
  vm build|run|lio         a guest with a kernel of its own; LIO in it: stuck writes, access states";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    match arguments.first().map(String::as_str) {
        Some("tidy") => tidy::command(),
        Some("bench") if arguments.get(1).is_some_and(|what| what == "slow-path") => {
            bench::slow_path::command(&arguments[2..])
        }
        Some("bench") if arguments.get(1).is_some_and(|what| what == "peers") => {
            bench::command(&arguments[2..])
        }
        Some("bench") if arguments.get(1).is_some_and(|what| what == "scale") => {
            bench::scale::command(&arguments[2..])
        }
        Some("kill") => kill::command(&arguments[1..]),
        Some("pause") => pause::command(&arguments[1..]),
        Some("vm") => vm::command(&arguments[1..]),
        Some("real-targets") => real_targets::command(&arguments[1..]),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
