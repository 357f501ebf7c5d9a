//! The thin layer over actix: how actors are run, reached, watched and restarted.
//!
//! *Control plane is an actor, data plane is a pump.* An actor's handlers are short and never await the
//! network. What reads a server, copies rows or holds a lock is a [`Pump`], a task that the actor owns and
//! whose end comes back as one [`ActorExited`]. So a pause, a question or an abort is answered while the
//! pump is stuck on a server.
//!
//! | noun | what it is |
//! | --- | --- |
//! | [`ActorHost`] | the thread on which actors live, and the runtime on which pumps run |
//! | [`Port`] | how an actor reaches the next; backpressure is an await, the window is [`Credits`] |
//! | [`LatestSlot`] | a mailbox that keeps only the newest message |
//! | [`Pump`] | a task owned by an actor |
//! | [`Supervised`] | an actor that is made anew when it fails |
//! | [`ExitStatus`] | how any of them ended |
//! | [`Observe`] | what an actor tells of itself; status pages and tests read nothing else |
//!
//! Why not actix as it comes: its mailboxes bound nothing (`do_send` ignores the capacity and each clone of
//! an address brings a free place), its supervisor does not restart after a panic, and a message whose
//! reply nobody awaits any more is thrown away unhandled. These traps are dealt with here, once.

mod credit;
mod exit;
mod host;
mod latest;
mod observe;
mod port;
mod pump;
mod stage;
mod supervise;

pub use credit::{Credits, Permit, Weigh};
pub use exit::{ActorExited, ExitStatus, OnExit};
pub use host::{ActorHost, HostOptions, Pumps};
pub use latest::{Generation, LatestSender, LatestSlot, Published, Wake};
pub use observe::{GetState, Observe, answer_get_state};
pub use port::{Delivery, InFlight, Port, PortClosed, Reply};
pub use pump::Pump;
pub use supervise::{Attempt, ExitNote, RestartPolicy, Supervised};
