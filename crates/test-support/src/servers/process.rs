use std::net::TcpListener;
use std::process::{Child, Command};

/// A server's process, if it runs. Killed when dropped.
#[derive(Default)]
pub(super) struct Process(Option<Child>);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}; run scripts/test"));
        Self(Some(child))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().expect("a running server").id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal, such as `STOP`, to a process.
///
/// # Panics
/// If it cannot be sent.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A port of 127.0.0.1 that nothing listens on at the moment.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
