//! What `flynn` prints and asks for, against a controller that answers from a script: the golden
//! outputs of the specification.

mod answers;
mod clusters;
mod controller;
mod golden;
mod invocation;
