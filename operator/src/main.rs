//! Entry of the operator's binary: parse, then run or print the CRDs.
fn main() {}
