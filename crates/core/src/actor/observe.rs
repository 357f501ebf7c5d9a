//! What an actor tells of itself.

use std::fmt::{self, Debug};
use std::marker::PhantomData;

use actix::Message;
use serde::Serialize;

/// An actor whose state can be seen. Status pages and tests read this and nothing else.
///
/// # Examples
///
/// ```
/// use actix::{Actor, Context};
/// use changeling_core::actor::{GetState, Observe, answer_get_state};
///
/// struct Counter(u64);
///
/// #[derive(Clone, Debug, PartialEq, serde::Serialize)]
/// struct Count(u64);
///
/// impl Actor for Counter {
///     type Context = Context<Self>;
/// }
///
/// impl Observe for Counter {
///     type State = Count;
///
///     fn observe(&self) -> Count {
///         Count(self.0)
///     }
/// }
///
/// answer_get_state!(Counter);
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// # let host = changeling_core::actor::ActorHost::start(Default::default())?;
/// let counter = host.spawn(|_| Counter(7));
/// assert_eq!(counter.send(GetState::new()).await, Ok(Count(7)));
/// # Ok::<(), std::io::Error>(()) })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Observe {
    /// What is seen: a copy, complete in itself.
    type State: Clone + Debug + Serialize + Send + 'static;

    /// The state now. Quick, and without awaiting anything.
    fn observe(&self) -> Self::State;
}

/// Asks an actor for its [`Observe::State`].
pub struct GetState<S>(PhantomData<fn() -> S>);

impl<S> GetState<S> {
    /// The question.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S> Default for GetState<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Debug for GetState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GetState")
    }
}

impl<S: 'static> Message for GetState<S> {
    type Result = S;
}

/// Implements the handler of [`GetState`] for an actor that implements [`Observe`].
///
/// A blanket implementation is refused by the orphan rule; the calling crate depends on `actix`.
#[macro_export]
#[doc(hidden)]
macro_rules! __answer_get_state {
    ($actor:ty) => {
        impl ::actix::Handler<$crate::actor::GetState<<$actor as $crate::actor::Observe>::State>> for $actor {
            type Result =
                ::actix::MessageResult<$crate::actor::GetState<<$actor as $crate::actor::Observe>::State>>;

            fn handle(
                &mut self,
                _: $crate::actor::GetState<<$actor as $crate::actor::Observe>::State>,
                _: &mut Self::Context,
            ) -> Self::Result {
                ::actix::MessageResult($crate::actor::Observe::observe(self))
            }
        }
    };
}

#[doc(inline)]
pub use __answer_get_state as answer_get_state;
