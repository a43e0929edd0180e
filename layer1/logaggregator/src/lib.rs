//! Collects the log lines of all hosts and answers who asks for them.
