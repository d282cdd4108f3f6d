//! A thread with a runtime of its own, so that a busy test holds up neither the plant nor the links.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// Runs until it is dropped; a panic in it then becomes one of the test.
pub(super) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs what `work` makes, with its tasks.
    pub(super) fn start<F: Future<Output = ()>>(
        name: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Worker {
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = work() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(run).unwrap();
        Worker { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.take();
        let has_panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
        assert!(!has_panicked || std::thread::panicking(), "a worker of the test has panicked");
    }
}
