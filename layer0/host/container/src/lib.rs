//! Launcher and supervisor of one job: namespaces, cgroups, seccomp, overlay, pty.
