//! The command line of the load test. Everything else is in the library.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    loadtest::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("loadtest: it reads /proc, pins processes to cores and waits with epoll, so it runs on Linux only");
    std::process::ExitCode::from(2)
}
