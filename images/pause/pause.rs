//! `pause` holds a pod's namespaces open and reaps what its containers orphan.
//! It is linked statically and uses nothing but system calls, because one runs
//! for every pod of a node.
#![no_main]

use std::ffi::{c_char, c_int, c_void};

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const WNOHANG: c_int = 1;

unsafe extern "C" {
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> *mut c_void;
    fn pause() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

extern "C" fn stop(_signal: c_int) {
    // SAFETY: _exit is async-signal-safe and takes no pointers.
    unsafe { _exit(0) }
}

extern "C" fn reap(_signal: c_int) {
    // SAFETY: waitpid is async-signal-safe; a null status is allowed.
    while unsafe { waitpid(-1, std::ptr::null_mut(), WNOHANG) } > 0 {}
}

#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // SAFETY: the handlers are async-signal-safe functions with C's calling
    // convention, and live as long as the program.
    unsafe {
        signal(SIGINT, stop);
        signal(SIGTERM, stop);
        signal(SIGCHLD, reap);
        loop {
            pause();
        }
    }
}
