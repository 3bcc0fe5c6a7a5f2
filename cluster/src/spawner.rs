//! The thread that starts all servers.
//!
//! The kernel signals a child whose parent died only for the *thread* that made it: servers started by a test's thread
//! would stop with that thread although others use them. One thread that never ends makes it mean the process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use rustix::process::Signal;

struct Request {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// Starts `command` so that it gets SIGQUIT when this process ends, and no signal of the terminal.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    stop_with_parent(&mut command);
    let (reply, answer) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts servers is gone");
    SPAWNER.get_or_init(start_thread).send(Request { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start_thread() -> Sender<Request> {
    let (sender, receiver) = channel();
    thread::Builder::new().name("pg-spawner".into()).spawn(|| serve(receiver)).expect("no thread to start servers");
    sender
}

fn serve(requests: Receiver<Request>) {
    for mut request in requests {
        // A caller that went away leaves a child behind; its value is dropped and the process stops with us.
        let _ = request.reply.send(request.command.spawn());
    }
}

fn stop_with_parent(command: &mut Command) {
    command.process_group(0);
    let parent = rustix::process::getpid();
    let ask_kernel = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::QUIT))?;
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotConnected.into()),
        }
    };
    // SAFETY: the closure runs between fork and exec and makes two system calls, without allocation or locks.
    unsafe { command.pre_exec(ask_kernel) };
}
