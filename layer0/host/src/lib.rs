//! The host daemon: jobs, images, volumes and logs of one host over HTTP.
