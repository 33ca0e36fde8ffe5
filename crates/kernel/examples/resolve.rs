//! Resolves one compartment and prints the lock: `resolve CACHE KERNEL COMPARTMENT [OVERLAY]`, from the root.

use std::{env, process::ExitCode};

use otf_kernel::{Request, resolve};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing {what}"));
    let mut request = || -> Result<Request, String> {
        Ok(Request {
            root: ".".into(),
            cache: next("CACHE")?.into(),
            kernel: next("KERNEL")?,
            compartment: next("COMPARTMENT")?,
            overlay: next("OVERLAY").ok(),
        })
    };
    let request = match request() {
        Ok(request) => request,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(2);
        }
    };
    match resolve(&request).and_then(|lock| otf_artifact::yaml::write(&lock).map_err(|e| vec![e])) {
        Ok(text) => {
            #[expect(clippy::print_stdout, reason = "an example is a command")]
            {
                print!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in errors {
                tracing::error!("{error}");
            }
            ExitCode::from(2)
        }
    }
}
