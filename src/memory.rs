//! Memory in use: the bytes that have been allocated and not freed.

/// Counted as they come and go: asking costs nothing.
pub fn in_use() -> u64 {
    crate::HEAP.allocated() as u64
}
