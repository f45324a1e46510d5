//! What the engine allocates besides what its nodes do: nothing per node.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;

use weir::graph::{self, Context, END, Graph, Node, NodeFuture, Options, Route};

graph::state! {
    /// As little as there can be.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Count {
        /// A sum.
        pub(crate) total: u64 => add,
    }
    /// A summand.
    pub(crate) update Step;
    error Infallible;
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator can't be had without; it hands everything through")]
// SAFETY: all memory is the system allocator's, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Counts one, at once or after a while, and allocates nothing at once.
struct One {
    waits: bool,
}

impl Node<Count> for One {
    fn run<'a>(&'a self, _: &'a Count, _: Context<'a>) -> NodeFuture<'a, Count> {
        let one = Ok(Step::default().total(1));
        match self.waits {
            false => NodeFuture::ready(one),
            true => NodeFuture::new(async {
                tokio::task::yield_now().await;
                one
            }),
        }
    }
}

fn name(at: usize) -> String {
    format!("node{at:04}")
}

/// Runs the graph and returns how often that allocated.
fn allocations(graph: &Graph<Count>, total: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = Options::new().recursion_limit(10_000);
    runtime.block_on(async {
        let before = ALLOCATIONS.get();
        let count = graph.run(Count::default(), &options).await.unwrap();
        let allocated = ALLOCATIONS.get() - before;
        assert_eq!(count.total, total);
        allocated
    })
}

fn chain(nodes: usize) -> u64 {
    let add = |graph: graph::Builder<Count>, at| graph.node(name(at), One { waits: false });
    let graph = (0..nodes).fold(Graph::builder(), add);
    let graph = (1..nodes).fold(graph, |graph, at| graph.edge(name(at - 1), name(at)));
    allocations(&graph.entry(name(0)).build().unwrap(), nodes.try_into().unwrap())
}

fn fan_out(nodes: usize, waits: bool) -> u64 {
    let add =
        |graph: graph::Builder<Count>, at| graph.node(name(at), One { waits }).entry(name(at));
    let graph = (0..nodes).fold(Graph::builder(), add).build().unwrap();
    allocations(&graph, nodes.try_into().unwrap())
}

/// `a`, then `b` and `c` at once, then both joined in `a` again, until there were `total` nodes.
fn rounds(total: u64) -> u64 {
    let again = move |count: &Count| if count.total < total { Some("b") } else { None };
    let too = move |count: &Count| if count.total < total { Some("c") } else { None };
    let graph = Graph::builder()
        .node("a", One { waits: false })
        .node("b", One { waits: false })
        .node("c", One { waits: false })
        .entry("a")
        .conditional("a", "again", move |count| Route::from(again(count)), ["b", END])
        .conditional("a", "too", move |count| Route::from(too(count)), ["c", END])
        .join(["b", "c"], "a");
    allocations(&graph.build().unwrap(), total)
}

#[test]
fn a_chain_allocates_as_often_as_a_shorter_one() {
    // Both are long enough for other tasks to get their turn, for which the runtime makes a list.
    assert_eq!(chain(1000), chain(300));
}

#[test]
fn siblings_allocate_nothing_each() {
    let (some, many) = (fan_out(100, false), fan_out(1000, false));

    // A few lists grow, each time by half or more.
    assert!(many <= some + 20, "{some} for 100, {many} for 1000");
}

#[test]
fn siblings_that_wait_share_a_worker_for_each_that_runs_at_once() {
    let (some, many) = (fan_out(100, true), fan_out(1000, true));

    // Each node's own future is boxed once.
    assert!(many - 1000 <= some - 100 + 20, "{some} for 100, {many} for 1000");
}

#[test]
fn a_loop_allocates_as_often_as_a_shorter_one() {
    assert_eq!(rounds(3001), rounds(901));
}
