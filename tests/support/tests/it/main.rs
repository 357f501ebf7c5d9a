//! The harness itself: every way to a server, the life of a server, its end when the test process is killed.

mod life;
mod proxy;
mod reaper;
mod replicas;
mod sources;
