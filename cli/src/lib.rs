//! Commands and rendering of flynn.
